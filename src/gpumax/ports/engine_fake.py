"""An engine in memory: tests say when attempts begin, end and get lost. It passes the exam of every engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from gpumax.model.node import Node
from gpumax.ports.clock import Clock, ManualClock
from gpumax.ports.engine import AttemptSeen, Forget, Launch, Observation, Order, Refusal, Start, Stop

OVER: Final = ("exited", "lost")
"""States of an attempt that has nothing running any more."""


class FakeEngine:
    """Starts become true at once where `starts` is set, and so do stops where `stops` is; else when the test says so.

    launches: what every attempt was started with; orders: all that was applied, in order; refuse: why starts are refused; object: what is
    said against starts beforehand.
    An attempt is named by its id, or by the task of which it is the newest attempt.
    """

    name = "fake"

    def __init__(
        self,
        nodes: Sequence[Node] = (),
        *,
        wake: Callable[[], None] = lambda: None,
        clock: Clock | None = None,
        starts: bool = True,
        stops: bool = True,
    ) -> None:
        self.nodes = tuple(nodes)
        self.wake = wake
        self.clock = clock if clock is not None else ManualClock()
        self.starts = starts
        self.stops = stops
        self.refuse = ""
        self.object = ""
        self.launches: dict[str, Launch] = {}
        self.orders: list[Order] = []
        self.said: tuple[str, ...] = ()
        self._attempts: dict[str, AttemptSeen] = {}

    def observe(self) -> Observation:
        """The world as the test made it."""
        return Observation(
            tuple(sorted(self.nodes, key=lambda node: node.name)),
            tuple(self._attempts[attempt] for attempt in sorted(self._attempts)),
        )

    def apply(self, orders: Sequence[Order]) -> tuple[Refusal, ...]:
        """Carry the orders out as far as `starts`, `stops` and `refuse` say."""
        self.orders += orders
        return tuple(refusal for order in orders if (refusal := self._carry_out(order)) is not None)

    def objection(self, launch: Launch) -> str:
        """What the test put into `object`; that there is no command."""
        return self.object or ("" if launch.argv else "it has no command")

    def notes(self) -> tuple[str, ...]:
        """What the test put into `said`."""
        return self.said

    def close(self) -> None:
        """Nothing to let go of."""

    def run(self, attempt: str) -> None:
        """The task's process runs now."""
        self._see(attempt, state="running", started_ms=self.clock.now_ms())

    def exit(self, attempt: str, code: int = 0) -> None:
        """The attempt ended: by itself, or, where it is stopping, because it was told to."""
        told = self._find(attempt).state == "stopping"
        self._see(attempt, state="exited", exit_code=code, told=told, ended_ms=self.clock.now_ms())

    def lose(self, attempt: str, message: str = "its supervisor died") -> None:
        """The attempt's supervisor died, and all its processes are gone."""
        self._see(attempt, state="lost", message=message, ended_ms=self.clock.now_ms())

    def checkpoint(self, attempt: str) -> None:
        """The attempt wrote a checkpoint."""
        self._see(attempt, checkpointed_ms=self.clock.now_ms())

    def attempt_of(self, task: str) -> str:
        """The newest attempt of a task; KeyError where it was never started."""
        mine = [attempt for attempt, launch in self.launches.items() if launch.task == task]
        if not mine:
            raise KeyError(task)
        return mine[-1]

    def _carry_out(self, order: Order) -> Refusal | None:
        match order:
            case Start(launch):
                return self._start(launch)
            case Stop(attempt):
                self._stop(attempt)
            case Forget(attempt):
                if attempt in self._attempts and self._attempts[attempt].state in OVER:
                    del self._attempts[attempt]
        return None

    def _start(self, launch: Launch) -> Refusal | None:
        if launch.attempt in self._attempts:
            return None
        if self.refuse:
            return Refusal(launch.attempt, self.refuse)
        if launch.node not in {node.name for node in self.nodes}:
            return Refusal(launch.attempt, f"there is no node {launch.node} here")
        self.launches[launch.attempt] = launch
        self._attempts[launch.attempt] = AttemptSeen(launch.attempt, "starting")
        if self.starts:
            self.run(launch.attempt)
        return None

    def _stop(self, attempt: str) -> None:
        seen = self._attempts.get(attempt)
        if seen is None:
            # Remembered, so that a start that comes late finds it.
            self._attempts[attempt] = AttemptSeen(
                attempt,
                "exited",
                143,
                told=True,
                ended_ms=self.clock.now_ms(),
                message="stopped before it started",
            )
        elif seen.state not in OVER:
            self._see(attempt, state="stopping")
            if self.stops:
                self.exit(attempt, 143)

    def _find(self, name: str) -> AttemptSeen:
        return self._attempts[name if name in self._attempts else self.attempt_of(name)]

    def _see(self, name: str, **fields: object) -> None:
        seen = replace(self._find(name), **fields)
        self._attempts[seen.attempt] = seen
        self.wake()
