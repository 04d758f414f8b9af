"""A world in memory: nodes that fail and come back, tasks that begin, work and end, at moments that are known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import Final, Literal, Protocol

from msgspec.structs import replace

from gpumax.engines.simulated.course import FOREVER, Course, Work
from gpumax.engines.simulated.failures import outages
from gpumax.model.node import Node
from gpumax.model.study import Failures
from gpumax.model.workload import DeviceShare
from gpumax.ports.clock import ManualClock

STOPPED: Final = 143
"""The exit code of a program that ends on SIGTERM, as shells give it."""

State = Literal["starting", "running", "stopping", "exited", "lost"]


class Attempt:
    """One start of a task."""

    __slots__ = (
        "code", "course", "devices", "ended_ms", "id", "message", "node", "started_ms", "state", "task", "told", "workload"
    )  # fmt: skip

    def __init__(
        self, id_: str, task: str, workload: str, node: str, devices: tuple[DeviceShare, ...], course: Course
    ) -> None:
        self.id = id_
        self.task = task
        self.workload = workload
        self.node = node
        self.devices = devices
        self.course = course
        self.state: State = "starting"
        self.code: int | None = None
        self.told = False
        self.started_ms: int | None = None
        self.ended_ms: int | None = None
        self.message = ""

    @property
    def over(self) -> bool:
        """Whether nothing of it runs any more."""
        return self.state in ("exited", "lost")


class Witness(Protocol):
    """Whom a world tells what happens in it, the moment it happens."""

    def held(self, attempt: Attempt) -> None:
        """It has its room."""
        ...

    def goes(self, workload: str, attempts: Collection[Attempt]) -> None:
        """All tasks of a workload run: its work goes on."""
        ...

    def leaves(self, attempt: Attempt, course: Course) -> None:
        """It ends, or was told to, and counts no more for its gang, whose work rests."""
        ...

    def left(self, attempt: Attempt) -> None:
        """Its room is free."""
        ...

    def done(self, workload: str, course: Course) -> None:
        """All of a workload's work is done; its tasks leave next."""
        ...

    def node(self, node: Node) -> None:
        """A node has failed, or is back."""
        ...


