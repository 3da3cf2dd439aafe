#!/usr/bin/env python3
"""What size costs: 1,000 routes, 10,000 endpoints and 100,000 consumers against ten of each, and two threads against one.

    tests/bench/run --scale                  instructions of a request in both sizes, and how long the large one takes to load
    tests/bench/run --scale --threads        CPU time of a request with one thread and with two; wants a quiet machine

Instructions are those of the whole process in user space (callgrind) over requests that are spread evenly over all routes,
endpoints and consumers, each of which was asked before; so noise does not matter. Each request has a token of another
consumer, who has a rate of its own."""

import argparse
import base64
import glob
import hashlib
import hmac
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time

from machine import Process, describe
from peers import TARGET, WORK

PORT = int(os.environ.get("BENCH_BASE_PORT", "17000")) + 40
ADMIN, ORIGIN = PORT + 1, PORT + 2
SECRET = b"a secret of the benchmark, 32 bytes at least"
BINARY = TARGET / "release/portcullis"
SIZES = {"small": dict(routes=10, endpoints=10, consumers=10), "large": dict(routes=1000, endpoints=10_000, consumers=100_000)}
MEASURED = 20_000
LIMIT = 1.05


def token(subject, header=base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")):
    claims = {"iss": "bench", "aud": "bench", "sub": subject, "scope": "read", "exp": 4_000_000_000}
    text = header + b"." + base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")
    return text + b"." + base64.urlsafe_b64encode(hmac.new(SECRET, text, hashlib.sha256).digest()).rstrip(b"=")


def configuration(size, threads=1):
    """As many upstreams as routes, which share the endpoints evenly; all of them are one origin, at addresses of 127/8."""
    each = size["endpoints"] // size["routes"]
    text = [
        f"""
[server]
threads = {threads}
[log]
access = false
[admin]
listen = "127.0.0.1:{ADMIN}"
[firewall]
mode = "off"
[identity.company]
issuer = "bench"
audiences = ["bench"]
algorithms = ["HS256"]
keys = [{{ algorithm = "HS256", secret = "${{BENCH_SECRET}}" }}]
[[listener]]
name = "public"
address = "127.0.0.1:{PORT}"
limits = {{ max_requests_per_connection = 4000000000 }}
"""
    ]
    for route in range(size["routes"]):
        first = route * each
        endpoints = ", ".join(
            f'{{ address = "127.{1 + at // 62500}.{at // 250 % 250}.{1 + at % 250}:{ORIGIN}" }}' for at in range(first, first + each)
        )
        text.append(
            f"""
[upstream.u{route}]
endpoints = [{endpoints}]
idle_connection_timeout = "1h"
[[route]]
name = "r{route}"
match = {{ path = "/api/v{route % 7}/service-{route}/{{id}}", methods = ["GET"] }}
upstream = "u{route}"
auth = {{ providers = ["company"], scopes = ["read"] }}
rate_limit = [{{ rate = "100000/s", key = "consumer" }}]
response = {{ leaks = {{ mode = "off" }} }}
"""
        )
    return "".join(text)


def origin():
    folder = WORK / "scale"
    folder.mkdir(parents=True, exist_ok=True)
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"""{user} daemon off; pid {folder}/pid; error_log stderr crit; worker_processes 1; worker_rlimit_nofile 20000;
        events {{ worker_connections 19000; }}
        http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;
          server {{ listen 0.0.0.0:{ORIGIN} backlog=4096; location / {{ return 200 "fine\\n"; }} }} }}"""
    )
    return Process("origin", ["nginx", "-c", str(folder / "nginx.conf")], folder / "origin", os.cpu_count() - 1)


def gateway(name, size, threads=1, wrap=()):
    folder = WORK / "scale" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gateway.toml").write_text(configuration(size, threads))
    for old in glob.glob(f"{folder}/callgrind.*"):
        os.remove(old)
    command = [*wrap, str(BINARY), "run", "-c", str(folder / "gateway.toml")]
    began = time.monotonic()
    cpu = 0 if threads == 1 else None
    process = Process(name, command, folder, 0 if cpu is None else cpu, {"BENCH_SECRET": SECRET.decode()})
    if cpu is None:
        os.sched_setaffinity(process.child.pid, range(os.cpu_count()))
    while True:
        try:
            ask_admin("/readyz")
            return process
        except OSError:
            if process.child.poll() is not None:
                sys.exit(f"{name} ended: {(folder / 'output.log').read_text()[-2000:]}")
            time.sleep(0.02)


