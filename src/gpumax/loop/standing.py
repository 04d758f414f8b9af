"""What `demote` and `fresh` of queues mean for the work of a cluster that keeps no account of what it has held.

What a workload has held is added up from what is seen. At first sight that is its present run, since its tasks have their places; what it held
before, and in runs that nobody saw, is not known. The account ends with the workload.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter
from typing import Final, NamedTuple

from msgspec.structs import replace

from gpumax.loop.attained import Ladder, ladders, stepped
from gpumax.model.queue import Queue
from gpumax.model.rows import difference
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import HOLDING, Workload

_NAME: Final = attrgetter("name")


class _Account(NamedTuple):
    """had: milli-device-milliseconds until since_ms; rate: milli-devices that are held since."""

    had: int
    rate: int
    since_ms: int

    def at(self, now_ms: int) -> int:
        """What it has held by now."""
        return self.had + self.rate * max(0, now_ms - self.since_ms)


class Standing:
    """Follows the rows of snapshots. Rows of which there is nothing to say stay the same. Where no queue demotes, it costs nothing.

    next_ms: the next moment at which time alone gives a workload another place in line; None where there is none.
    """

    def __init__(self) -> None:
        self.next_ms: int | None = None
        self._queues: tuple[Queue, ...] = ()
        self._ladders: dict[str, Ladder] = {}
        self._of: tuple[Workload, ...] = ()
        self._accounts: dict[str, _Account] = {}
        self._until: dict[str, int] = {}
        self._made: dict[str, Workload] = {}
        self._rows: tuple[Workload, ...] = ()

    def add_to(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with its work where it stands in line."""
        again = self._read(snapshot.queues)
        if not self._ladders:
            return snapshot
        again |= {name for name, until_ms in self._until.items() if until_ms <= snapshot.now_ms}
        if snapshot.workloads is not self._of or again:
            self._follow(snapshot, again)
        return snapshot if self._rows is snapshot.workloads else replace(snapshot, workloads=self._rows)

    def _read(self, queues: tuple[Queue, ...]) -> set[str]:
        """Which queues demote. Returns whose place may be another for that."""
        if queues is self._queues:
            return set()
        before, self._queues, self._ladders = self._ladders, queues, ladders(queues)
        if not self._ladders:
            self.next_ms, self._of = None, ()
            for table in (self._accounts, self._until, self._made):
                table.clear()
        return set() if self._ladders == before else {row.name for row in self._of}

    def _follow(self, snapshot: Snapshot, again: set[str]) -> None:
        gone, come = difference(self._of, snapshot.workloads)
        for row in come:
            self._accounts[row.name] = _account(row, self._accounts.get(row.name), snapshot.now_ms)
        changed = {row.name for row in come}
        lost = {row.name for row in gone} - changed
        for name in lost:
            for table in (self._accounts, self._until, self._made):
                table.pop(name, None)
        self._of = snapshot.workloads
        for name in changed | (again - lost):
            self._stand(self._of[bisect_left(self._of, name, key=_NAME)], snapshot.now_ms)
        self.next_ms = min(self._until.values(), default=None)
        self._rows = tuple(self._made.get(row.name, row) for row in self._of) if self._made else self._of

    def _stand(self, row: Workload, now_ms: int) -> None:
        account = self._accounts[row.name]
        made, until_ms = stepped(row, self._ladders.get(row.queue), account.at(now_ms), account.rate, now_ms)
        for table, value in ((self._made, None if made == row else made), (self._until, until_ms)):
            if value is None:
                table.pop(row.name, None)
            else:
                table[row.name] = value  # type: ignore[assignment]


def _account(row: Workload, before: _Account | None, now_ms: int) -> _Account:
    rate = sum(share.milli for task in row.tasks if task.state in HOLDING for share in task.devices)
    if before is not None:
        return _Account(before.at(now_ms), rate, now_ms)
    since_ms = row.started_ms if row.started_ms is not None else now_ms
    return _Account(rate * max(0, now_ms - since_ms), rate, now_ms)
