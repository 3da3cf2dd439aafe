"""The proxies under measurement, their origin, and what is written for them."""

import base64
import hashlib
import hmac
import http.client
import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from pathlib import Path

from machine import Process

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()
WORK = TARGET / "bench"
PORT = int(os.environ.get("BENCH_BASE_PORT", "17000"))
ORIGIN, ORIGIN_H2, STREAMS = PORT + 1, PORT + 2, PORT + 3
CRS = (ROOT.parent / "shared/data/crs").resolve()
SECRET = b"a secret of the benchmark, 32 bytes at least"

# What the settings of ours switch on. `guards` is all that is not the firewall.
SETTINGS = {
    "ours-bare": dict(firewall="off", guards=False, rules=[ROOT / "rules/*.conf"]),
    "ours-guards": dict(firewall="off", guards=True, rules=[ROOT / "rules/*.conf"]),
    "ours-own-rules": dict(firewall="block", guards=True, rules=[ROOT / "rules/*.conf"]),
    "ours-crs": dict(firewall="block", guards=True, rules=[CRS / "crs-setup.conf.example", CRS / "rules/*.conf"]),
}
GUARDS = """
[addresses]
deny = ["203.0.113.0/24"]
[[rate_limit]]
rate = "1000000000/s"
[identity.company]
issuer = "bench"
audiences = ["bench"]
algorithms = ["HS256"]
keys = [{ algorithm = "HS256", secret = "${BENCH_SECRET}" }]
"""
GUARDED = """
auth = { providers = ["company"], scopes = ["read"] }
rate_limit = [{ rate = "1000000000/s", key = "consumer" }]
response = { leaks = { mode = "mask" } }
"""
# A proxy that streams and judges nothing.
BARE = """
body = { mode = "stream" }
response = { leaks = { mode = "off" } }
"""


def token():
    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    claims = {"iss": "bench", "aud": "bench", "sub": "load", "scope": "read write", "exp": int(time.time()) + 86_400}
    text = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(claims).encode())
    return (text + b"." + part(hmac.new(SECRET, text, hashlib.sha256).digest())).decode()


def fill(template, target, **values):
    text = (HERE / "peers" / template).read_text()
    known = {
        "WORK": WORK,
        "ORIGIN": ORIGIN,
        "ORIGIN_H2": ORIGIN_H2,
        "STREAMS": STREAMS,
        "USER": "user root;" if os.geteuid() == 0 else "",
    }
    for key, value in {**known, **values}.items():
        text = text.replace(f"@{key}@", str(value))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    return str(target)


def prepare():
    """Files that all of them use."""
    (WORK / "www").mkdir(parents=True, exist_ok=True)
    record = {"id": 48121, "name": "blue cotton shirt", "price": {"amount": 19.9, "currency": "EUR"}, "stock": 12}
    for name, size in (("1k", 1024), ("64k", 65_536)):
        count = 1
        while len(json.dumps({"items": [record] * (count + 1), "next": ""})) <= size:
            count += 1
        document = json.dumps({"items": [record] * count, "next": ""})
        (WORK / f"www/{name}.json").write_text(document[:-2] + "x" * (size - len(document)) + '"}')
    if not (WORK / "cert.pem").exists():
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
            + ["-subj", "/CN=api.example.test", "-addext", "subjectAltName=DNS:api.example.test"]
            + ["-keyout", WORK / "key.pem", "-out", WORK / "cert.pem"],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        (WORK / "both.pem").write_text((WORK / "cert.pem").read_text() + (WORK / "key.pem").read_text())


def pingora():
    """The pingora proxy, built outside of our workspace; none where it cannot be built."""
    crate = WORK / "pingora"
    binary = crate / "target/release/pingora-peer"
    if not binary.exists():
        (crate / "src").mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / "pingora/Cargo.toml", crate)
        shutil.copy(HERE / "pingora/main.rs", crate / "src")
        print("building the pingora proxy (minutes) ...", flush=True)
        env = {**os.environ, "OPENSSL_NO_VENDOR": "1", "CARGO_TARGET_DIR": str(crate / "target")}
        subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=crate, env=env, check=False)
    if not binary.exists():
        print("pingora could not be built and is left out", flush=True)
        return None
    return binary


