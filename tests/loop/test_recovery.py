"""Recovery is no special path: the loop is killed at every point where it touches the world, and the next one goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from gpumax.model.decision import Decision
from gpumax.model.records import Changes, Live
from gpumax.model.snapshot import Snapshot
from gpumax.ports.engine import Observation, Order, Refusal
from gpumax.ports.engine_fake import OVER, FakeEngine
from gpumax.ports.journal import MemoryJournal
from gpumax.ports.store_fake import MemoryStore
from loop.kit import Rig, spec


class Kill(BaseException):
    """As sudden as kill -9: no handler of the loop sees it."""


class Trap:
    """Counts the points at which a loop could die, and lets it die at one of them."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.passed = 0

    def point(self) -> None:
        self.passed += 1
        if self.passed == self.at:
            raise Kill


class TrappedStore(MemoryStore):
    """A store whose server may die before or after every call of the loop."""

    trap: Trap

    def live(self) -> Live:
        self.trap.point()
        return super().live()

    def commit(self, changes: Changes) -> None:
        self.trap.point()
        super().commit(changes)
        self.trap.point()


class TrappedEngine(FakeEngine):
    """An engine that lives on while its server dies: before, between and after the orders. It looks for doubles."""

    trap: Trap

    def observe(self) -> Observation:
        self.trap.point()
        return super().observe()

    def apply(self, orders: Sequence[Order]) -> tuple[Refusal, ...]:
        refusals: tuple[Refusal, ...] = ()
        for order in orders:
            self.trap.point()
            refusals += super().apply([order])
            self.no_doubles()
        self.trap.point()
        return refusals

    def no_doubles(self) -> None:
        """No task runs twice, and no GPU is held by more than it has."""
        alive = [
            self.launches[seen.attempt]
            for seen in FakeEngine.observe(self).attempts
            if seen.state not in OVER and seen.attempt in self.launches
        ]
        tasks = Counter(launch.task for launch in alive)
        assert max(tasks.values(), default=0) <= 1, tasks
        held: Counter[tuple[str, int]] = Counter()
        for launch in alive:
            for share in launch.devices:
                held[launch.node, share.index] += share.milli
        assert max(held.values(), default=0) <= 1000, held


class TrappedJournal(MemoryJournal):
    """A journal whose server may die before or after it writes."""

    trap: Trap

    def write(self, snapshot: Snapshot, decision: Decision) -> None:
        self.trap.point()
        super().write(snapshot, decision)
        self.trap.point()


def trapped(data: Path, at: int) -> tuple[Rig, Trap]:
    """A rig whose loop dies at the given point."""
    trap = Trap(at)
    TrappedStore.trap = TrappedEngine.trap = TrappedJournal.trap = trap
    trap.at = 0
    rig = Rig(data)
    store, engine, journal = (
        TrappedStore(),
        TrappedEngine(rig.engine.nodes, clock=rig.clock),
        TrappedJournal(),
    )
    for row in rig.store.queues():
        store.set_queue(row, now_ms=rig.clock.now_ms())
    rig.store, rig.engine, rig.journal = store, engine, journal
    rig.restart()
    trap.at, trap.passed = at, 0
    return rig, trap


def settle(rig: Rig) -> None:
    """As Rig.settle, with a new loop wherever one dies."""
    for _ in range(40):
        before = MemoryStore.live(rig.store)
        try:
            rig.loop.cycle()
        except Kill:
            rig.restart()
            continue
        if MemoryStore.live(rig.store) == before:
            return
    raise AssertionError("not settled")


def finish(rig: Rig, name: str) -> None:
    """All running tasks of a workload end well."""
    for task in rig.tasks(name):
        if task.state == "running":
            rig.engine.exit(task.attempt or "")


def leave(rig: Rig) -> None:
    """Whoever was told to go, goes."""
    for seen in FakeEngine.observe(rig.engine).attempts:
        if seen.state == "stopping":
            rig.engine.exit(seen.attempt, 143)


SHARE_AND_GIVE_BACK: list[Callable[[Rig], object]] = [
    lambda rig: rig.submit(spec("lent", "b", 1, 8, least=2)),
    lambda rig: rig.submit(spec("owner", "a", 2, 2)),
    leave,
    lambda rig: finish(rig, "owner"),
    lambda rig: rig.submit(spec("second", "a", 4)),
    leave,
    lambda rig: finish(rig, "second"),
    lambda rig: finish(rig, "lent"),
]
SUSPEND_AND_RETRY: list[Callable[[Rig], object]] = [
    lambda rig: rig.submit(spec("gang", "a", 2, 2, retries=1), spec("other", "b", 4)),
    lambda rig: rig.wish("gang", "suspend"),
    leave,
    lambda rig: rig.wish("gang", "run"),
    lambda rig: rig.engine.exit("gang-1", 1),
    leave,
    lambda rig: rig.clock.advance(1000),
    lambda rig: rig.wish("other", "delete"),
    leave,
    lambda rig: finish(rig, "gang"),
]


def play(data: Path, script: list[Callable[[Rig], object]], at: int, *, stops: bool) -> tuple[Rig, Trap]:
    """Play a script to its end; the loop dies once, at point `at`."""
    rig, trap = trapped(data, at)
    rig.engine.stops = stops
    for step in script:
        step(rig)
        settle(rig)
    leave(rig)
    settle(rig)
    return rig, trap


def outcome(rig: Rig) -> list[tuple[str, str, int, int]]:
    """What became of everything: none of it may depend on where a loop died."""
    records, _ = rig.store.page(limit=100)
    return sorted((record.name, record.state, record.failures, record.evictions) for record in records)


@pytest.mark.parametrize("stops", [True, False])
@pytest.mark.parametrize("script", [SHARE_AND_GIVE_BACK, SUSPEND_AND_RETRY], ids=["share", "suspend"])
def test_a_loop_that_dies_anywhere_loses_nothing_and_does_nothing_twice(
    tmp_path: Path, script: list[Callable[[Rig], object]], stops: bool
) -> None:
    """The same outcome as without a death, at every point; what each attempt was started with is on record before."""
    whole, trap = play(tmp_path / "0", script, 0, stops=stops)
    expected, points = outcome(whole), trap.passed
    assert points > 50
    for at in range(1, points + 1):
        rig, trap = play(tmp_path / str(at), script, at, stops=stops)
        assert trap.passed >= at
        assert outcome(rig) == expected, f"killed at point {at}"
        assert FakeEngine.observe(rig.engine).attempts == (), f"killed at point {at}"
