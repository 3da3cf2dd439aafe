"""Processes under measurement, and the machine they run on."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
# The proxy on one CPU, origin and client on another.
PIN = (os.cpu_count() or 1) > 1


def pinned(cpu):
    return (lambda: os.sched_setaffinity(0, {cpu})) if PIN else None


def stat(pid):
    """Parent and ticks of CPU (user, system, and those of children waited for)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[1]), sum(map(int, fields[11:15]))


class Process:
    """A server, and what it and its descendants used."""

    def __init__(self, name, command, folder, cpu, env=None):
        self.name, self.folder = name, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.log = open(folder / "output.log", "w")
        self.child = subprocess.Popen(
            command,
            stdout=self.log,
            stderr=self.log,
            stdin=subprocess.DEVNULL,
            preexec_fn=pinned(cpu),
            env={**os.environ, **(env or {})},
        )

    def tree(self):
        parents = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    parents[int(entry)] = stat(entry)[0]
                except OSError:
                    pass
        found = [self.child.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def cpu(self):
        return sum(stat(pid)[1] for pid in self.tree()) / TICK

    def reset_peak(self):
        for pid in self.tree():
            try:
                Path(f"/proc/{pid}/clear_refs").write_text("5")
            except OSError:
                pass

    def peak_rss(self):
        """KiB, of the largest process."""
        text = (Path(f"/proc/{pid}/status").read_text() for pid in self.tree())
        return max(int(re.search(r"VmHWM:\s+(\d+)", status)[1]) for status in text)

    def pss(self):
        """KiB, of all of them."""
        text = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.tree())
        return sum(int(re.search(r"Pss:\s+(\d+)", rollup)[1]) for rollup in text)

    def stop(self):
        left = self.tree()
        self.child.terminate()
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
            self.child.wait()
        self.log.close()


def settle(process):
    """Waits, 10 s at most, until what the last load left queued is done."""
    for _ in range(50):
        before = process.cpu()
        time.sleep(0.2)
        if process.cpu() - before <= 1 / TICK:
            break


def probe():
    """Milliseconds of CPU for a fixed piece of work on the proxy's CPU: how fast the machine is just now."""
    before = os.sched_getaffinity(0)
    if PIN:
        os.sched_setaffinity(0, {0})
    start = time.thread_time()
    text = json.dumps([{"id": n, "name": "blue cotton shirt", "path": f"/etc/{n}"} for n in range(500)])
    for _ in range(12):
        re.findall(r"(?i)union\s+select|<script|/etc/\w+|\b\w+@\w+\.", text)
        json.dumps(json.loads(text))
    spent = time.thread_time() - start
    os.sched_setaffinity(0, before)
    return spent * 1e3


def describe():
    """Machine and versions, one line each."""

    def output(*command):
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=30)
            return (ran.stdout + ran.stderr).strip().split("\n")[0]
        except OSError:
            return "not found"

    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return [
        f"{time.strftime('%Y-%m-%d %H:%MZ', time.gmtime())}, {os.cpu_count()} cores of {model[1] if model else '?'}, "
        f"load {os.getloadavg()[0]:.2f}, pinned {PIN}",
        *(output(*c) for c in (["nginx", "-v"], ["haproxy", "-v"], ["rustc", "--version"], ["git", "rev-parse", "HEAD"])),
    ]
