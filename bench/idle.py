"""What a server costs that has nothing to do: its part of one core, and its resident memory."""

from __future__ import annotations

import argparse
import time

import psutil

from measure import Figure, Row, show
from server import running


def figures(seconds: float, samples: int = 5) -> list[Row]:
    """Several samples of `seconds` / `samples` each, all processes of the server together."""
    parts: list[float] = []
    memory: list[float] = []
    with running() as server:
        process = psutil.Process(server.pid)
        time.sleep(2)  # what starting up leaves behind is no part of idling
        for _ in range(samples):
            spent, start = _spent(process), time.monotonic()
            time.sleep(seconds / samples)
            parts.append(100 * (_spent(process) - spent) / (time.monotonic() - start))
            memory.append(sum(one.memory_info().rss for one in _all(process)) / 1e6)
    return [
        Figure(f"idle server, {seconds:g} s: part of one core", "%", tuple(parts), 1.0),
        Figure("idle server: resident memory", "MB", tuple(memory), 120.0),
    ]


def _all(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _spent(process: psutil.Process) -> float:
    times = [one.cpu_times() for one in _all(process)]
    return float(sum(time.user + time.system for time in times))


def main() -> None:
    """Read the flags, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long it is watched")
    show(figures(parser.parse_args().seconds))


if __name__ == "__main__":
    main()
