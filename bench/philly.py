"""The Philly trace under several policies and sizes of the cluster: `python bench/philly.py --data DIR [RUN ...]`.

DIR holds philly.csv and philly_vc.csv (where they come from: docs/how-to/studies.md). A RUN is POLICY:GPUS or POLICY+QUEUES:GPUS; those
of the README unless given. QUEUES changes what queues there are, for the product alone: `demote`, in which work loses a priority with each of
STEPS GPU hours that it has held, and `fresh`, in which it counts in one queue for all before the first of them, too. Nodes have eight GPUs, the last one what is left; each queue's quota is its part of the published table, scaled to
the cluster. Everything but the seconds comes out the same, digit by digit, for the same data and seed.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from gpumax.model.amounts import Amounts
from gpumax.model.queue import Queue
from gpumax.model.study import Run, Scenario
from gpumax.study.load import load_scenario
from gpumax.study.replay import replay
from gpumax.units import MILLI, UNLIMITED
from measure import machine

WHOLE: Final = 2816
"""GPUs of the published table of queues."""
DAYS: Final = 61
STEPS: Final = (10, 100, 1000)
"""GPU hours."""
RUNS: Final = (
    "static-backfill:2816", "static-backfill:1760", "static-fifo:704", "static-backfill:704", "hard-quota:704",
    "gpumax:704", "gpumax:626", "gpumax:587", "gpumax:536", "gpumax+demote:626", "gpumax+fresh:626", "gpumax+fresh:587",
)  # fmt: skip
HEAD: Final = (
    "policy", "GPUs", "use", "wait mean h", "p99", "completion mean h", "p99", "makespan d", "evictions", "moves", "lost",
    "Jain", "Jain due", "violations", "rule breaks", "cycles", "CPU s", "MiB",
)  # fmt: skip


def philly(data: Path, gpus: int, days: int = DAYS) -> Scenario:
    """So many days of 11 tenants on a cluster of so many GPUs."""
    full, rest = divmod(gpus, 8)
    sizes = [(full, 8), (1, rest)] if rest else [(full, 8)]
    document = {
        "version": "gpumax/v1",
        "name": "philly",
        "nodes": [
            {"count": count, "name": f"n{size}", "cpu": 96, "memory": "1Ti", "devices": {"count": size, "model": "P100", "memory": "16Gi"}}
            for count, size in sizes
        ],
        "queues": {
            "csv": str(data / "philly_vc.csv"),
            "columns": {"name": "vc", "nodes": "node num"},
            "devices_per_node": 8,
            "scale": gpus / WHOLE,
        },
        "arrivals": {
            "csv": str(data / "philly.csv"),
            "columns": {"submitted": "timestamp", "duration": "duration", "gpu": "num_gpus", "queue": "cluster"},
            "between": ["2017-10-01", str(date(2017, 10, 1) + timedelta(days=days))],
            "gang": {"devices_per_task": 8},
        },
        "checkpoint": {"every": "30m", "restart": "60s"},
        "window": f"{days}d",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "philly.json"
        file.write_bytes(msgspec.json.encode(document))
        return load_scenario(file, on_bad_row="skip")


def demoting(scenario: Scenario, queues: str) -> Scenario:
    """The same with work that loses its priority; fresh: and with a queue for fresh work that is served before all others."""
    steps = tuple(step * MILLI for step in STEPS)
    fresh = "fresh" if queues == "fresh" else None
    rows = tuple(replace(queue, demote=steps, fresh=fresh) for queue in scenario.queues)
    if fresh is not None:
        rows += (Queue(fresh, priority=200, quota=Amounts(UNLIMITED, UNLIMITED, UNLIMITED)),)
    return replace(scenario, queues=rows)


def play(data: Path, row: str, seed: int, days: int) -> tuple[Run, float, int]:
    """One run, the CPU seconds that it took, and the most memory that it needed, in MiB."""
    named, _, gpus = row.partition(":")
    policy, _, queues = named.partition("+")
    scenario = philly(data, int(gpus), days)
    if queues:
        scenario = demoting(scenario, queues)
    began = time.process_time()
    run = replace(replay(scenario, policy, seed), policy=named)
    return run, time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def cells(run: Run, seconds: float, mib: int) -> tuple[str, ...]:
    """As the table shows it."""
    moved = run.evictions
    return (
        run.policy, str(run.gpus), f"{100 * run.use.requested:.1f} %", f"{run.wait_s.mean / 3600:.3f}", f"{run.wait_s.p99 / 3600:.2f}",
        f"{run.completion_s.mean / 3600:.3f}", f"{run.completion_s.p99 / 3600:.1f}", f"{run.makespan_s / 86400:.2f}",
        str(moved.reclaim + moved.preempt + moved.stale), str(moved.consolidate), f"{100 * run.lost:.3f} %", f"{run.jain:.4f}",
        f"{run.jain_due:.4f}", str(run.violations), str(run.rule_breaks), str(run.scheduler.cycles), f"{seconds:.0f}", str(mib),
    )  # fmt: skip


def main() -> None:
    """Read the flags, play, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="POLICY:GPUS")
    parser.add_argument("--data", type=Path, required=True, help="folder of philly.csv and philly_vc.csv")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--days", type=int, default=DAYS, help="from 1 October 2017: fewer for a look")
    flags = parser.parse_args()
    for name in ("philly.csv", "philly_vc.csv"):
        print(f"{name}: sha256 {hashlib.sha256((flags.data / name).read_bytes()).hexdigest()[:16]}")
    print(f"seed {flags.seed}; {flags.days} days; {machine()}\n")
    print("\t".join(HEAD))
    for row in flags.runs or RUNS:
        # A process of its own, so that memory is that of one run.
        with ProcessPoolExecutor(1) as pool:
            print(
                "\t".join(
                    cells(*pool.submit(play, flags.data.absolute(), row, flags.seed, flags.days).result())
                ),
                flush=True,
            )


if __name__ == "__main__":
    main()
