"""The moment at which the broker wakes up: whatever it's changed to and when, it is neither missed nor come by early."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from gpumax.broker.node.alarm import SECOND, Alarm


@dataclass
class Timer:
    at: int
    look: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class World:
    """A clock that is told to move, with the timers that run by it."""

    now: int = 0
    timers: list[Timer] = field(default_factory=list)
    rung: list[tuple[int, int]] = field(default_factory=list)

    def clock(self) -> int:
        return self.now

    def call_later(self, delay: float, look: Callable[[], None]) -> Timer:
        self.timers.append(Timer(self.now + round(delay * SECOND), look))
        return self.timers[-1]

    def move(self, by: int) -> None:
        end = self.now + by
        while ready := [each for each in self.timers if not each.cancelled and each.at <= end]:
            first = min(ready, key=lambda each: each.at)
            self.timers.remove(first)
            self.now = max(self.now, first.at)
            first.look()
        self.now = end

    def alarm(self) -> Alarm:
        return Alarm(self.clock, self.call_later, lambda due: self.rung.append((due, self.now)))


steps = st.lists(st.tuples(st.integers(0, 50), st.integers(-5, 60) | st.none()), max_size=40)


@given(steps)
def test_each_moment_that_is_not_replaced_is_rung_for_just_then(moves: list[tuple[int, int | None]]) -> None:
    world, due = World(), None
    alarm, wanted = world.alarm(), list[tuple[int, int]]()
    for by, ahead in moves:
        if due is not None and max(due[0], due[1]) <= world.now + by:
            wanted.append((due[0], max(due)))
            due = None
        world.move(by)
        if ahead is not None:
            due = (world.now + ahead, world.now)
            alarm.set(due[0])
        assert world.rung == wanted
    if due is not None:
        wanted.append((due[0], max(due)))
    world.move(1000)
    assert world.rung == wanted


def test_a_moment_that_is_put_off_needs_no_new_timer() -> None:
    world = World()
    alarm = world.alarm()
    for at in range(100, 200):
        alarm.set(at)
    assert len(world.timers) == 1
    world.move(500)
    assert world.rung == [(199, 199)]


def test_once_stopped_it_never_rings() -> None:
    world = World()
    alarm = world.alarm()
    alarm.set(100)
    alarm.stop()
    world.move(500)
    assert world.rung == []
