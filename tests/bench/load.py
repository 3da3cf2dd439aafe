"""The workloads, and the clients that make them."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time

from machine import pinned
from peers import WORK, token

HEADERS = {
    "Host": "api.example.test",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "application/json, text/plain, */*",
    "Accept-Language": "en-GB,en;q=0.7,de;q=0.3",
    "Cookie": "session=8f14e45fceea167a5a36dedd4bea2543; theme=dark",
}
ORDER = json.dumps(
    {"customer": 48121, "items": [{"id": n, "name": "blue cotton shirt", "count": 2, "note": "gift wrap"} for n in range(26)]}
)
FORM = "&".join(f"field{n}=some+value+of+{n}" for n in range(20))
JSON, URLENCODED = {"Content-Type": "application/json"}, {"Content-Type": "application/x-www-form-urlencoded"}

# Path, and what differs from a GET over kept-alive HTTP/1.1 in clear.
WORKLOADS = {
    "get-1k": dict(path="/items?page=2&sort=price"),
    "get-64k": dict(path="/64k"),
    "post-json-2k": dict(path="/orders", body=ORDER, headers=JSON),
    "post-form-20": dict(path="/orders", body=FORM, headers=URLENCODED),
    "newconn-get-1k": dict(path="/items?page=2&sort=price", headers={"Connection": "close"}),
    "tls-get-1k": dict(path="/items?page=2&sort=price", tls=True),
    # ab makes a full handshake each time; wrk resumes sessions.
    "tls-full-handshake": dict(path="/items?page=2&sort=price", tls=True, client="ab"),
    "tls-resumed": dict(path="/items?page=2&sort=price", tls=True, headers={"Connection": "close"}),
    "h2-get-1k": dict(path="/items?page=2&sort=price", tls=True, client="h2load"),
    "h2-upstream": dict(path="/h2", h2_upstream=True),
    "websocket": dict(path="/socket", client="websocket", streams=True),
    "sse": dict(path="/events", client="sse", streams=True),
}


def headers_of(workload, with_token=True):
    extra = {"Authorization": f"Bearer {token()}"} if with_token else {}
    return {**HEADERS, **extra, **workload.get("headers", {})}


def run(command, seconds):
    ran = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, preexec_fn=pinned(1))
    if ran.returncode or not ran.stdout:
        sys.exit(f"{command[0]}: {ran.stderr or ran.stdout}")
    return ran.stdout


def micros(text):
    number = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text)
    return float(number[1]) * {"us": 1, "ms": 1e3, "s": 1e6, "m": 6e7}[number[2]]


def quantiles(times):
    """p50, p99 and p99.9 of microseconds."""
    times = sorted(times)
    return [times[min(len(times) - 1, int(len(times) * q))] for q in (0.5, 0.99, 0.999)]


def wrk(workload, name, peer, seconds, connections):
    """HTTP/1.1 in a closed loop."""
    quote = lambda text: f" [==[{text}]==] "  # noqa: E731: the spaces keep [ [==[ apart
    script = WORK / f"{name}.lua"
    script.write_text(
        "".join(f"wrk.headers[{quote(k)}] = {quote(v)}\n" for k, v in headers_of(workload).items())
        + (f'wrk.method = "POST"\nwrk.body = {quote(workload["body"])}\n' if "body" in workload else "")
        + "done = function(summary, latency, requests)\n"
        + 'io.write(string.format("quantiles %d %d %d\\n", latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))\nend\n'
    )
    url = f"https://127.0.0.1:{peer.tls_port}" if workload.get("tls") else f"http://127.0.0.1:{peer.port}"
    out = run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script), url + workload["path"]],
        seconds,
    )
    done = re.search(r"(\d+) requests in ([\d.]+)(m|s)", out)
    elapsed = float(done[2]) * (60 if done[3] == "m" else 1)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    errors = (int(refused[1]) if refused else 0) + (sum(map(int, broken.groups())) if broken else 0)
    quantile = [float(n) for n in re.search(r"quantiles (\d+) (\d+) (\d+)", out).groups()]
    return dict(requests=int(done[1]), seconds=elapsed, quantiles=quantile, errors=errors)


def ab(workload, name, peer, seconds, connections):
    """A new TLS connection with a full handshake for each request."""
    extra = [x for k, v in headers_of(workload).items() for x in ("-H", f"{k}: {v}")]
    times = WORK / f"{name}.tsv"
    out = run(
        ["ab", "-q", f"-t{seconds}", "-n10000000", f"-c{connections}", "-g", str(times), *extra]
        + [f"https://127.0.0.1:{peer.tls_port}{workload['path']}"],
        seconds,
    )
    number = lambda label: float(m[1]) if (m := re.search(label + r":?\s+([\d.]+)", out)) else 0  # noqa: E731
    took = [int(line.split("\t")[4]) * 1e3 for line in times.read_text().splitlines()[1:]]
    errors = int(number("Non-2xx responses") + number("Failed requests"))
    return dict(requests=int(number("Complete requests")), seconds=seconds, quantiles=quantiles(took), errors=errors)


def h2load(workload, name, peer, seconds, connections):
    """HTTP/2, eight streams on each connection."""
    log = WORK / f"{name}.log"
    log.unlink(missing_ok=True)
    extra = [x for k, v in headers_of(workload).items() if k != "Host" for x in ("-H", f"{k.lower()}: {v}")]
    out = run(
        ["h2load", "-t1", f"-c{max(1, connections // 8)}", "-m8", f"-D{seconds}", f"--log-file={log}"]
        + [f"--connect-to=127.0.0.1:{peer.tls_port}", *extra]
        + [f"https://api.example.test:{peer.tls_port}{workload['path']}"],
        seconds,
    )
    if "Application protocol: h2" not in out:
        sys.exit(f"h2load did not speak HTTP/2:\n{out}")
    rows = [line.split("\t") for line in log.read_text().splitlines()]
    errors = sum(row[1] != "200" for row in rows) + int(re.search(r"(\d+) failed", out)[1])
    return dict(requests=len(rows), seconds=seconds, quantiles=quantiles([int(row[2]) for row in rows]), errors=errors)


def fixed(workload, peer, requests):
    """Exactly so many requests over 16 kept-alive connections."""
    extra = [x for k, v in headers_of(workload).items() if k != "Host" for x in ("-H", f"{k.lower()}: {v}")]
    if "body" in workload:
        body = WORK / "fixed.body"
        body.write_text(workload["body"])
        extra += ["-d", str(body)]
    scheme, port = ("https", peer.tls_port) if workload.get("tls") else ("http", peer.port)
    out = run(
        ["h2load", *([] if workload.get("client") == "h2load" else ["--h1"]), "-t1", f"-c{min(16, requests)}", f"-n{requests}"]
        + [f"--connect-to=127.0.0.1:{port}", *extra, f"{scheme}://api.example.test:{port}{workload['path']}"],
        300,
    )
    if f"status codes: {requests} 2xx" not in out:
        sys.exit(f"not all were answered with 2xx:\n{out}")


def stream_head(workload, more=()):
    lines = [f"GET {workload['path']} HTTP/1.1", *(f"{k}: {v}" for k, v in headers_of(workload).items()), *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def echo(head, port, until, times):
    """One WebSocket connection: a frame out, its echo in, and again."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    answer = await reader.readuntil(b"\r\n\r\n")
    if b" 101 " not in answer:
        sys.exit(f"no WebSocket: {answer!r}")
    # A text frame of 64 bytes, masked with zeros.
    frame = b"\x81\xc0\0\0\0\0" + b"x" * 64
    while time.monotonic() < until:
        start = time.monotonic()
        writer.write(frame)
        await reader.readexactly(2 + 64)
        times.append((time.monotonic() - start) * 1e6)
    writer.close()


