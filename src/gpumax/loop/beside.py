"""What another scheduler of the same cluster does, held against what we would have done. Nothing here is carried out.

Both look at the same cluster, but never at the very same moment. So where something was done that we didn't decide last, it is asked what we would
decide now if all that was done since our last look had not been done yet; only what neither answer explains is a difference. And what we
decided and nobody does is a difference only after a while.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Literal, NamedTuple

from msgspec.structs import replace

from gpumax.model.decision import Decision
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import ACTIVE, Task, Workload

WAIT_MS: Final = 10_000
"""For so long the other may take to do what we decided."""

Kind = Literal["elsewhere", "started", "waits", "evicted", "stays"]


class Difference(NamedTuple):
    """One task that was treated otherwise than we would have. ours, theirs: where it goes, or what becomes of it, in words; why: ours.

    elsewhere: on another node. started: we would have it wait. waits: we would have started it. evicted: we would let it stay. stays: we would
    evict it.
    """

    now_ms: int
    kind: Kind
    task: str
    workload: str
    queue: str
    ours: str
    theirs: str
    why: str = ""


class _Answer(NamedTuple):
    """What we last said of a task. node: empty where it waits; since_ms: since when we say so."""

    node: str
    why: str
    since_ms: int


class _Moved(NamedTuple):
    """Tasks of a workload of which something was done since the last look. before: the tasks that left, as they were."""

    workload: Workload
    came: tuple[Task, ...]
    before: tuple[Task, ...]


class Beside:
    """Held against each look in its turn. gone: why the other told a task to go; empty where it didn't."""

    def __init__(
        self, think: Callable[[Snapshot], Decision], gone: Callable[[str], str], wait_ms: int = WAIT_MS
    ) -> None:
        self._think = think
        self._gone = gone
        self._wait_ms = wait_ms
        self._rows: dict[str, Workload] | None = None
        self._starts: dict[str, _Answer] = {}
        self._stops: dict[str, _Answer] = {}
        self._late: set[str] = set()  # of whom it was said that nothing happens
        self.counts: Counter[str] = Counter()
        """How often we agreed (`same`), and how often not, by kind."""

    def look(self, snapshot: Snapshot, decision: Decision) -> list[Difference]:
        """What is new. decision: ours on this snapshot."""
        moved = [] if self._rows is None else list(self._moved(snapshot, self._rows))
        found = list(self._held_against(snapshot, moved)) if moved else []
        self._rows = {row.name: row for row in snapshot.workloads}
        self._remember(snapshot, decision)
        found += self._undone(snapshot)
        self.counts.update(row.kind for row in found)
        return found

    def _moved(self, snapshot: Snapshot, rows: Mapping[str, Workload]) -> Iterator[_Moved]:
        for row in snapshot.workloads:
            old = rows.get(row.name)
            if old is row:
                continue
            were = {task.name: task for task in old.tasks} if old is not None else {}
            came = tuple(
                task
                for task in row.tasks
                if task.state in ACTIVE and ((was := were.get(task.name)) is None or was.state not in ACTIVE)
            )
            before = _left(were.values(), row, self._gone)
            if came or before:
                yield _Moved(row, came, before)
        names = {row.name for row in snapshot.workloads}
        for name, old in rows.items():
            if name not in names and (before := _left(old.tasks, None, self._gone)):
                yield _Moved(replace(old, tasks=()), (), before)

    def _held_against(self, snapshot: Snapshot, moved: list[_Moved]) -> Iterator[Difference]:
        again: Decision | None = None
        for row in moved:
            for task in row.came:
                answer = self._starts.get(task.name)
                if answer is not None and answer.node == task.node:
                    self.counts["same"] += 1
                    continue
                again = again or self._think(_undo(snapshot, moved))
                yield from self._counted(self._other_start(snapshot, row.workload, task, again))
            for task in row.before:
                if task.name in self._stops:
                    self.counts["same"] += 1
                    continue
                again = again or self._think(_undo(snapshot, moved))
                yield from self._counted(self._other_end(snapshot, row.workload, task, again))

    def _counted(self, difference: Difference | None) -> Iterator[Difference]:
        if difference is None:
            self.counts["same"] += 1
        else:
            yield difference

    def _other_start(
        self, snapshot: Snapshot, row: Workload, task: Task, again: Decision
    ) -> Difference | None:
        """How the start of a task differs from this decision."""
        of, theirs = (task.name, row.name, row.queue), task.node or ""
        place = next((one for one in again.places if one.task == task.name and not one.after), None)
        if place is not None and place.node == theirs:
            return None
        if place is not None:
            return Difference(snapshot.now_ms, "elsewhere", *of, place.node, theirs)
        hold = next((one for one in again.holds if one.workload == row.name), None)
        ours, why = (hold.code, hold.message) if hold is not None else ("WaitsForEvictions", "")
        return Difference(snapshot.now_ms, "started", *of, ours, theirs, why)

    def _other_end(self, snapshot: Snapshot, row: Workload, task: Task, again: Decision) -> Difference | None:
        """The same of the end of one."""
        if any(one.task == task.name for one in again.evictions):
            return None
        theirs = f"evicted ({self._gone(task.name)})"
        return Difference(snapshot.now_ms, "evicted", task.name, row.name, row.queue, "stays", theirs)

    def _remember(self, snapshot: Snapshot, decision: Decision) -> None:
        """What we say of those who wait, and of those who should go, and since when."""
        starts = {place.task: (place.node, "") for place in decision.places if not place.after}
        stops = {row.task: ("", f"{row.cause} for {row.beneficiary}") for row in decision.evictions}
        self._starts = _since(starts, self._starts, snapshot.now_ms)
        self._stops = _since(stops, self._stops, snapshot.now_ms)
        self._late &= starts.keys() | stops.keys()

    def _undone(self, snapshot: Snapshot) -> Iterator[Difference]:
        """What we have said for long, and nobody does."""
        late = {
            task
            for said in (self._starts, self._stops)
            for task, answer in said.items()
            if snapshot.now_ms - answer.since_ms >= self._wait_ms
        } - self._late
        if not late:
            return
        self._late |= late
        for row in snapshot.workloads:
            for task in row.tasks:
                if task.name in late:
                    names = (task.name, row.name, row.queue)
                    start = self._starts.get(task.name)
                    if start is not None:
                        yield Difference(snapshot.now_ms, "waits", *names, start.node, "waits")
                    else:
                        why = self._stops[task.name].why
                        yield Difference(snapshot.now_ms, "stays", *names, "evicted", "stays", why)


