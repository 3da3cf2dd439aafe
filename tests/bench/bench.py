#!/usr/bin/env python3
"""Measures proxies side by side; see tests/bench/run."""

import argparse
import glob
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import time

from load import WORKLOADS, fixed, headers_of, load
from machine import describe, probe, settle
from peers import PEERS, WORK, Servers, get, peers

IDLE = 9_000


def check(chosen):
    """Every proxy answers every workload's request in full, before any is timed."""
    bad = []
    for name, peer in chosen.items():
        for title, workload in WORKLOADS.items():
            if not peer.can(workload) or workload.get("streams"):
                continue
            headers = {k: v for k, v in headers_of(workload).items() if k not in ("Host", "Connection")}
            port, tls = (peer.tls_port, True) if workload.get("tls") else (peer.port, False)
            method = "POST" if "body" in workload else "GET"
            seen = get(port, workload["path"], tls, method, headers, workload.get("body"))
            size = 65_536 if workload["path"] == "/64k" else 21 if "body" in workload else 1024
            if seen != (200, size):
                bad.append(f"{name}: {title}: {seen}, expected (200, {size})")
    if bad:
        sys.exit("check failed:\n  " + "\n  ".join(bad))


def measure(peer, name, seconds, connections):
    load(name, peer, 1, connections)
    settle(peer.process)
    speed = probe()
    peer.process.reset_peak()
    before = peer.process.cpu()
    done = load(name, peer, seconds, connections)
    if not done["requests"]:
        sys.exit(f"{peer.name}: {name}: nothing was answered in {seconds} s")
    spent = peer.process.cpu() - before
    return dict(
        done,
        us=spent * 1e6 / done["requests"],
        busy=spent / done["seconds"],
        rate=done["requests"] / done["seconds"],
        rss=peer.process.peak_rss(),
        slowness=(speed + probe()) / 2,
    )


def timed(arguments, chosen):
    rows = []
    for name in arguments.workloads:
        able = {n: p for n, p in chosen.items() if p.can(WORKLOADS[name])}
        with Servers(able):
            for turn in range(arguments.rounds):
                for peer in able.values():
                    row = measure(peer, name, arguments.seconds, arguments.connections)
                    rows.append(dict(row, workload=name, peer=peer.name, round=turn))
                    print(
                        f"{name:19} {peer.name:15} round {turn}: {row['us']:7.1f} us CPU  {row['rate']:8.0f}/s  "
                        f"busy {row['busy']:.0%}  errors {row['errors']}",
                        flush=True,
                    )
    return rows


def idle_connections(chosen):
    """KiB of each of many idle kept-alive connections, and what a request costs beside them."""
    found = {}
    for peer in chosen.values():
        with Servers({peer.name: peer}):
            load("get-1k", peer, 1, 64)
            alone = measure(peer, "get-1k", 3, 64)["us"]
            before, held = peer.process.pss(), []
            head = "\r\n".join(["GET /items HTTP/1.1", *(f"{k}: {v}" for k, v in headers_of({}).items())]) + "\r\n\r\n"
            for number in range(IDLE):
                client = socket.socket()
                # One address has not ports enough.
                client.bind((f"127.0.1.{1 + number % 200}", 0))
                client.connect(("127.0.0.1", peer.port))
                client.sendall(head.encode())
                client.recv(4096)
                held.append(client)
            found[peer.name] = dict(
                kib=(peer.process.pss() - before) / IDLE,
                beside=measure(peer, "get-1k", 3, 64)["us"] / alone,
            )
            for client in held:
                client.close()
        print(f"{peer.name:15} {found[peer.name]['kib']:.2f} KiB an idle connection, {found[peer.name]['beside']:.2f} as dear beside", flush=True)
    return found


