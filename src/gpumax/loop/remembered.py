"""What the objects of a cluster don't say and who steers it has to remember: since when gangs are below their minimum, what was promised."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from operator import attrgetter
from typing import Final

from msgspec.structs import replace

from gpumax.model.rows import difference
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import ACTIVE, Workload

Promised = Mapping[str, frozenset[str]]
"""Tasks that start when others have left, by workload."""
NOTHING: Final[Promised] = {}

_NAME: Final = attrgetter("name")


class Remembered:
    """Follows the rows of snapshots. Those that it has nothing to say about stay the same, and so do those about which it says the same."""

    def __init__(self) -> None:
        self._of: tuple[Workload, ...] = ()
        self._promised = NOTHING
        self._below: dict[str, int] = {}  # workloads below their minimum, since when
        self._made: dict[str, Workload] = {}  # rows with what memory adds to them
        self._rows: tuple[Workload, ...] = ()

    def add_to(self, snapshot: Snapshot, promised: Promised) -> Snapshot:
        """The snapshot with what its cluster doesn't say."""
        if snapshot.workloads is not self._of or promised != self._promised:
            self._follow(snapshot)
            self._promised = promised
            self._rows = self._with_memory()
        return snapshot if self._rows is self._of else replace(snapshot, workloads=self._rows)

    def _follow(self, snapshot: Snapshot) -> None:
        gone, come = difference(self._of, snapshot.workloads)
        self._of = snapshot.workloads
        below = {row.name for row in come if _below_minimum(row)}
        for row in gone:
            if row.name not in below:
                self._below.pop(row.name, None)
        for name in below:
            self._below.setdefault(name, snapshot.now_ms)

    def _with_memory(self) -> tuple[Workload, ...]:
        names = self._below.keys() | self._promised.keys()
        before, self._made = self._made, {}
        if not names:
            return self._of
        rows = list(self._of)
        for name in names:
            at = bisect_left(rows, name, key=_NAME)
            if at < len(rows) and rows[at].name == name:
                made = _made(rows[at], self._below.get(name), self._promised.get(name, frozenset()))
                known = before.get(name)
                rows[at] = self._made[name] = known if known == made else made
        return tuple(rows)


def _made(row: Workload, below_ms: int | None, promised: frozenset[str]) -> Workload:
    """The row with what memory adds to it."""
    if any(task.name in promised and task.state == "pending" for task in row.tasks):
        tasks = tuple(
            replace(task, promised=True) if task.name in promised and task.state == "pending" else task
            for task in row.tasks
        )
        row = replace(row, tasks=tasks)
    return row if below_ms is None else replace(row, stale_since_ms=below_ms)


def _below_minimum(workload: Workload) -> bool:
    """Whether some of its tasks hold room, and yet a group has fewer than its minimum."""
    if any(task.state == "succeeded" for task in workload.tasks):
        return False
    counts = Counter(task.group for task in workload.tasks if task.state in ACTIVE)
    return bool(counts) and any(counts[group.name] < group.min for group in workload.groups)
