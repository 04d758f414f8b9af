"""How long a large trace takes to read, and how much memory: a table made from a seed, inspected by a process of its own.

python bench/traces.py [--rows 2000000] [--seed 1] [--repeat 3]
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gpumax.traces.inspect import inspect
from gpumax.traces.read import read_trace
from measure import Figure, apart, show

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def write(path: Path, rows: int, seed: int) -> None:
    """A table of jobs: twenty tenants, one arrival a quarter of a minute, durations with a tail, times as text."""
    chance = random.Random(seed)
    moment = 0.0
    with path.open("w", encoding="utf-8") as file:
        file.write("job_id,submit_time,duration,gpu,vc,user,cpu,memory_mib\n")
        for number in range(rows):
            moment += chance.expovariate(1 / 15)
            at = (BEGIN + timedelta(seconds=int(moment))).strftime("%Y-%m-%d %H:%M:%S")
            file.write(
                f"job{number},{at},{chance.expovariate(1 / 3600):.1f},{chance.choice((1, 1, 2, 4, 8))},team{chance.randrange(20)},"
                f"user{chance.randrange(900)},{chance.randrange(64)},{chance.randrange(1, 512) * 1024}\n"
            )


def once(path: Path) -> tuple[float, float]:
    """Seconds of one core until the trace is inspected, and the most memory that this process ever held, in MiB."""
    begin = time.process_time()
    inspect(read_trace(path))
    return time.process_time() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Read the flags, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "jobs.csv"
        write(path, flags.rows, flags.seed)
        runs = [apart(once, path) for _ in range(flags.repeat)]
    name = f"inspect a trace of {flags.rows:,} rows (seed {flags.seed})"
    show(
        [
            Figure(f"{name}: one core", "s", tuple(run[0] for run in runs), 60.0),
            Figure(f"{name}: memory", "MiB", tuple(run[1] for run in runs), 1024.0),
        ]
    )


if __name__ == "__main__":
    main()