async def events(head, port, until, times):
    """One connection that reads answer after answer of events; each event counts, with its distance to the last."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.monotonic() < until:
        writer.write(head)
        answer = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in answer:
            sys.exit(f"no events: {answer!r}")
        last = time.monotonic()
        while size := int((await reader.readuntil(b"\r\n"))[:-2].split(b";")[0], 16):
            data = await reader.readexactly(size + 2)
            last, gap = time.monotonic(), (time.monotonic() - last) * 1e6
            times.extend([gap] * data.count(b"event:"))
        await reader.readexactly(2)
    writer.close()


def streaming(workload, name, peer, seconds, connections):
    """WebSocket frames or events over many connections."""
    key = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
    socket = workload["client"] == "websocket"
    head, one = stream_head(workload, key if socket else ()), echo if socket else events
    times = []

    async def all_of_them():
        until = time.monotonic() + seconds
        await asyncio.gather(*(one(head, peer.port, until, times) for _ in range(connections)))

    before = os.sched_getaffinity(0)
    if (pin := pinned(1)) is not None:
        pin()
    start = time.monotonic()
    asyncio.run(all_of_them())
    elapsed = time.monotonic() - start
    os.sched_setaffinity(0, before)
    return dict(requests=len(times), seconds=elapsed, quantiles=quantiles(times), errors=0)


CLIENTS = {"ab": ab, "h2load": h2load, "websocket": streaming, "sse": streaming}


def load(name, peer, seconds, connections):
    """Requests (frames, events) done, in how many seconds, with which latencies, and errors."""
    workload = WORKLOADS[name]
    return CLIENTS.get(workload.get("client"), wrk)(workload, name, peer, seconds, connections)
