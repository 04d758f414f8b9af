"""decide() on a small cluster, again and again as a study of a trace asks it: 88 nodes x 8 GPUs, nearly all of them held.

From one snapshot to the next the decision was carried out, a workload has ended, and as many have come as wait no more: nearly
all rows are the very objects of the snapshot before.
  followed   in this order, as a study decides
  unrelated  each snapshot read anew from its text: nothing is the same object as before
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Final

import msgspec
from msgspec.structs import replace

from clusters import DEVICES, NOW, Document, machines, queues
from gpumax.formats.snapshot import dump_snapshot, load_snapshot
from gpumax.model.decision import Decision, Place
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import Workload
from gpumax.policy.decide import decide
from gpumax.policy.forecast import NONE
from measure import Figure, Row, show

NODES: Final = 88
WAITING: Final = (1, 10, 100)
STEPS: Final = 200
WARM_UP: Final = 20
"""Workloads that are at hand for each step."""
# (part of the workloads, tasks, GPUs of a task)
MIX: Final = ((60, 1, 1), (10, 1, 2), (10, 1, 4), (14, 1, 8), (4, 2, 8), (2, 4, 8))


class Crowd:
    """Workloads as they come, one after the other."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self._number = 0

    def next(self) -> Document:
        """One that waits."""
        ((_, tasks, gpus),) = self.chance.choices(MIX, [part for part, _, _ in MIX])
        self._number += 1
        name = f"w{self._number:05d}"
        return {
            "name": name, "queue": f"team-{self.chance.randrange(4)}{self.chance.choice('abcd')}", "submitted": NOW + self._number,
            "request": {"gpu": gpus, "cpu": 4 * gpus, "memory": f"{32 * gpus}Gi"},
            "tasks": [{"name": f"{name}-{rank}", "state": "pending"} for rank in range(tasks)],
        }  # fmt: skip


def story(nodes: int, waiting: int, seed: int, steps: int) -> list[Snapshot]:
    """Successive snapshots of a full cluster on which so many wait."""
    crowd = Crowd(seed)
    document = {
        "version": "gpumax/v1", "now": NOW, "nodes": machines(nodes), "queues": queues(nodes * DEVICES),
        "workloads": [crowd.next() for _ in range(nodes * DEVICES + WARM_UP * steps)],
    }  # fmt: skip
    snapshot = load_snapshot(msgspec.json.encode(document))
    comers = iter(snapshot.workloads)
    snapshot = replace(snapshot, workloads=tuple(islice(comers, nodes * DEVICES // 2)))
    found: list[Snapshot] = []
    while len(found) < 2 * steps:
        found.append(snapshot)
        rows = _carried_out(snapshot)
        running = [row for row in rows if row.started_ms is not None]
        idle = [row for row in rows if row.started_ms is None]
        running.remove(crowd.chance.choice(running))
        idle = [*idle, *islice(comers, max(0, waiting - len(idle)))][:waiting]
        rows = sorted((*running, *idle), key=lambda row: row.name)
        snapshot = replace(snapshot, now_ms=snapshot.now_ms + 60_000, workloads=tuple(rows))
    return found[steps:]


def _carried_out(snapshot: Snapshot) -> list[Workload]:
    """The rows when the decision was carried out at once: who is evicted or moved waits again as a whole, who waits for that too."""
    decision = decide(snapshot, effort=NONE)
    gone = {eviction.task for eviction in decision.evictions}
    places = {place.task: place for place in decision.places if not place.after}
    return [_next(row, gone, places, snapshot.now_ms) for row in snapshot.workloads]


def _next(workload: Workload, gone: set[str], places: dict[str, Place], now_ms: int) -> Workload:
    tasks = workload.tasks
    if any(task.name in gone for task in tasks):
        idle = tuple(replace(task, state="pending", node=None, devices=()) for task in tasks)
        return replace(workload, tasks=idle, started_ms=None)
    if tasks[0].name not in places:
        return workload
    found = ((task, places[task.name]) for task in tasks)
    runs = [replace(task, state="running", node=place.node, devices=place.devices) for task, place in found]
    return replace(workload, tasks=tuple(runs), started_ms=now_ms)


def each(
    snapshots: Iterator[Snapshot] | list[Snapshot], work: Callable[[Snapshot], Decision]
) -> tuple[float, ...]:
    """Milliseconds of each decision, in turn."""
    times = []
    for snapshot in snapshots:
        start = time.perf_counter()
        work(snapshot)
        times.append(1000 * (time.perf_counter() - start))
    return tuple(times)


def figures(nodes: int, steps: int, repeat: int, seed: int = 1) -> list[Row]:
    """Two rows for each number of those who wait: of each step the fastest of the runs, so that the spread is that of the steps."""
    rows: list[Row] = []
    work = partial(decide, effort=NONE)
    for waiting in WAITING:
        snapshots = story(nodes, waiting, seed, steps)
        texts = [msgspec.json.encode(dump_snapshot(snapshot)) for snapshot in snapshots]
        followed = [each(snapshots, work) for _ in range(repeat)]
        unrelated = [each(map(load_snapshot, texts), work) for _ in range(repeat)]
        size = statistics.median(len(snapshot.workloads) for snapshot in snapshots) - waiting
        name = f"decide, {nodes} nodes, {size:.0f} workloads run, {waiting} wait"
        rows.append(Figure(f"{name}; followed", "ms", tuple(map(min, zip(*followed, strict=True)))))
        rows.append(Figure(f"{name}; unrelated", "ms", tuple(map(min, zip(*unrelated, strict=True)))))
    return rows


def main() -> None:
    """Read the flags, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=NODES, help="of 8 GPUs each")
    parser.add_argument("--steps", type=int, default=STEPS, help="decisions of a run")
    parser.add_argument("--repeat", type=int, default=5, help="runs")
    flags = parser.parse_args()
    show(figures(flags.nodes, flags.steps, flags.repeat))


if __name__ == "__main__":
    main()
