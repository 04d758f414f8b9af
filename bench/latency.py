"""From the submit to the task's first instruction, server warm, one workload after the other.

The clock is read before the request is sent, and by the task itself, on the same machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from measure import Figure, Row, show
from server import Server, running


def figures(repeat: int, warm: int = 5) -> list[Row]:
    """Median and 95th percentile of the same runs."""
    with running() as server:
        times = tuple([_once(server, number) for number in range(warm + repeat)][warm:])
    return [
        Figure("submit to the task's first instruction", "ms", times, 100.0),
        Figure("the same, 95th percentile", "ms", times, 250.0, "p95"),
    ]


def _once(server: Server, number: int) -> float:
    """Milliseconds of one submit."""
    stamp = server.data / f"stamp-{number}"
    # The shell that runs the line is the task; what it starts to read the clock costs about a millisecond.
    line = f"date +%s%N > {stamp}.part && mv {stamp}.part {stamp}"
    document = {
        "name": f"bench-{number}",
        "resources": {"gpu": 1},
        "run": ["/bin/sh", "-c", line],
        "workdir": str(server.data),
    }
    before = time.time_ns()
    server.post("/workloads", document)
    return (_appears(stamp) - before) / 1e6


def _appears(path: Path, patience_s: float = 30.0) -> int:
    deadline = time.monotonic() + patience_s
    while not path.exists():
        if time.monotonic() > deadline:
            sys.exit(f"the task did not start within {patience_s:g} s")
        time.sleep(0.002)
    return int(path.read_text())


def main() -> None:
    """Read the flags, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=100, help="submits that count (n)")
    show(figures(parser.parse_args().repeat))


if __name__ == "__main__":
    main()
