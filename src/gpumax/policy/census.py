"""Who of all workloads concerns a decision by itself: one look at each row, and from one snapshot to the next only at those that changed.

Rows are known by identity, which is sound because they are frozen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Final

from gpumax.model.node import Node
from gpumax.model.rows import difference
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import DeviceAsk, Task, Workload
from gpumax.policy.gang import PRESENT, present
from gpumax.policy.ties import carries

_NAME: Final = attrgetter("name")

Asked = tuple[tuple[DeviceAsk, ...], int, int]
"""What one task asks: its device alternatives, millicores, MiB."""


class Census:
    """Nobody changes it once it is made.

    Workloads are given in the order of their names.
    """

    def __init__(self, workloads: tuple[Workload, ...], before: Census | None = None) -> None:
        self.workloads = workloads
        self._before: tuple[Workload, ...] = ()
        self._gone: Sequence[Workload] = ()
        self._come: Sequence[Workload] = workloads
        self._waiting: dict[str, tuple[Workload, list[Task]]] = {}
        self._tied: set[str] = set()
        self._below: dict[str, Workload] = {}
        self._stale: dict[str, Workload] = {}
        self._timed: dict[str, Workload] = {}
        self._asked: Counter[Asked] | None = None
        if before is not None:
            self._go_on(before)
        for row in self._come:
            self._enter(row)

    def since(self, rows: tuple[Workload, ...]) -> tuple[Sequence[Workload], Sequence[Workload]]:
        """What has gone of these rows, and what has come."""
        return (self._gone, self._come) if rows is self._before else difference(rows, self.workloads)

    def waiting(self) -> list[tuple[Workload, list[Task]]]:
        """Those of which tasks wait, with these."""
        return [self._waiting[name] for name in sorted(self._waiting)]

    @property
    def tied(self) -> bool:
        """Whether any task is to stand near others, or away from them."""
        return bool(self._tied)

    def below(self) -> list[Workload]:
        """Gangs that run with less than their minimum, and of which nothing is done."""
        return sorted(self._below.values(), key=_NAME)

    def stale(self) -> list[Workload]:
        """Those of which it is known since when they are below their minimum."""
        return sorted(self._stale.values(), key=_NAME)

    def timed(self) -> list[Workload]:
        """Those of which it is known how long they run at most."""
        return sorted(self._timed.values(), key=_NAME)

    def asked(self) -> Counter[Asked]:
        """How many tasks ask for the same, of all that ask for devices."""
        if self._asked is None:
            self._asked = Counter()
            _count(self._asked, self.workloads, 1)
        return self._asked

    def _go_on(self, before: Census) -> None:
        gone, come = difference(before.workloads, self.workloads)
        if 2 * (len(gone) + len(come)) > len(self.workloads):
            return
        self._before, self._gone, self._come = before.workloads, gone, come
        self._waiting, self._tied, self._below = (
            before._waiting.copy(),
            before._tied.copy(),
            before._below.copy(),
        )
        self._stale, self._timed = before._stale.copy(), before._timed.copy()
        for row in gone:
            for table in (self._waiting, self._below, self._stale, self._timed):
                table.pop(row.name, None)
            self._tied.discard(row.name)
        if before._asked is not None:
            self._asked = before._asked.copy()
            _count(self._asked, gone, -1)
            _count(self._asked, come, 1)

    def _enter(self, row: Workload) -> None:
        name, tasks = row.name, row.tasks
        pending = [task for task in tasks if task.state == "pending"]
        if pending:
            self._waiting[name] = (row, pending)
        if [task for task in tasks if task.affinity is not None and carries(task.affinity, task.state)]:
            self._tied.add(name)
        if len(tasks) > 1 and _is_below(row):
            self._below[name] = row
        if row.stale_since_ms is not None:
            self._stale[name] = row
        if row.max_duration_ms is not None:
            self._timed[name] = row


def _is_below(row: Workload) -> bool:
    states = {task.state for task in row.tasks}
    if states.isdisjoint(PRESENT):
        return False
    if states <= PRESENT and len(row.groups) == 1:
        whole = len(row.tasks) >= row.groups[0].min
    else:
        here = present(row)
        whole = all(here.get(group.name, 0) >= group.min for group in row.groups)
    # What has come to an end doesn't come back.
    return not whole and "succeeded" not in states


def _count(asked: Counter[Asked], rows: Iterable[Workload], sign: int) -> None:
    requests = [task.request for row in rows for task in row.tasks]
    # By identity first: thousands of tasks share a few requests.
    numbers = Counter(map(id, requests))
    for key, request in dict(zip(map(id, requests), requests, strict=True)).items():
        if request.gpu:
            asked[request.gpu, request.cpu_milli, request.memory_mib] += sign * numbers[key]


class _Memory:
    """That of the last decision, and the nodes that it was made for: on others, little else is the same."""

    last: tuple[tuple[Node, ...], Census] | None = None


_MEMORY: Final = _Memory()


def census_of(snapshot: Snapshot) -> Census:
    """The census of a snapshot, made out of that of the decision before where that was about the same nodes."""
    last = _MEMORY.last
    before = last[1] if last is not None and last[0] is snapshot.nodes else None
    census = Census(snapshot.workloads, before)
    _MEMORY.last = (snapshot.nodes, census)
    return census
