"""What is written down while a scenario is played: who waited, who held what, what was lost. It only watches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from gpumax.engines.simulated.course import Course
from gpumax.engines.simulated.world import Attempt
from gpumax.model.node import Node
from gpumax.model.workload import Request
from gpumax.ports.clock import Clock
from gpumax.study.replay.curve import Curve
from gpumax.study.replay.wanted import Wanted

STEPS: Final = 240
"""Into so many equal steps the window is cut for pictures."""
MOST_STEPS: Final = 4 * STEPS
"""So many steps are kept, where a run goes on after its window."""


class Tale:
    """What became of one workload. waited_ms: all time in which not all of its tasks had room, waits after evictions included."""

    __slots__ = (
        "attempts", "ended_ms", "evicted", "goes", "holds", "lost_ms", "queue", "size", "started_ms", "waited_ms", "waits_from_ms",
        "work",
    )  # fmt: skip

    def __init__(self, work: Wanted, queue: str) -> None:
        self.work = work
        self.queue = queue
        self.size = sum(number for number, _ in work.groups)
        self.waits_from_ms: int | None = work.arrival.submitted_ms
        self.waited_ms = 0
        self.ended_ms: int | None = None
        self.evicted = 0  # tasks
        self.lost_ms = 0  # spent on work that had been done before, and on restarts
        self.goes = False
        self.started_ms = 0  # of this run
        self.holds = [0, 0, 0]  # milli-devices, millicores, MiB
        self.attempts: dict[str, Attempt] = {}  # that have room and aren't leaving

    def request_of(self, attempt: Attempt) -> Request:
        """What the task of an attempt asks for."""
        return self.work.requests[int(attempt.task.rpartition("-")[2])]

    def parts(self) -> Iterator[tuple[Attempt, Request]]:
        """What has room, and what it asked for."""
        return ((attempt, self.request_of(attempt)) for attempt in self.attempts.values())


class Books:
    """The witness of a run."""

    def __init__(
        self, clock: Clock, paths: Mapping[str, tuple[str, ...]], from_ms: int, window_ms: int
    ) -> None:
        """paths: each queue with all above it, by name. The window begins at from_ms."""
        self._clock = clock
        self._paths = paths
        self.from_ms = from_ms
        self.window_ms = window_ms
        self.step_ms = max(1000, -(-window_ms // STEPS))
        self.tales: dict[str, Tale] = {}  # by workload's name
        self.waiting: dict[str, Tale] = {}
        self.requested, self.allocated, self.queued = self._curve(), self._curve(), self._curve()
        self.by_queue: dict[str, Curve] = {
            name: self._curve() for name in paths
        }  # requested and running, by queue
        self.holds: dict[str, list[int]] = {
            name: [0, 0, 0] for name in paths
        }  # as Tale.holds, by queue, those below included
        self.evictions: Counter[str] = Counter()
        self.leaving: dict[str, Attempt] = {}  # told to go, and still there
        self.ended = 0
        self._by_workload: dict[str, Tale] = {}  # by what the world calls it
        self._by_task: dict[str, Tale] = {}
        self._holders: dict[tuple[str, int], int] = {}  # by node and device

    def _curve(self) -> Curve:
        return Curve(self.from_ms, self.from_ms + self.window_ms, self.step_ms, MOST_STEPS)

    def came(self, work: Wanted, queue: str) -> None:
        """A workload has been submitted."""
        tale = self.tales[work.name] = Tale(work, queue)
        self.waiting[work.name] = tale
        for task in work.tasks:
            self._by_task[task] = tale
        self.queued.add(1, self._clock.now_ms())

    def tale_of(self, task: str) -> Tale:
        """The workload of a task."""
        return self._by_task[task]

    def evicted(self, task: str, cause: str) -> None:
        """A task was evicted."""
        self.evictions[cause] += 1
        self._by_task[task].evicted += 1

    def waits_ms(self) -> Iterator[int]:
        """For how long each workload has waited until now."""
        now_ms = self._clock.now_ms()
        for tale in self.tales.values():
            yield tale.waited_ms + (0 if tale.waits_from_ms is None else now_ms - tale.waits_from_ms)

    def ages_ms(self) -> Iterator[int]:
        """For how long each workload has been there: to its end, or until now."""
        now_ms = self._clock.now_ms()
        for tale in self.tales.values():
            yield (now_ms if tale.ended_ms is None else tale.ended_ms) - tale.work.arrival.submitted_ms

    def running(self) -> Iterator[Tale]:
        """The workloads that have room for any of their tasks."""
        return iter(self._by_workload.values())

    def staying(self) -> Iterator[tuple[Attempt, Request]]:
        """All tasks that have room and aren't leaving."""
        return (part for tale in self._by_workload.values() for part in tale.parts())

    def close(self) -> None:
        """The run is over: whoever still waits has waited until now."""
        now_ms = self._clock.now_ms()
        for tale in self.waiting.values():
            if tale.waits_from_ms is not None:
                tale.waited_ms += now_ms - tale.waits_from_ms
                tale.waits_from_ms = now_ms
        for curve in (self.requested, self.allocated, self.queued, *self.by_queue.values()):
            curve.pass_to(now_ms)

    # What the world tells

    def held(self, attempt: Attempt) -> None:
        """See Witness."""
        now_ms = self._clock.now_ms()
        tale = self._by_task[attempt.task]
        tale.attempts[attempt.id] = attempt
        self._by_workload[attempt.workload] = tale
        self._hold(tale, attempt, 1)
        if len(tale.attempts) == tale.size and tale.waits_from_ms is not None:
            tale.waited_ms += now_ms - tale.waits_from_ms
            tale.waits_from_ms, tale.started_ms = None, now_ms
            del self.waiting[tale.work.name]
            self.queued.add(-1, now_ms)
        taken = 0
        for share in attempt.devices:
            key = (attempt.node, share.index)
            holders = self._holders.get(key, 0)
            self._holders[key] = holders + 1
            taken += not holders
        if taken:
            self.allocated.add(taken, now_ms)

    def goes(self, workload: str, attempts: Collection[Attempt]) -> None:
        """See Witness."""
        tale = self._by_workload[workload]
        tale.goes = True
        self._count(tale, 1)

    def leaves(self, attempt: Attempt, course: Course) -> None:
        """See Witness."""
        tale = self._by_task[attempt.task]
        self._rests(tale, course)
        del tale.attempts[attempt.id]
        self._hold(tale, attempt, -1)
        self.leaving[attempt.id] = attempt
        if tale.ended_ms is None and tale.waits_from_ms is None:
            tale.waits_from_ms = self._clock.now_ms()
            self.waiting[tale.work.name] = tale
            self.queued.add(1, tale.waits_from_ms)

    def left(self, attempt: Attempt) -> None:
        """See Witness."""
        del self.leaving[attempt.id]
        if attempt.state == "lost":
            self.evicted(attempt.task, "failure")
        freed = 0
        for share in attempt.devices:
            key = (attempt.node, share.index)
            self._holders[key] -= 1
            freed += not self._holders[key]
        if freed:
            self.allocated.add(-freed, self._clock.now_ms())

    def done(self, workload: str, course: Course) -> None:
        """See Witness."""
        tale = self._by_workload.pop(workload)
        tale.ended_ms = self._clock.now_ms()
        self._rests(tale, course)
        self.ended += 1

    def node(self, node: Node) -> None:
        """See Witness."""

    def _hold(self, tale: Tale, attempt: Attempt, sign: int) -> None:
        request = tale.request_of(attempt)
        amounts = (sum(share.milli for share in attempt.devices), request.cpu_milli, request.memory_mib)
        for held in (tale.holds, *(self.holds[name] for name in self._paths[tale.queue])):
            for position, amount in enumerate(amounts):
                held[position] += sign * amount

    def _rests(self, tale: Tale, course: Course) -> None:
        tale.lost_ms = course.repeated_ms + course.restarting_ms
        if tale.goes:
            tale.goes = False
            self._count(tale, -1)

    def _count(self, tale: Tale, sign: int) -> None:
        now_ms = self._clock.now_ms()
        self.requested.add(sign * tale.work.milli, now_ms)
        self.by_queue[tale.queue].add(sign * tale.work.milli, now_ms)
