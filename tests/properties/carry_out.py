"""A decision carried out on a snapshot, as a simulated engine would."""

from __future__ import annotations

from msgspec.structs import replace

from gpumax.model.decision import Decision, Place
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import ACTIVE, Task, Workload


class Chain:
    """One decision after the other, as the loop makes them: what was promised is written into the next snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    @property
    def leaving(self) -> bool:
        """Whether anybody holds room that it is about to leave."""
        return any(
            task.state == "releasing" for workload in self.snapshot.workloads for task in workload.tasks
        )

    def carry_out(self, decision: Decision) -> None:
        """The next state: whoever was leaving has left and waits, victims are leaving, those with room now run."""
        places = {place.task: place for place in decision.places if not place.after}
        promised = {place.task for place in decision.places if place.after}
        leaves = {eviction.task for eviction in decision.evictions}

        def after(task: Task) -> Task:
            if task.name in leaves:
                return replace(task, state="releasing")
            if task.state == "releasing":
                return replace(task, state="pending", node=None, devices=())
            return replace(_placed(task, places), promised=task.name in promised)

        now_ms = self.snapshot.now_ms
        rows = [_started(w, tuple(map(after, w.tasks)), now_ms) for w in self.snapshot.workloads]
        self.snapshot = _with(self.snapshot, rows)


def done(snapshot: Snapshot, decision: Decision) -> Snapshot:
    """The state when all of the decision has come true. Who made way is gone, and asks for nothing in its workload.

    What waits of work that stands together and moved is placed where it stands, once it stands there: not looked at here.
    """
    places = {place.task: place for place in decision.places}
    evictions = {eviction.task: eviction for eviction in decision.evictions}
    lost = {
        workload.name
        for workload in snapshot.workloads
        for task in workload.tasks
        if task.name in evictions
        and (evictions[task.name].restarts_on is None or workload.topology is not None)
    }

    def after(workload: Workload, task: Task) -> Task:
        eviction = evictions.get(task.name)
        if eviction is not None and eviction.restarts_on is not None:
            return replace(task, node=eviction.restarts_on, devices=eviction.devices)
        if task.state == "releasing" or eviction is not None:
            return replace(task, state="gated", node=None, devices=())
        if task.state == "pending" and task.name not in places and workload.name in lost:
            return replace(task, state="gated")
        return _placed(task, places)

    rows = [
        _started(w, tuple(after(w, task) for task in w.tasks), snapshot.now_ms) for w in snapshot.workloads
    ]
    return _with(snapshot, rows)


def _placed(task: Task, places: dict[str, Place]) -> Task:
    place = places.get(task.name)
    if place is None:
        return task
    return replace(task, state="running", node=place.node, devices=place.devices)


def _started(workload: Workload, tasks: tuple[Task, ...], now_ms: int) -> Workload:
    """A run begins with its first task, and is over when none is left."""
    began = workload.started_ms if any(task.state in ACTIVE for task in workload.tasks) else now_ms
    runs = any(task.state in ACTIVE for task in tasks)
    return replace(workload, tasks=tasks, started_ms=began if runs else None)


def _with(snapshot: Snapshot, workloads: list[Workload]) -> Snapshot:
    return replace(snapshot, workloads=tuple(workloads))
