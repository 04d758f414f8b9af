"""When time alone may change a decision."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from gpumax.model.queue import Queue
from gpumax.model.rows import difference
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import ACTIVE, Workload

FEW: Final = 64
"""Up to so many moments each finds its place by itself; of more all are sorted."""


class _Moments:
    """Moments in their order, each as often as it was added."""

    def __init__(self) -> None:
        self._sorted: list[int] = []

    def change(self, fewer: Iterable[int], more: Iterable[int]) -> None:
        """Take some out and put others in."""
        for moment in fewer:
            del self._sorted[bisect_left(self._sorted, moment)]
        come = list(more)
        if len(come) < FEW:
            for moment in come:
                insort(self._sorted, moment)
        else:
            self._sorted = sorted(self._sorted + come)

    def after(self, moment: int) -> int | None:
        """The first one that is later."""
        at = bisect_right(self._sorted, moment)
        return self._sorted[at] if at < len(self._sorted) else None


class Upcoming:
    """What of the rows a moment hangs on; from one snapshot to the next only those that changed are read."""

    def __init__(self) -> None:
        self._rows: tuple[Workload, ...] = ()
        self._queues: tuple[Queue, ...] = ()
        self._runtimes: dict[str, frozenset[int]] = {}  # of queues that protect work for some time
        self._stale = _Moments()  # since when gangs are below their minimum
        self._waiting = _Moments()  # since when work waits
        self._waits = 0
        self._timed = 0  # of how much that runs it is known when it ends
        self._started: dict[str, _Moments] = {}  # since when work runs that may be evicted, by queue

    def next_ms(self, snapshot: Snapshot) -> int | None:
        """The next moment at which a gang below its minimum, or running work whose room others wait for, loses protection, or
        waiting work gets a reservation.
        """
        self._follow(snapshot)
        now_ms, policy = snapshot.now_ms, snapshot.policy
        moments = [
            _later(self._stale, now_ms, policy.stale_grace_ms),
            # Only ends that are known give reservations.
            _later(self._waiting, now_ms, policy.reserve_after_ms + 1) if self._timed else None,
        ]
        if self._waits:
            moments += [
                _later(self._started[name], now_ms, runtime_ms)
                for name, runtimes in self._runtimes.items()
                if name in self._started
                for runtime_ms in runtimes
            ]
        return min((moment for moment in moments if moment is not None), default=None)

    def _follow(self, snapshot: Snapshot) -> None:
        if snapshot.queues is not self._queues:
            self._queues = snapshot.queues
            queues = {queue.name: queue for queue in snapshot.queues}
            found = {name: _runtimes(queues, name) for name in queues}
            self._runtimes = {name: runtimes for name, runtimes in found.items() if runtimes}
            self._started = {}
            if self._runtimes:
                self._start((), self._rows)
        gone, come = difference(self._rows, snapshot.workloads)
        self._rows = snapshot.workloads
        self._stale.change(*(_stale_since(rows) for rows in (gone, come)))
        self._waiting.change(*(_waiting_since(rows) for rows in (gone, come)))
        for rows, sign in ((gone, -1), (come, 1)):
            self._waits += sign * sum(1 for _ in _waiting_since(rows))
            self._timed += sign * sum(1 for row in rows if row.max_duration_ms is not None and _active(row))
        if self._runtimes:
            self._start(gone, come)

    def _start(self, gone: Iterable[Workload], come: Iterable[Workload]) -> None:
        """Since when work runs; only looked at where queues protect it."""
        fewer, more = _running_since(gone), _running_since(come)
        for name in fewer.keys() | more.keys():
            started = self._started.setdefault(name, _Moments())
            started.change(fewer.get(name, ()), more.get(name, ()))


def _later(since: _Moments, now_ms: int, long_ms: int) -> int | None:
    """When the next of these will be that long ago."""
    found = since.after(now_ms - long_ms)
    return None if found is None else found + long_ms


def _active(row: Workload) -> bool:
    return any(task.state in ACTIVE for task in row.tasks)


def _stale_since(rows: Iterable[Workload]) -> Iterator[int]:
    return (row.stale_since_ms for row in rows if row.stale_since_ms is not None)


def _waiting_since(rows: Iterable[Workload]) -> Iterator[int]:
    return (row.submitted_ms for row in rows if any(task.state == "pending" for task in row.tasks))


def _running_since(rows: Iterable[Workload]) -> dict[str, list[int]]:
    """By queue; extras of work that is never evicted as a whole are not protected."""
    found: dict[str, list[int]] = {}
    for row in rows:
        if row.started_ms is not None and row.preemptible is True and _active(row):
            found.setdefault(row.queue, []).append(row.started_ms)
    return found


def _runtimes(queues: Mapping[str, Queue], name: str) -> frozenset[int]:
    """All minimum runtimes that may protect work of a queue: which one does, depends on who asks."""
    found = set()
    queue = queues.get(name)
    preempt_ms: int | None = None  # the nearest that is set
    while queue is not None:
        if preempt_ms is None and queue.preempt_min_runtime_ms is not None:
            preempt_ms = queue.preempt_min_runtime_ms
            found.add(preempt_ms)
        if queue.reclaim_min_runtime_ms is not None:
            found.add(queue.reclaim_min_runtime_ms)
        queue = queues.get(queue.parent) if queue.parent is not None else None
    return frozenset(found)
