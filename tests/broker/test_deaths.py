"""Whoever dies, stops or says nothing any more, at whatever step: the others go on, and nothing is granted twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broker.world import GIB, MS, SECOND, Process, World, group
from gpumax.broker.core import events as ev
from gpumax.broker.core.shapes import Settings, Stuck
from gpumax.broker.words import LeaseState, Mode
from thorough import examples

Blow = Callable[[World, Process], None]


def crowd(settings: Settings | None = None) -> World:
    """Three who take turns in everything: two that swap each other out, and an owner that comes now and then."""
    specs = [
        group("a", 300, limit=10 * GIB), group("b", 300, limit=10 * GIB),
        group("owner", 300, mode=Mode.STRICT, guarantee=4 * GIB),
    ]  # fmt: skip
    quick = settings or Settings(pool_bytes=1 << 50, longest_quantum_ns=300 * MS, serial_ns=SECOND)
    world = World(specs, settings=quick, link=40 * GIB)
    for spec, size in zip(specs, (9, 9, 4), strict=True):
        world.start(spec, memory=size * GIB, kernel_ns=30 * MS)
    return world


def steps() -> list[int]:
    """The moments at which the protocol stands as it never did before, counted in things that happen."""
    world, seen, moments, count = crowd(), set[str](), list[int](), 0
    while world.now < 3 * SECOND and world.step():
        count += 1
        if str(world.look()) not in seen:
            seen.add(str(world.look()))
            moments.append(count)
    assert all(p.granted > 2 for p in world.processes.values())
    assert [p.swapped > 3 for p in world.processes.values()] == [True, True, False]
    return moments


MOMENTS = steps()
STRIDE = examples(7, 1)
"""Every day each blow falls at some of them, and together they fall at all."""


def until_it_may_submit(world: World, process: Process) -> None:
    while process.word != LeaseState.GRANTED:
        world.step()


def kill(world: World, process: Process) -> None:
    world.kill(process)


def stop_and_go_on(world: World, process: Process) -> None:
    world.stop(process)
    world.after(5 * SECOND, lambda: world.go_on(process))


def crash(world: World, process: Process) -> None:
    world.crash()
    world.restart()


def crash_and_kill(world: World, process: Process) -> None:
    world.crash()
    world.kill(process)
    world.restart()


def crash_with_one_stopped(world: World, process: Process) -> None:
    world.crash()
    world.stop(process)
    world.restart()
    world.after(6 * SECOND, lambda: world.go_on(process))


BLOWS: list[Blow] = [kill, stop_and_go_on, crash_and_kill, crash_with_one_stopped]


FALLS = [(crash, "a"), *((blow, name) for blow in BLOWS for name in ("a", "b", "owner"))]


@pytest.mark.deep
@pytest.mark.parametrize("number", range(len(FALLS)), ids=[f"{blow.__name__}-{name}" for blow, name in FALLS])
def test_at_each_step_survivors_go_on_and_nothing_is_granted_twice(number: int) -> None:
    assert len(MOMENTS) > 20
    blow, name = FALLS[number]
    for at in MOMENTS[number % STRIDE :: STRIDE]:
        world = crowd()
        for _ in range(at):
            world.step()
        victim = next(p for p in world.processes.values() if p.spec.name == name)
        blow(world, victim)
        world.run(world.now + 15 * SECOND)  # two heartbeats, a deadline, a burial and a few swaps
        for process in list(world.processes.values()):
            late = process.used(world.now - 6 * SECOND, world.now)
            assert late or not process.alive, f"{process.spec.name} stands still; step {at}"


def test_the_memory_of_the_dead_is_given_out_when_the_driver_has_it_back_and_not_before() -> None:
    specs = [group("a", 500, guarantee=12 * GIB), group("b", 500, guarantee=4 * GIB, limit=12 * GIB)]
    world = World(specs)
    a = world.start(specs[0], memory=12 * GIB)
    b = world.start(specs[1], memory=4 * GIB)
    world.run(SECOND)
    world.kill(a, memory_after=1900 * MS)
    world.ask(b, 8 * GIB)
    world.run(2 * SECOND)
    assert b.claimed["d0"] == 4 * GIB
    world.run(4 * SECOND)
    assert b.claimed["d0"] == 12 * GIB


def test_a_stopped_holder_is_fenced_by_its_page_and_asks_anew_when_it_goes_on() -> None:
    specs = [group("a", 500), group("b", 500)]
    world = World(specs)
    a, b = (world.start(spec) for spec in specs)
    until_it_may_submit(world, a)
    world.stop(a)
    world.run(8 * SECOND)
    assert a.word is LeaseState.FENCED
    assert b.used(5 * SECOND, 8 * SECOND) > 2.9 * SECOND
    assert [r.kind for r in world.reports] == ["fenced"]
    world.go_on(a)
    world.run(12 * SECOND)
    assert a.used(9 * SECOND, 12 * SECOND) > 1.4 * SECOND


def test_whoever_was_stopped_in_the_midst_of_a_call_is_not_passed_over_but_told_of() -> None:
    world = World([group("a", 500), group("b", 500)])
    a, b = (world.start(spec) for spec in world.specs)
    world.run(SECOND)
    until_it_may_submit(world, a)
    a.inflight = 1
    world.stop(a)
    world.run(8 * SECOND)
    before = b.used(0, world.now)
    assert a.word is LeaseState.REVOKED
    world.run(20 * SECOND)
    assert b.used(0, world.now) == before
    assert [(r.kind, r.group) for r in world.reports] == [("stuck", "a")]


def test_or_it_is_ended_where_the_administrator_wants_that() -> None:
    world = World([group("a", 500), group("b", 500)], settings=Settings(stuck=Stuck.END))
    a, b = (world.start(spec) for spec in world.specs)
    world.run(SECOND)
    until_it_may_submit(world, a)
    a.inflight = 1
    world.stop(a)
    world.run(12 * SECOND)
    assert not a.alive
    assert b.used(8 * SECOND, 12 * SECOND) > 3.9 * SECOND


def test_or_taken_off_its_devices_where_the_driver_can() -> None:
    world = World([group("a", 500, guarantee=4 * GIB), group("b", 500)])
    a = world.start(world.specs[0], memory=4 * GIB, checkpoints=True)
    b = world.start(world.specs[1])
    world.run(SECOND)
    until_it_may_submit(world, a)
    a.inflight = 1
    world.stop(a)
    world.run(12 * SECOND)
    assert a.off
    assert a.alive
    assert b.used(8 * SECOND, 12 * SECOND) > 3.9 * SECOND
    a.inflight = 0
    world.go_on(a)
    world.run(20 * SECOND)
    assert a.used(15 * SECOND, 20 * SECOND) > 2 * SECOND


def test_a_kernel_of_five_seconds_is_waited_for_and_charged() -> None:
    world = World([group("long", 500), group("b", 500)])
    long = world.start(world.specs[0], kernel_ns=5 * SECOND)
    b = world.start(world.specs[1])
    world.run(60 * SECOND)
    assert world.reports == []
    assert long.used(0, world.now) / world.now == pytest.approx(0.5, abs=0.1)
    assert b.used(0, world.now) / world.now == pytest.approx(0.5, abs=0.1)


def test_one_that_never_drains_is_fenced_after_a_while_though_it_shows_signs_of_life() -> None:
    world = World([group("hangs", 500), group("b", 500)])
    world.start(world.specs[0], kernel_ns=10_000 * SECOND)
    b = world.start(world.specs[1])
    world.run(60 * SECOND)
    assert [r.kind for r in world.reports] == ["fenced"]
    assert b.used(50 * SECOND, 60 * SECOND) > 9 * SECOND


def test_holders_keep_running_while_there_is_no_broker_and_after_it_is_back() -> None:
    world = World([group("a", 500), group("b", 500)])
    a, b = (world.start(spec) for spec in world.specs)
    world.run(SECOND)
    until_it_may_submit(world, a)
    world.crash()
    world.run(world.now + 10 * SECOND)
    assert a.used(world.now - 9 * SECOND, world.now) > 8.9 * SECOND
    world.restart()
    world.run(world.now + 2 * SECOND)
    assert b.used(world.now - SECOND, world.now) == 0, "nobody else is granted before two heartbeats"
    world.run(world.now + 4 * SECOND)
    assert a.used(world.now - 2 * SECOND, world.now) > 0.9 * SECOND
    assert b.used(world.now - 2 * SECOND, world.now) > 0.9 * SECOND


def test_a_holder_that_never_comes_back_to_the_new_broker_is_fenced_by_its_old_page() -> None:
    world = World([group("a", 500), group("b", 500)])
    a, b = (world.start(spec) for spec in world.specs)
    world.run(SECOND)
    until_it_may_submit(world, a)
    world.crash()
    world.stop(a)
    world.restart(reconnect=[b])
    world.run(world.now + 10 * SECOND)
    assert a.word is LeaseState.FENCED
    assert b.used(world.now - 3 * SECOND, world.now) > 2.9 * SECOND


def test_who_rests_for_very_long_is_taken_off_the_device_altogether_and_comes_back() -> None:
    settings = Settings(pool_bytes=1 << 50, cold_ns=20 * SECOND)
    specs = [group("cold", 500, guarantee=8 * GIB, limit=10 * GIB), group("b", 500, limit=16 * GIB)]
    world = World(specs, settings=settings)
    cold = world.start(specs[0], pinned=8 * GIB, wants=False, checkpoints=True)
    world.run(30 * SECOND)
    b = world.start(specs[1], memory=12 * GIB)
    world.run(40 * SECOND)
    assert cold.off
    assert b.claimed == {"d0": 12 * GIB}
    world.want(cold)
    world.run(80 * SECOND)
    assert not cold.off
    assert cold.used(0, world.now) > SECOND


def test_who_says_that_it_ends_is_waited_for_by_nobody() -> None:
    """Its connection may be gone for long before it is: memory of the host takes its time."""
    spec = group("gang", 500)
    world = World([spec])
    stays, ends = world.start(spec), world.start(spec, wants=False)
    world.run(SECOND)
    world.say(ends, lambda now: ev.Leaving(now, ends.id))
    world.run(world.now + 100 * MS)
    world.drop(ends)
    world.run(5 * SECOND)
    assert stays.used(2 * SECOND, 5 * SECOND) > 2900 * MS
