"""The engine of studies: the world is in memory, and time passes when it is told to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gpumax.engines.simulated.world import Attempt, World
from gpumax.model.node import Node
from gpumax.ports.clock import Clock
from gpumax.ports.engine import AttemptSeen, Forget, Launch, Observation, Order, Refusal, Start, Stop


class SimulatedEngine:
    """Carries orders out in a world; somebody else lets its time pass."""

    name = "simulated"

    def __init__(self, world: World, clock: Clock, *, wake: Callable[[], None] = lambda: None) -> None:
        self.world = world
        self.world.changed = wake
        self._clock = clock
        self._seen: dict[str, AttemptSeen] = {}  # as it was told last
        self._told: tuple[AttemptSeen, ...] = ()
        self._nodes: tuple[Node, ...] = ()

    def observe(self) -> Observation:
        """The world at the clock's moment. What hasn't changed is the same object as before."""
        now_ms = self._clock.now_ms()
        attempts = self.world.attempts
        stirred = self.world.stirred(now_ms)
        for id_ in stirred:
            attempt = attempts.get(id_)
            if attempt is None:
                self._seen.pop(id_, None)
            else:
                self._seen[id_] = _seen(attempt, self._seen.get(id_), now_ms)
        if stirred:
            self._told = tuple(map(self._seen.__getitem__, sorted(self._seen)))
        nodes = tuple(self.world.nodes.values())
        if nodes != self._nodes:
            self._nodes = nodes
        return Observation(self._nodes, self._told)

    def apply(self, orders: Sequence[Order]) -> tuple[Refusal, ...]:
        """Carry the orders out; starts become true when the world's tasks have begun."""
        return tuple(refusal for order in orders if (refusal := self._carry_out(order)) is not None)

    def objection(self, launch: Launch) -> str:
        """Only that there is no command: nothing else can be known against a start in a world of no files."""
        return "" if launch.argv else "it has no command"

    def notes(self) -> tuple[str, ...]:
        """What a user should know of it."""
        return ("nothing really runs: the engine is simulated",)

    def close(self) -> None:
        """Nothing to let go of."""

    def _carry_out(self, order: Order) -> Refusal | None:
        match order:
            case Start(launch):
                return self._start(launch)
            case Stop(attempt, grace_ms):
                self.world.stop(attempt, grace_ms)
            case Forget(attempt):
                self.world.forget(attempt)
        return None

    def _start(self, launch: Launch) -> Refusal | None:
        if launch.attempt in self.world.attempts:
            return None
        node = self.world.nodes.get(launch.node)
        if node is None:
            return Refusal(launch.attempt, f"there is no node {launch.node} here")
        if not node.ready:
            return Refusal(launch.attempt, f"node {launch.node} has failed")
        self.world.begin(launch.attempt, launch.task, launch.workload, launch.node, launch.devices)
        return None


def _seen(attempt: Attempt, before: AttemptSeen | None, now_ms: int) -> AttemptSeen:
    saved_ms = attempt.course.checkpointed_ms(now_ms)
    if before is not None and before.state == attempt.state:
        if saved_ms is None or saved_ms == before.checkpointed_ms:
            return before
    elif saved_ms is None and before is not None:
        saved_ms = before.checkpointed_ms
    return AttemptSeen(
        attempt.id,
        attempt.state,
        attempt.code,
        told=attempt.told,
        started_ms=attempt.started_ms,
        ended_ms=attempt.ended_ms,
        checkpointed_ms=saved_ms,
        message=attempt.message,
    )