def counted(arguments, chosen):
    """What does not depend on the machine's speed, for each request: instructions of user space, allocations, system
    calls. Each is the difference of a long and a short run, so that connecting cancels out."""
    names = [n for n in arguments.workloads if WORKLOADS[n].get("client", "h2load") == "h2load"]
    found = {}
    for peer in chosen.values():
        able = [n for n in names if peer.can(WORKLOADS[n])]
        rows = {name: found.setdefault(name, {}).setdefault(peer.name, {}) for name in able}
        with wrapped(peer):
            for name, row in rows.items():
                row.update(callgrind(peer, name))
                print(f"{name:19} {peer.name:15} {row['instructions'] / 1e3:8.1f} k instructions  {row['allocations']:7.1f} allocations", flush=True)
        with Servers({peer.name: peer}):
            for name, row in rows.items():
                row["calls"] = strace(peer, name)
                print(f"{name:19} {peer.name:15} {sum(row['calls'].values()):8.2f} system calls  {row['calls']}", flush=True)
    return found


# Requests of the short and of the long run.
SHORT, LONG = 200, 1200
ALLOCATORS = ("malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign")


def wrapped(peer):
    # callgrind_control does not reach a forked worker.
    alone = ["-g", "master_process off;"] if peer.name == "nginx" else []
    peer.command = peer.command + [x for x in alone if x not in peer.command]
    for file in glob.glob(f"{WORK}/raw.{peer.name}.*"):
        os.remove(file)
    tool = ["--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={WORK}/raw.{peer.name}.%p"]
    return Servers({peer.name: peer}, ["valgrind", "-q", *tool])


def callgrind(peer, name):
    """Instructions and allocations of a request. The profile of the long run stays as `callgrind.PEER.WORKLOAD`, for
    callgrind_annotate."""
    pid = str(peer.process.child.pid)

    def control(*what):
        subprocess.run(["callgrind_control", *what, pid], check=True, capture_output=True, timeout=120)

    def profile(requests):
        before = set(glob.glob(f"{WORK}/raw.{peer.name}.{pid}*"))
        control("-z")
        fixed(WORKLOADS[name], peer, requests)
        control("-d")
        (made,) = set(glob.glob(f"{WORK}/raw.{peer.name}.{pid}*")) - before
        return made

    control("-i", "on")
    fixed(WORKLOADS[name], peer, SHORT)
    short, long_run = tally(profile(SHORT)), profile(LONG)
    long = tally(long_run)
    os.replace(long_run, WORK / f"callgrind.{peer.name}.{name}")
    control("-i", "off")
    return {what: (long[what] - short[what]) / (LONG - SHORT) for what in long}


def tally(profile):
    """Instructions and calls of the allocator in a profile."""
    text = open(profile, errors="replace").read()
    allocators = {number for number, name in re.findall(r"^c?fn=\((\d+)\) (\S+)", text, re.M) if name in ALLOCATORS}
    calls = re.findall(r"^cfn=\((\d+)\).*\ncalls=(\d+)", text, re.M)
    return dict(
        instructions=int(re.search(r"^(?:totals|summary): (\d+)", text, re.M)[1]),
        allocations=sum(int(count) for number, count in calls if number in allocators),
    )


def strace(peer, name):
    """System calls of a request, by name."""

    def traced(requests):
        file = WORK / "strace.out"
        attach = [x for pid in peer.process.tree() for x in ("-p", str(pid))]
        tracer = subprocess.Popen(["strace", "-f", "-c", "-U", "name,calls", "-o", file, *attach], stderr=subprocess.DEVNULL)
        time.sleep(1)
        fixed(WORKLOADS[name], peer, requests)
        tracer.send_signal(signal.SIGINT)
        tracer.wait(10)
        return {call: int(count) for call, count in re.findall(r"^(\w+) +(\d+)$", file.read_text(), re.M) if call != "total"}

    fixed(WORKLOADS[name], peer, 50)
    short, long = traced(SHORT), traced(LONG)
    each = {call: round((count - short.get(call, 0)) / (LONG - SHORT), 2) for call, count in long.items()}
    return {call: count for call, count in each.items() if abs(count) >= 0.01}


