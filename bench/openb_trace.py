"""A snapshot of a large shared cluster, from its file to the answer: Alibaba's openb trace, converted to a snapshot.

The data is not part of this repository; --data names the folder that holds the trace's CSV files.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Final

from gpumax.formats.snapshot import load_snapshot
from gpumax.policy.decide import decide
from measure import Figure, Row, Skipped, seconds, show
from server import command

NAME: Final = "openb trace, file to answer"
CONVERT: Final = Path(__file__).parent.parent / "examples" / "openb.py"


def figures(data: Path | None, repeat: int) -> list[Row]:
    """In one process, and as the command line does it, process start and all."""
    if data is None:
        return [Skipped(NAME, "no --data given")]
    if not CONVERT.exists():
        return [Skipped(NAME, f"examples/{CONVERT.name} is missing")]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "openb.json"
        with file.open("wb") as out:
            made = subprocess.run(
                [sys.executable, str(CONVERT), str(data)],
                stdout=out,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        if made.returncode:
            return [Skipped(NAME, made.stderr.strip().rpartition("\n")[2] or f"no trace in {data}")]
        snapshot = load_snapshot(file.read_bytes())
        tasks = sum(len(workload.tasks) for workload in snapshot.workloads)
        size = f"{len(snapshot.nodes)} nodes, {tasks} tasks"
        whole = seconds(lambda: decide(load_snapshot(file.read_bytes())), repeat)
        cli = [*command("decide", str(file), "--format", "board")]
        process = seconds(partial(subprocess.run, cli, check=True, capture_output=True), repeat)
    return [
        Figure(f"{NAME}: {size}", "s", whole, 2.0),
        Figure("openb trace, gpumax decide --format board, whole process", "s", process, 2.0),
    ]


def main() -> None:
    """Read the flags, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of the trace")
    parser.add_argument("--repeat", type=int, default=5)
    flags = parser.parse_args()
    show(figures(flags.data, flags.repeat))


if __name__ == "__main__":
    main()
