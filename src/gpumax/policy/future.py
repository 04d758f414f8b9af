"""What comes after a decision: it is carried out step by step as the loop does it, and then time moves on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from gpumax.model.decision import Place
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import ACTIVE, Task, Workload
from gpumax.policy.answer import places
from gpumax.policy.runtime import preempt_ms, reclaim_ms
from gpumax.policy.timeline import end_ms
from gpumax.policy.world import World

MOST_AT_ONCE: Final = 16
"""How often one moment is decided on, until whoever had to make way has found other room."""
STEADY: Final = frozenset(("bound", "running", "succeeded", "failed"))


class Future:
    """The snapshots that follow from one another while nobody comes, and everybody runs for its max_duration.

    started: the workloads of which something started when a decision was carried out last. Inside: whether that changed
    anything, and how often it was one moment's.
    """

    def __init__(self) -> None:
        self.started: list[str] = []
        self._stirred = False
        self._times = 0

    def follow(self, world: World) -> Snapshot | None:
        """The next snapshot to decide on; None where nothing is known to end any more. world: as it was decided last."""
        snapshot = self._after(world)
        if self._stirred and self._times < MOST_AT_ONCE:
            self._times += 1
            return snapshot
        self._times = 0
        return _later(world, snapshot)

    def _after(self, world: World) -> Snapshot:
        """The same moment when a decision was carried out: who is placed runs or is promised its room, who was told to go
        is leaving, and who was leaving waits again.
        """
        found = {place.task: place for place in places(world)}
        leaves = {row.task for row in world.evictions}
        self.started = [
            name
            for name, gang in world.placed.items()
            if any(not found[spot.want.task.name].after for spot in gang.placed)
        ]
        left = any(task.state == "releasing" for work in world.snapshot.workloads for task in work.tasks)
        self._stirred = bool(self.started or leaves or left)
        now_ms = world.snapshot.now_ms
        rows = tuple([_next(work, found, leaves, now_ms) for work in world.snapshot.workloads])
        return replace(world.snapshot, workloads=rows)


def _next(workload: Workload, found: dict[str, Place], leaves: set[str], now_ms: int) -> Workload:
    if all(task.state in STEADY and task.name not in leaves for task in workload.tasks):
        return workload
    tasks = []
    for task in workload.tasks:
        place = found.get(task.name)
        if task.name in leaves:
            task = replace(task, state="releasing")
        elif task.state == "releasing":
            task = _idle(task)
        elif place is not None and not place.after:
            task = replace(task, state="running", node=place.node, devices=place.devices, promised=False)
        elif task.promised != (place is not None):
            task = replace(task, promised=place is not None)
        tasks.append(task)
    began = workload.started_ms if _runs(workload.tasks) else now_ms
    return replace(workload, tasks=tuple(tasks), started_ms=began if _runs(tasks) else None)


def _later(world: World, snapshot: Snapshot) -> Snapshot | None:
    """The snapshot at the next moment at which anything can change; None where nothing is known to end any more."""
    ends = {work.name: end for work in snapshot.workloads if (end := _end(work, snapshot.now_ms)) is not None}
    moment = min([*ends.values(), *_protection_ends(world, snapshot)], default=None)
    if moment is None:
        return None
    rows = tuple([work for work in snapshot.workloads if ends.get(work.name, moment + 1) > moment])
    return replace(snapshot, now_ms=moment, workloads=rows)


def protects(snapshot: Snapshot) -> bool:
    """Whether any work is safe for a time."""
    return any(queue.reclaim_min_runtime_ms or queue.preempt_min_runtime_ms for queue in snapshot.queues)


def stopped(workload: Workload, tasks: set[str]) -> Workload:
    """The workload with these tasks waiting; its run is over where none is left."""
    rows = tuple([_idle(task) if task.name in tasks else task for task in workload.tasks])
    return replace(workload, tasks=rows, started_ms=workload.started_ms if _runs(rows) else None)


def _idle(task: Task) -> Task:
    return replace(task, state="pending", node=None, devices=())


def _runs(tasks: tuple[Task, ...] | list[Task]) -> bool:
    return any(task.state in ACTIVE for task in tasks)


def _end(workload: Workload, now_ms: int) -> int | None:
    """When what runs ends."""
    if workload.max_duration_ms is None or not _runs(workload.tasks):
        return None
    return end_ms(workload, now_ms)


def _protection_ends(world: World, snapshot: Snapshot) -> Iterator[int]:
    """When running work will have ended a minimum runtime, whoever asks."""
    if not protects(snapshot):
        return
    accounts = world.tree.accounts
    for workload in snapshot.workloads:
        account = accounts.get(workload.queue)
        if account is None or workload.started_ms is None or workload.preemptible is not True:
            continue
        for runtime in {preempt_ms(account), *(reclaim_ms(side) for side in account.path)}:
            if workload.started_ms + runtime > snapshot.now_ms:
                yield workload.started_ms + runtime