class World:
    """Nodes and attempts. Time passes only by `pass_to`; everything else happens at the clock's moment.

    works: what there is to do, by workload; one that isn't there runs until it is told to go. changed: called whenever something
    is other than it was. witnesses: told of everything.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        clock: ManualClock,
        *,
        start_ms: int = 0,
        failures: Failures | None = None,
        seed: int = 0,
        witnesses: Sequence[Witness] = (),
    ) -> None:
        self.nodes = {node.name: node for node in sorted(nodes, key=lambda node: node.name)}
        self.works: dict[str, Work] = {}
        self.attempts: dict[str, Attempt] = {}
        self.witnesses = list(witnesses)
        self.changed: Callable[[], None] = lambda: None
        self._clock = clock
        self._start_ms = start_ms
        self._courses: dict[str, Course] = {}
        self._running: dict[
            str, dict[str, Attempt]
        ] = {}  # by workload: attempts that hold room and aren't leaving
        self._serial = count()
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._stirred: set[str] = set()  # attempts that aren't what they were
        self._saves: list[
            tuple[int, int, str]
        ] = []  # when a workload saves its work, and by which of its beginnings
        if failures is not None:
            for name in self.nodes:
                self._plan_outage(name, outages(name, failures, seed, clock.now_ms()))

    def next_ms(self) -> int | None:
        """The next moment at which something happens by itself; None for never."""
        return self._due[0][0] if self._due else None

    def pass_to(self, ms: int) -> None:
        """Let time pass, and let happen what is due until then, each at its own moment."""
        while self._due and self._due[0][0] <= ms:
            at_ms, _, happen = heappop(self._due)
            self._clock.advance(max(0, at_ms - self._clock.now_ms()))
            happen()
        self._clock.advance(max(0, ms - self._clock.now_ms()))

    def stirred(self, now_ms: int) -> set[str]:
        """Attempts that are not what they were when this was asked last: begun, ended, forgotten, or with work saved since."""
        while self._saves and self._saves[0][0] <= now_ms:
            _, stamp, workload = heappop(self._saves)
            course = self._courses.get(workload)
            if course is not None and course.goes and course.stamp == stamp:
                self._stirred |= self._running[workload].keys()
                self._plan_save(workload, course, now_ms)
        stirred, self._stirred = self._stirred, set()
        return stirred

    def course(self, workload: str) -> Course:
        """How a workload's work goes."""
        course = self._courses.get(workload)
        if course is None:
            course = self._courses[workload] = Course(self.works.get(workload) or Work())
        return course

    def begin(self, id_: str, task: str, workload: str, node: str, devices: tuple[DeviceShare, ...]) -> None:
        """Give a task its room. An attempt that was begun or stopped before is not begun again."""
        if id_ in self.attempts:
            return
        self._stirred.add(id_)
        course = self.course(workload)
        attempt = self.attempts[id_] = Attempt(id_, task, workload, node, devices, course)
        self._running.setdefault(workload, {})[id_] = attempt
        course.held += 1
        for witness in self.witnesses:
            witness.held(attempt)
        if self._start_ms:
            self._at(self._clock.now_ms() + self._start_ms, lambda: self._runs(attempt))
        else:
            self._runs(attempt)

    def stop(self, id_: str, grace_ms: int) -> None:
        """Have an attempt end: its program takes all of its grace."""
        attempt = self.attempts.get(id_)
        self._stirred.add(id_)
        if attempt is None:
            # Remembered, so that a start that comes late finds it.
            attempt = self.attempts[id_] = Attempt(id_, "", "", "", (), Course(Work()))
            attempt.state, attempt.code, attempt.told = "exited", STOPPED, True
            attempt.ended_ms, attempt.message = self._clock.now_ms(), "stopped before it started"
        elif attempt.state in ("starting", "running"):
            self._leaves(attempt)
            attempt.state, attempt.told = "stopping", True
            self.changed()
            if grace_ms > 0:
                self._at(self._clock.now_ms() + grace_ms, lambda: self._ends(attempt, STOPPED))
            else:
                self._ends(attempt, STOPPED)

    def end(self, id_: str, code: int) -> None:
        """Have an attempt end by itself, now."""
        attempt = self.attempts[id_]
        self._leaves(attempt)
        self._ends(attempt, code)

    def lose(self, id_: str, message: str) -> None:
        """Have an attempt be gone, without a word of its own."""
        attempt = self.attempts[id_]
        if not attempt.over:
            self._leaves(attempt)
            self._over(attempt, "lost")
            attempt.message = message

    def forget(self, id_: str) -> None:
        """Drop an attempt that has ended."""
        if id_ in self.attempts and self.attempts[id_].over:
            del self.attempts[id_]
            self._stirred.add(id_)

    def _at(self, ms: int, happen: Callable[[], None]) -> None:
        heappush(self._due, (ms, next(self._serial), happen))

    def _runs(self, attempt: Attempt) -> None:
        if attempt.state != "starting":
            return
        now_ms = self._clock.now_ms()
        attempt.state, attempt.started_ms = "running", now_ms
        self._stirred.add(attempt.id)
        self.changed()
        course = attempt.course
        course.running += 1
        if course.running == course.work.tasks and not course.goes:
            done_ms = course.go(now_ms)
            self._plan_save(attempt.workload, course, now_ms)
            for witness in self.witnesses:
                witness.goes(attempt.workload, self._running[attempt.workload].values())
            if course.work.duration_ms < FOREVER:
                stamp = course.stamp
                self._at(done_ms, lambda: self._done(attempt.workload, course, stamp))

    def _plan_save(self, workload: str, course: Course, now_ms: int) -> None:
        saves_ms = course.next_checkpoint_ms(now_ms)
        if saves_ms is not None:
            heappush(self._saves, (saves_ms, course.stamp, workload))

    def _done(self, workload: str, course: Course, stamp: int) -> None:
        """All of its work is done, unless it was stopped since."""
        if course.stamp != stamp or not course.goes:
            return
        course.finish()
        for witness in self.witnesses:
            witness.done(workload, course)
        for attempt in tuple(self._running[workload].values()):
            self._leaves(attempt)
            self._ends(attempt, 0)
        del self._courses[workload]

    def _leaves(self, attempt: Attempt) -> None:
        """It counts no more for its gang, whose work rests."""
        mine = self._running.get(attempt.workload, {})
        if attempt.id not in mine:
            return
        course = attempt.course
        if course.goes:
            course.rest(self._clock.now_ms())
        for witness in self.witnesses:
            witness.leaves(attempt, course)
        del mine[attempt.id]
        if not mine:
            del self._running[attempt.workload]
        course.held -= 1
        course.running -= attempt.state == "running"

    def _ends(self, attempt: Attempt, code: int) -> None:
        if not attempt.over:
            attempt.code = code
            self._over(attempt, "exited")

    def _over(self, attempt: Attempt, state: State) -> None:
        attempt.state, attempt.ended_ms = state, self._clock.now_ms()
        self._stirred.add(attempt.id)
        for witness in self.witnesses:
            witness.left(attempt)
        self.changed()

    def _plan_outage(self, name: str, times: Iterator[tuple[int, int]]) -> None:
        fails_ms, back_ms = next(times)
        self._at(fails_ms, lambda: self._fails(name, back_ms, times))

    def _fails(self, name: str, back_ms: int, times: Iterator[tuple[int, int]]) -> None:
        self._set_ready(name, ready=False)
        for attempt in [row for row in self.attempts.values() if row.node == name and not row.over]:
            self.lose(attempt.id, f"node {name} failed")

        def back() -> None:
            self._set_ready(name, ready=True)
            self._plan_outage(name, times)

        self._at(back_ms, back)

    def _set_ready(self, name: str, *, ready: bool) -> None:
        node = self.nodes[name] = replace(self.nodes[name], ready=ready)
        for witness in self.witnesses:
            witness.node(node)
        self.changed()
