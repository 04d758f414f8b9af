"""decide() at the sizes of the largest clusters: time, peak memory, and how both grow with the number of nodes.

  large    ten thousand nodes of eight GPUs, in the three situations of `decide.py`
  quiet    four thousand nodes with 140,000 running tasks of which 500 hold a GPU, and nothing to decide
  queues   a thousand queues and 50,000 waiting one-GPU workloads on an empty cluster
  cohorts  Kueue's performance test: 30 queues in 5 parents, 15,000 workloads of three sizes and priorities; all admitted in
           one decision, engine only (Kueue publishes 42.7 admissions/s, with an API server, for the same workloads over time)
  growth   the first of these situations at 1,000 to 10,000 nodes; `--svg FILE` draws it

Every case runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import decide as situations
from clusters import DEVICES, NOW, Document, machines
from gpumax.formats.snapshot import load_snapshot
from gpumax.policy.decide import decide
from measure import Figure, Row, apart, decide_anew, seconds, show
from plot import Line, plot

GROWTH: Final = (1000, 2000, 5000, 10_000)
COHORTS: Final = ((350, 1, 50), (100, 5, 100), (50, 20, 200))
"""Of each queue: so many workloads, the cores of each, its priority."""


class Case(NamedTuple):
    """What is measured. admits: how many workloads the right answer places, None: however many."""

    name: str
    cluster: Callable[[], Document]
    goal: float | None
    admits: int | None = None


class Measured(NamedTuple):
    """What a process of its own found."""

    times: tuple[float, ...]
    peak_mb: float
    placed: int
    evicted: int
    held: int


def quiet() -> Document:
    """Nobody waits. Tasks without GPUs stand ten a workload, one a node."""
    workloads = [_one(f"g{number}", 1, node=number, devices=True) for number in range(500)]
    workloads += [
        {
            **_one(f"c{number}", 0), "started": NOW - 900,
            "tasks": [
                {"name": f"c{number}-{rank}", "state": "running", "node": f"n{(10 * number + rank) % 4000:05d}"}
                for rank in range(10)
            ],
        }
        for number in range(13_950)
    ]  # fmt: skip
    return _document(machines(4000), [{"name": "q", "quota": {"gpu": 4000 * DEVICES}}], workloads)


def queues() -> Document:
    """Ten GPUs of quota a queue, fifty workloads that want one each."""
    rows = [{"name": f"q{number}", "quota": {"gpu": 10}} for number in range(1000)]
    workloads = [_one(f"w{number}", 1, queue=f"q{number % 1000}") for number in range(50_000)]
    return _document(machines(1250), rows, workloads)


def cohorts() -> Document:
    """As Kueue's generator has them, but on a cluster that holds them all: what is measured is the deciding."""
    rows: list[Document] = [{"name": f"cohort-{parent}"} for parent in range(5)]
    workloads = []
    for parent in range(5):
        for child in range(6):
            queue = f"queue-{parent}-{child}"
            rows.append({"name": queue, "parent": f"cohort-{parent}", "quota": {"cpu": 20}})
            for size, (number, cores, priority) in enumerate(COHORTS):
                workloads += [
                    {**_one(f"{queue}-{size}-{rank}", 0, queue=queue, cores=cores), "priority": priority, "preemptible": True}
                    for rank in range(number)
                ]  # fmt: skip
    return _document(machines(320), rows, workloads)


def _document(nodes: list[Document], rows: list[Document], workloads: list[Document]) -> Document:
    return {"version": "gpumax/v1", "now": NOW, "nodes": nodes, "queues": rows, "workloads": workloads}


def _one(
    name: str, gpus: int, *, queue: str = "q", cores: int = 1, node: int | None = None, devices: bool = False
) -> Document:
    task: Document = {"name": f"{name}-0", "state": "pending"}
    if node is not None:
        task |= {"state": "running", "node": f"n{node:05d}"}
    if devices:
        task["devices"] = [{"index": 0, "milli": 1000}]
    return {
        "name": name, "queue": queue, "submitted": NOW - 1000, "request": {"gpu": gpus, "cpu": cores, "memory": "1Gi"}, "tasks": [task],
    }  # fmt: skip


def cases() -> list[Case]:
    """All of them, but for growth."""
    large = [
        Case(
            f"10,000 nodes x 8, 80,000 running, 10,000 waiting, {kind}",
            partial(situations.document, kind, 10_000, 80_000, 10_000, 1),
            3.0,
        )
        for kind in situations.KINDS
    ]
    return [
        *large,
        Case("4,000 nodes, 140,000 running tasks, 500 with a GPU, nothing to do", quiet, 0.3, 0),
        Case("1,000 queues, 50,000 waiting one-GPU workloads, empty 1,250 x 8 cluster", queues, 1.0, 10_000),
        Case("30 queues in 5 parents, 15,000 workloads at 5,000 admissions/s", cohorts, 3.0, 15_000),
    ]


def measured(case: Case, repeat: int) -> Measured:
    """To be run in a process of its own. SystemExit where an answer is wrong."""
    snapshot = load_snapshot(json.dumps(case.cluster()).encode())
    decision = decide(snapshot)
    placed, evicted, held = len(decision.places), len(decision.evictions), len(decision.holds)
    if case.admits is not None and placed != case.admits:
        raise SystemExit(f"{case.name}: {placed} placed")
    times = seconds(partial(decide_anew, snapshot), repeat, warm=0)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Measured(times, peak_mb, placed, evicted, held)


def figures(repeat: int, chosen: Sequence[Case]) -> list[Row]:
    """Two rows a case."""
    rows: list[Row] = []
    for case in chosen:
        found = apart(measured, case, repeat)
        said = f"{found.placed} placed, {found.evicted} evicted, {found.held} held"
        rows.append(Figure(f"{case.name}; {said}", "s", found.times, case.goal))
        rows.append(Figure("  peak memory of the process, snapshot and all", "MB", (found.peak_mb,), 2000))
    return rows


def growth(repeat: int, svg: Path | None) -> list[Row]:
    """How much more ten times as many nodes cost, a row a situation. svg: where to draw it."""
    rows: list[Row] = []
    lines: list[Line] = []
    for kind in situations.KINDS:
        points = []
        for nodes in GROWTH:
            cluster = partial(situations.document, kind, nodes, 8 * nodes, nodes, 1)
            times = apart(measured, Case(kind, cluster, None), repeat).times
            points.append((float(nodes), min(times)))
        lines.append(Line(kind, points))
        ratio = points[-1][1] / points[0][1]
        rows.append(Figure(f"from 1,000 to 10,000 nodes, {kind}", "x", (ratio,), 12))
    if svg is not None:
        svg.write_text(plot("decide(), 8 running tasks and one waiting a node", "nodes", "seconds", lines))
    return rows


def main() -> None:
    """Read the flags, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", help="cases whose name has this in it")
    parser.add_argument("--svg", type=Path, help="where to draw the growth")
    flags = parser.parse_args()
    chosen = [case for case in cases() if flags.only is None or flags.only in case.name]
    rows = figures(flags.repeat, chosen)
    if flags.only is None or "growth" in flags.only:
        rows += growth(max(1, flags.repeat // 2), flags.svg)
    show(rows)


if __name__ == "__main__":
    main()