def table(head, rows):
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def report(results):
    out = ["# Proxies side by side\n", *(f"- {line}" for line in results["machine"]), ""]
    out.append(
        "Microseconds of the proxy's CPU (user and system) for each request; the least of the rounds, and the ratio to nginx's least. "
        "Slowness: how slow the machine was around that round, 1 being the quietest. p50, p99, p99.9: best round's.\n"
    )
    rows = results.get("timed", [])
    quiet = min((row["slowness"] for row in rows), default=1)
    for name in dict.fromkeys(row["workload"] for row in rows):
        mine = [row for row in rows if row["workload"] == name]
        base = min((row["us"] for row in mine if row["peer"] == "nginx"), default=None)
        body = []
        for peer in dict.fromkeys(row["peer"] for row in mine):
            rounds = [row for row in mine if row["peer"] == peer]
            least = min(rounds, key=lambda row: row["us"])
            best = [min(row["quantiles"][at] for row in rounds) / 1e3 for at in range(3)]
            body.append(
                [peer, f"{least['us']:.1f}", f"{least['us'] / base:.2f}" if base else "", f"{statistics.median(r['us'] for r in rounds):.1f}"]
                + [f"{least['slowness'] / quiet:.2f}", f"{max(r['rate'] for r in rounds):.0f}", *(f"{q:.2f}" for q in best)]
                + [f"{max(r['rss'] for r in rounds) / 1024:.1f}", f"{least['busy']:.0%}", sum(r["errors"] for r in rounds)]
            )
        head = ["peer", "µs, least", "ratio", "median", "slowness", "best rate/s", "p50 ms", "p99 ms", "p99.9 ms", "peak RSS MiB", "busy", "errors"]
        out += [f"## {name}\n", table(head, body)]
    if idle := results.get("idle"):
        body = [[name, f"{row['kib']:.2f}", f"{row['beside']:.2f}"] for name, row in idle.items()]
        out += [f"## {IDLE} idle connections\n", table(["peer", "KiB each", "a request beside them, as dear as without"], body)]
    for name, row in results.get("counted", {}).items():
        body = [
            [peer, f"{c['instructions'] / 1e3:.1f}", f"{c['allocations']:.1f}", f"{sum(c['calls'].values()):.2f}"]
            + [", ".join(f"{call} {count}" for call, count in sorted(c["calls"].items(), key=lambda pair: -pair[1]))]
            for peer, c in row.items()
        ]
        out += [f"## {name}, counted\n", table(["peer", "thousand user instructions", "allocations", "system calls", "which"], body)]
    return "\n".join(out)


def some_of(what, known):
    """Reads names with commas between them."""

    def read(text):
        names = text.split(",")
        unknown = [repr(name) for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"no such {what}: {', '.join(unknown)}; there are {', '.join(known)}")
        return names

    return read


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/run")
    parser.add_argument("--peers", type=some_of("peer", PEERS), help="only these; nginx is needed for the ratio")
    parser.add_argument(
        "--workloads", type=some_of("workload", WORKLOADS), default=list(WORKLOADS), help=", ".join(WORKLOADS)
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--counts", action="store_true", help="instructions, system calls and allocations instead of time")
    parser.add_argument("--idle", action="store_true", help=f"what {IDLE} idle connections cost instead")
    arguments = parser.parse_args()
    # So that the servers are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chosen = peers(arguments.peers)
    results = {"machine": describe()}
    if arguments.counts:
        results["counted"] = counted(arguments, chosen)
    elif arguments.idle:
        results["idle"] = idle_connections(chosen)
    else:
        with Servers(chosen):
            check(chosen)
        results["timed"] = timed(arguments, chosen)
    (WORK / "results.json").write_text(json.dumps(results, indent=1))
    (WORK / "results.md").write_text(report(results))
    print("\n" + report(results))


if __name__ == "__main__":
    main()