def ask_admin(path):
    with socket.create_connection(("127.0.0.1", ADMIN), timeout=120) as admin:
        admin.sendall(f"GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: admin.recv(65536), b"")).decode()


def end(process):
    process.child.terminate()
    process.child.wait()


class Requests:
    """Requests of one size: each next one goes to another route, and comes from another consumer."""

    def __init__(self, size):
        self.routes = [f"GET /api/v{at % 7}/service-{at}/{1000 + at % 7} HTTP/1.1\r\nhost: a\r\n".encode() for at in range(size["routes"])]
        self.tokens = [token(f"consumer-{at:06}") for at in range(size["consumers"])]
        self.next = 0

    def take(self):
        at = self.next
        self.next += 1
        # A step that is prime to both counts visits all of them, far from each other.
        route, consumer = self.routes[at * 7 % len(self.routes)], self.tokens[at * 7919 % len(self.tokens)]
        return route + b"authorization: Bearer " + consumer + b"\r\n\r\n"


def send(requests, count, connections=4):
    """Sends so many, and checks every status."""
    lock, wrong = threading.Lock(), []

    def client(mine):
        with socket.create_connection(("127.0.0.1", PORT), timeout=120) as server:
            for _ in range(mine):
                with lock:
                    request = requests.take()
                server.sendall(request)
                answer = b""
                while not answer.endswith(b"fine\n"):
                    piece = server.recv(65536)
                    answer += piece
                    if not piece or not answer.startswith(b"HTTP/1.1 200"):
                        wrong.append(answer[:300])
                        return

    clients = [threading.Thread(target=client, args=(count // connections,)) for _ in range(connections)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    if wrong:
        sys.exit(f"not as expected: {wrong[0]}")


def instructions(name, size):
    """Of a request, when every route, endpoint and consumer has been asked before."""
    folder = WORK / "scale" / name
    tool = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/callgrind.out"]
    process = gateway(name, size, wrap=tool)
    pid = str(process.child.pid)

    def control(*what):
        subprocess.run(["callgrind_control", *what, pid], check=True, capture_output=True, timeout=300)

    requests = Requests(size)
    send(requests, max(size["consumers"], 2 * size["endpoints"], MEASURED))
    control("-i", "on")
    send(requests, 1000)
    control("-z")
    send(requests, MEASURED)
    control("-d")
    end(process)
    newest = max(glob.glob(f"{folder}/callgrind.out*"), key=lambda file: (int("0" + file.rpartition(".")[2]) if file[-1].isdigit() else 0))
    # What looks over idle connections goes by the clock, and the clock runs a hundred times as fast for a process under valgrind.
    costs = subprocess.run(
        ["callgrind_annotate", "--inclusive=yes", "--threshold=100", newest], check=True, capture_output=True, text=True
    ).stdout
    total, swept = (
        int(found[1].replace(",", "")) if (found := re.search(rf"^ *([\d,]+) .*{what}", costs, re.M)) else 0
        for what in ("PROGRAM TOTALS", r"pool::keep_swept::\{\{closure")
    )
    return (total - swept) / MEASURED, swept


def load_times(size):
    """CPU seconds that it takes to serve a configuration, to check it and to reload it, and what it takes in memory."""
    process = gateway("times", size)
    served = process.cpu()
    config = WORK / "scale/times/gateway.toml"
    before = os.times()
    subprocess.run([BINARY, "check", "-c", config], check=True, capture_output=True, env={**os.environ, "BENCH_SECRET": SECRET.decode()})
    after = os.times()
    checked = after.children_user + after.children_system - before.children_user - before.children_system

    def reloads():
        return int(re.search(r'portcullis_reloads_total\{result="success"\} (\d+)', ask_admin("/metrics"))[1])

    count, before = reloads(), process.cpu()
    process.child.send_signal(1)
    while reloads() == count:
        time.sleep(0.05)
    reloaded = process.cpu() - before
    rss = process.peak_rss()
    end(process)
    return dict(served=served, checked=checked, reloaded=reloaded, rss=rss)


def threads(rounds, seconds):
    """The least CPU time of a request with each number of threads, in turns. The client and the origin use all cores, too."""
    size, least = SIZES["small"], {}
    script = WORK / "scale/wrk.lua"
    requests = Requests(size)
    lines = "".join('"' + "".join(f"\\{byte:03}" for byte in requests.take()) + '",\n' for _ in range(10))
    script.write_text(f"local r = {{\n{lines}}}\nlocal at = 0\nfunction request() at = at % #r + 1 return r[at] end\n")
    for turn in range(rounds):
        for count in (1, 2):
            process = gateway(f"threads-{count}", size, count)
            command = ["wrk", "-t1", "-c64", "-s", script, f"http://127.0.0.1:{PORT}/"]
            subprocess.run([*command, "-d1s"], check=True, capture_output=True)
            before = process.cpu()
            done = subprocess.run([*command, f"-d{seconds}s"], check=True, capture_output=True, text=True).stdout
            spent = process.cpu() - before
            answered = int(re.search(r"(\d+) requests in", done)[1])
            if "Non-2xx" in done or "Socket errors" in done:
                sys.exit(done)
            end(process)
            cost = spent * 1e6 / answered
            least[count] = min(cost, least.get(count, cost))
            print(f"round {turn}, {count} thread(s): {cost:.2f} us of CPU a request, {answered / seconds:.0f}/s", flush=True)
    return least


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/run --scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", action="store_true", help="one thread against two")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=6)
    arguments = parser.parse_args()
    source = origin()
    try:
        print("\n".join(describe()), flush=True)
        if arguments.threads:
            least = threads(arguments.rounds, arguments.seconds)
            factor = 2 * least[1] / least[2]
            print(f"one thread {least[1]:.2f} us, two {least[2]:.2f} us: two threads give {factor:.2f} times the requests of one")
            sys.exit(0 if factor >= 1.9 else 1)
        times = load_times(SIZES["large"])
        print(
            f"1,000 routes, 10,000 endpoints: checked in {times['checked']:.2f} s of CPU, served after {times['served']:.2f} s, "
            f"reloaded in {times['reloaded']:.2f} s; at most {times['rss'] / 1024:.0f} MiB resident",
            flush=True,
        )
        found = {name: instructions(name, size) for name, size in SIZES.items()}
        ratio = found["large"][0] / found["small"][0]
        for name, (count, swept) in found.items():
            print(f"{name}: {count:.0f} instructions a request ({SIZES[name]}); by the clock: {swept / 1e6:.1f} million")
        print(f"ratio {ratio:.3f}, at most {LIMIT}")
        sys.exit(0 if ratio <= LIMIT else 1)
    finally:
        end(source)


if __name__ == "__main__":
    main()