class Peer:
    def __init__(self, name, command, port, env=None, streams=True, h2_upstream=False):
        self.name, self.command, self.env = name, command, env
        self.port, self.tls_port = port, port + 1
        self.streams, self.h2_upstream = streams, h2_upstream
        self.process = None

    def can(self, workload):
        if workload.get("h2_upstream"):
            return self.h2_upstream
        return self.streams or not workload.get("streams")


def ours(name, port):
    setting = SETTINGS[name]
    config = fill(
        "ours.toml",
        WORK / name / "gateway.toml",
        PORT=port,
        TLS=port + 1,
        ADMIN=port + 2,
        ACCESS_LOG=str(setting["guards"]).lower(),
        FIREWALL=setting["firewall"],
        RULES=", ".join(f'"{path}"' for path in setting["rules"]),
        GUARDS=GUARDS if setting["guards"] else "",
        ROUTE=GUARDED if setting["guards"] else BARE,
    )
    binary = os.environ.get("BENCH_GATEWAY") or str(TARGET / "release/portcullis")
    env = {"BENCH_SECRET": SECRET.decode()}
    return Peer(name, [binary, "run", "-c", config], port, env=env, h2_upstream=True)


# All that there may be; pingora and the core rule set are not everywhere.
PEERS = ["nginx", "haproxy", "pingora", *SETTINGS]


def peers(wanted=None):
    """All proxies that can run here, by name."""
    prepare()
    found, port = {}, PORT + 100

    def add(peer):
        found[peer.name] = peer

    folder = WORK / "nginx"
    config = fill("nginx.conf", folder / "nginx.conf", DIR=folder, PORT=port, TLS=port + 1)
    add(Peer("nginx", ["nginx", "-p", str(folder), "-c", config, "-e", str(folder / "error.log")], port))
    port += 10
    config = fill("haproxy.cfg", WORK / "haproxy/haproxy.cfg", PORT=port, TLS=port + 1)
    add(Peer("haproxy", ["haproxy", "-db", "-f", config], port, h2_upstream=True))
    port += 10
    if (wanted is None or "pingora" in wanted) and (binary := pingora()):
        addresses = [f"127.0.0.1:{p}" for p in (port, port + 1, ORIGIN)]
        add(Peer("pingora", [str(binary), *addresses, str(WORK / "cert.pem"), str(WORK / "key.pem")], port, streams=False))
    for name in SETTINGS:
        port += 10
        if name != "ours-crs" or CRS.exists():
            add(ours(name, port))
    unknown = set(wanted or []) - set(found)
    if unknown:
        sys.exit(f"not to be had here: {', '.join(sorted(unknown))}; there are {', '.join(found)}")
    return {name: peer for name, peer in found.items() if wanted is None or name in wanted}


class Servers:
    """The origin and the proxies, up for the length of a `with` block."""

    def __init__(self, chosen, wrap=()):
        self.chosen, self.wrap, self.up = chosen, list(wrap), []

    def __enter__(self):
        folder = WORK / "origin"
        config = fill("origin.conf", folder / "nginx.conf", DIR=folder)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self.start("origin", ["nginx", "-p", str(folder), "-c", config, "-e", str(folder / "error.log")], ORIGIN, 1)
            self.up.append(Process("streams", [sys.executable, str(HERE / "streams.py"), str(STREAMS)], WORK / "streams", 1))
            for peer in self.chosen.values():
                peer.process = self.start(peer.name, self.wrap + peer.command, peer.port, 0, peer.env)
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self, name, command, port, cpu, env=None):
        process = Process(name, command, WORK / name, cpu, env)
        self.up.append(process)
        for _ in range(1200):
            try:
                get(port, "/")
                return process
            except OSError:
                time.sleep(0.05)
            if process.child.poll() is not None:
                break
        sys.exit(f"{name} does not answer at 127.0.0.1:{port}; see {process.folder}/output.log")

    def __exit__(self, *_):
        for process in reversed(self.up):
            process.stop()


def get(port, path, tls=False, method="GET", headers=None, body=None):
    """Status and length of the body of one request."""
    if tls:
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body=body, headers={"Host": "api.example.test", **(headers or {})})
        answer = connection.getresponse()
        return answer.status, len(answer.read())
    finally:
        connection.close()
