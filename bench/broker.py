"""The broker of a node under load: 64 programs, each a group of its own, on one device; 1,000 grants a second.

The load comes from a process of its own, which asks for one lease after the other at set moments, over the sockets that programs use, and looks at the
shared page until it says that it may submit: that is what a thread of a program waits for. CPU time is the broker's alone, as the kernel counts it.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gpumax.broker import messages as msg
from gpumax.broker import wire
from gpumax.broker.control import SOCKET, Control, Group
from gpumax.broker.page import PAGE_BYTES, Page
from gpumax.broker.words import LeaseState, ReleaseFlags
from measure import Figure, Row, percentile, show

UUID = "00112233445566778899aabbccddeeff"
SECOND = 1_000_000_000
PATIENCE_S = 20.0


class Program:
    """One that uses the broker as the layer does, as far as leases go."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.connect(str(path))
        self.sequence = self.epoch = 0
        self._say(msg.Hello(pid=os.getpid(), driver=13000, uuid=(bytes.fromhex(UUID),)))
        data, fds, _, _ = socket.recv_fds(self.sock, 4096, 1)
        header, _ = wire.decode(data)
        self.epoch = header.epoch
        self.page = Page(memoryview(mmap.mmap(fds[0], PAGE_BYTES)))
        os.close(fds[0])
        self.sock.setblocking(False)

    def _say(self, message: msg.Message) -> None:
        self.sequence += 1
        self.sock.send(wire.encode(message, sequence=self.sequence, epoch=self.epoch))

    def turn(self) -> int:
        """Ask, wait until it may submit, give back. Nanoseconds from the question to the page that says so."""
        began = time.perf_counter_ns()
        self._say(msg.Acquire())
        while self.page["lease_word"] & 0xFF != LeaseState.GRANTED:
            if time.perf_counter_ns() - began > PATIENCE_S * SECOND:
                sys.exit("a lease was asked for and never came")
        took = time.perf_counter_ns() - began
        self._say(msg.Release(lease=self.page["lease"], flags=int(ReleaseFlags.DRAINED)))
        return took

    def beat(self) -> None:
        self._say(msg.Heartbeat(usage=(msg.Usage(0, 0),)))

    def listen(self) -> None:
        with suppress(BlockingIOError):
            while self.sock.recv(4096):
                pass


@contextmanager
def broker(directory: Path) -> Iterator[int]:
    command = [
        sys.executable,
        "-m",
        "gpumax.broker",
        "--directory",
        str(directory),
        "--device",
        f"{UUID}:16Gi",
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:  # whoever looks at its page without a pause keeps its core to itself
        os.sched_setaffinity(process.pid, cores[1:])
        os.sched_setaffinity(0, cores[:1])
    try:
        until = time.monotonic() + PATIENCE_S
        while not (directory / SOCKET).exists():
            if time.monotonic() > until or process.poll() is not None:
                sys.exit("the broker doesn't come up")
            time.sleep(0.02)
        yield process.pid
    finally:
        process.terminate()
        process.wait()
        os.sched_setaffinity(0, cores)


def spent_ns(pid: int) -> int:
    """CPU time of a process so far."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total


def load(programs: list[Program], rate: int, seconds: float) -> list[int]:
    """One turn at each tick of the rate, program after program; how long each one waited."""
    began, waits, number = time.perf_counter_ns(), list[int](), 0
    while True:
        due = began + number * SECOND // rate
        now = time.perf_counter_ns()
        if now - began >= seconds * SECOND:
            return waits
        if now < due:
            time.sleep(min((due - now) / SECOND, 0.0005))
            continue
        program = programs[number % len(programs)]
        program.listen()
        waits.append(program.turn())
        number += 1
        if number % 8 == 0:  # signs of life come one by one, as those of real programs do
            programs[number // 8 % len(programs)].beat()


def measure(clients: int, rate: int, seconds: float, repeat: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"rate": [], "cpu": [], "p50": [], "p99": []}
    with tempfile.TemporaryDirectory(prefix="gpumax-") as place, broker(Path(place) / "b") as pid:
        control = Control(Path(place) / "b")
        names = [f"g{number}" for number in range(clients)]
        paths = [control.add(Group(name, (UUID,), 0, share=0.01)) for name in names]
        programs = [Program(path) for path in paths]
        load(programs, rate, 0.5)
        for _ in range(repeat):
            spent, began = spent_ns(pid), time.perf_counter_ns()
            waits = load(programs, rate, seconds)
            took = time.perf_counter_ns() - began
            found["cpu"].append(100 * (spent_ns(pid) - spent) / took)
            found["rate"].append(len(waits) * SECOND / took)
            found["p50"].append(percentile(waits, 50) / 1000)
            found["p99"].append(percentile(waits, 99) / 1000)
    return found


def figures(clients: int = 64, rate: int = 1000, seconds: float = 5.0, repeat: int = 5) -> list[Row]:
    found = measure(clients, rate, seconds, repeat)
    return rows(found, clients)


def rows(found: dict[str, list[float]], clients: int) -> list[Row]:
    head = f"broker, {clients} programs"
    return [
        Figure(f"{head}: grants a second", "/s", tuple(found["rate"])),
        Figure(f"{head}: CPU, part of a core", "%", tuple(found["cpu"]), 5.0),
        Figure(f"{head}: CPU of a grant, all else included", "us", tuple(_each(found))),
        Figure(f"{head}: asked to may submit, median", "us", tuple(found["p50"])),
        Figure(f"{head}: the same, 99th percentile", "us", tuple(found["p99"]), 200.0),
    ]


def _each(found: dict[str, list[float]]) -> list[float]:
    """Microseconds of the broker's CPU time for each grant, from asking to giving back."""
    return [10_000 * cpu / rate for cpu, rate in zip(found["cpu"], found["rate"], strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rate", type=int, default=1000, help="grants a second that are asked for")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run")
    parser.add_argument("--repeat", type=int, default=5, help="runs (n)")
    parser.add_argument(
        "--json", action="store_true", help="each run's figures, and the machine's load, as JSON"
    )
    given = parser.parse_args()
    found = measure(given.clients, given.rate, given.seconds, given.repeat)
    if given.json:
        print(json.dumps({"clients": given.clients, "asked": given.rate, "load": os.getloadavg(), **found}))
    else:
        show(rows(found, given.clients))


if __name__ == "__main__":
    main()