def _left(tasks: Iterable[Task], row: Workload | None, gone: Callable[[str], str]) -> tuple[Task, ...]:
    """Tasks that held room, and were told to go by the other since."""
    stay = {task.name for task in row.tasks if task.state in ACTIVE} if row is not None else set()
    return tuple(task for task in tasks if task.state in ACTIVE and task.name not in stay and gone(task.name))


def _undo(snapshot: Snapshot, moved: list[_Moved]) -> Snapshot:
    """As if nothing of it had been done yet."""
    rows = {row.name: row for row in snapshot.workloads}
    for row in moved:
        came = {task.name for task in row.came}
        back = {task.name: task for task in row.before}
        tasks = [
            replace(task, state="pending", node=None, devices=()) if task.name in came else back.pop(task.name, task)
            for task in row.workload.tasks
        ]  # fmt: skip
        tasks += back.values()
        active = any(task.state in ACTIVE for task in tasks)
        started_ms = row.workload.started_ms if active else None
        rows[row.workload.name] = replace(row.workload, tasks=tuple(tasks), started_ms=started_ms)
    return replace(snapshot, workloads=tuple(rows[name] for name in sorted(rows)))


def _since(
    said: Mapping[str, tuple[str, str]], before: Mapping[str, _Answer], now_ms: int
) -> dict[str, _Answer]:
    return {
        task: _Answer(node, why, before[task].since_ms if task in before else now_ms)
        for task, (node, why) in said.items()
    }
