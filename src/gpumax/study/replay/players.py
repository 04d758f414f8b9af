"""What a policy is to a replay, and which there are: a new one is one class, and one row in the table of `table`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from gpumax.engines.simulated.course import Work
from gpumax.engines.simulated.world import World
from gpumax.model.queue import Queue
from gpumax.model.study import Scenario
from gpumax.ports.clock import ManualClock
from gpumax.ports.journal import Journal
from gpumax.study.replay.books import Books
from gpumax.study.replay.wanted import Wanted


class Stage(msgspec.Struct, frozen=True):
    """Where a policy plays. queues: the scenario's, or one for each name in its trace; leaves: those that work goes to.

    journal: where gpumax writes its decisions down, forecasts with them, as it does in earnest.
    """

    scenario: Scenario
    queues: tuple[Queue, ...]
    leaves: tuple[Queue, ...]
    world: World
    books: Books
    clock: ManualClock
    journal: Journal | None = None

    def expect(self, workload: str, work: Wanted) -> None:
        """Tell the world how the work goes of what it calls by this id."""
        saving = self.scenario.checkpoint
        self.world.works[workload] = Work(len(work.tasks), work.arrival.duration_ms, saving)


class Player(Protocol):
    """One policy at work. It begins and stops tasks in the stage's world, and is told of nothing but that time has passed."""

    def could_ever(self, work: Wanted, queue: str) -> bool:
        """Whether it would run on an empty cluster."""
        ...

    def submit(self, works: Sequence[tuple[Wanted, str]]) -> None:
        """These have come, each to its queue."""
        ...

    def settle(self) -> int:
        """Do all that follows from how things are now. Returns how many cycles that took."""
        ...

    def next_ms(self) -> int | None:
        """When time alone may change what follows; None for never."""
        ...


def paths_of(queues: Sequence[Queue]) -> dict[str, tuple[str, ...]]:
    """Each queue with all above it, by name."""
    parents = {queue.name: queue.parent for queue in queues}
    paths = {}
    for name in parents:
        path: list[str] = []
        at: str | None = name
        while at is not None and at in parents and at not in path:
            path.append(at)
            at = parents[at]
        paths[name] = tuple(path)
    return paths
