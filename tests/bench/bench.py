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
from peers import WORK, Servers, get, peers

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
    """What does not depend on the machine's speed, for each request: instructions of user space, system calls,
    allocations. Each is the difference of a long and a short run, so that starting and connecting cancel out."""
    names = [n for n in arguments.workloads if not WORKLOADS[n].get("client") or WORKLOADS[n]["client"] == "h2load"]
    names = [n for n in names if "Connection" not in WORKLOADS[n].get("headers", {})]
    short, long = 100, 600
    found = {}
    for peer in chosen.values():
        for name in (n for n in names if peer.can(WORKLOADS[n])):
            row = found.setdefault(name, {}).setdefault(peer.name, {})
            row["instructions"] = (callgrind(peer, name, long) - callgrind(peer, name, short)) / (long - short)
            row["calls"] = (strace(peer, name, long) - strace(peer, name, short)) / (long - short)
            if peer.name.startswith("ours"):
                row["allocations"] = (dhat(peer, name, long) - dhat(peer, name, short)) / (long - short)
            print(name, peer.name, {k: round(v, 1) for k, v in row.items()}, flush=True)
    return found


def wrapped(peer, tool):
    # callgrind_control does not reach a forked worker.
    alone = ["-g", "master_process off;"] if peer.name == "nginx" else []
    peer.command = peer.command + [x for x in alone if x not in peer.command]
    return Servers({peer.name: peer}, ["valgrind", "-q", *tool])


def callgrind(peer, name, requests):
    prefix = WORK / f"callgrind.{peer.name}"
    for file in glob.glob(f"{prefix}*"):
        os.remove(file)
    with wrapped(peer, ["--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={prefix}"]):
        fixed(WORKLOADS[name], peer, 50)
        pid = str(peer.process.child.pid)
        for what in (["-i", "on"], ["-z"]):
            subprocess.run(["callgrind_control", *what, pid], check=True, capture_output=True, timeout=120)
        fixed(WORKLOADS[name], peer, requests)
        subprocess.run(["callgrind_control", "-d", pid], check=True, capture_output=True, timeout=120)
        made = sorted(glob.glob(f"{prefix}*"))
        return int(re.search(r"^(?:totals|summary): (\d+)", open(made[0], errors="replace").read(), re.M)[1])


def dhat(peer, name, requests):
    file = WORK / f"dhat.{peer.name}"
    with wrapped(peer, ["--tool=dhat", f"--dhat-out-file={file}"]):
        fixed(WORKLOADS[name], peer, requests)
    return sum(point["tbk"] for point in json.loads(file.read_text())["pps"])


def strace(peer, name, requests):
    file = WORK / "strace.out"
    with Servers({peer.name: peer}):
        fixed(WORKLOADS[name], peer, 50)
        attach = [x for pid in peer.process.tree() for x in ("-p", str(pid))]
        tracer = subprocess.Popen(["strace", "-f", "-c", "-o", file, *attach], stderr=subprocess.DEVNULL)
        time.sleep(1)
        fixed(WORKLOADS[name], peer, requests)
        tracer.send_signal(signal.SIGINT)
        tracer.wait(10)
    return int(re.search(r"^.* total$", file.read_text(), re.M)[0].split()[3])


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
            [peer, f"{c['instructions'] / 1e3:.1f}", f"{c['calls']:.2f}", f"{c['allocations']:.1f}" if "allocations" in c else ""]
            for peer, c in row.items()
        ]
        out += [f"## {name}, counted\n", table(["peer", "thousand user instructions", "system calls", "allocations"], body)]
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/run")
    listed = lambda text: text.split(",")  # noqa: E731
    parser.add_argument("--peers", type=listed, help="only these; nginx is needed for the ratio")
    parser.add_argument("--workloads", type=listed, default=list(WORKLOADS), help=", ".join(WORKLOADS))
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
