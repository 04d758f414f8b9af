"""A process that pauses has moved its memory out by itself: others have the room at once, and it comes back whole when it asks."""

from __future__ import annotations

from broker.world import GIB, MS, SECOND, World, group
from gpumax.broker.core import events as ev


def test_an_owner_that_pauses_makes_room_at_once_and_comes_back_whole() -> None:
    owner, other = group("owner", 500, guarantee=12 * GIB), group("other", 500, limit=12 * GIB)
    world = World([owner, other])
    first = world.start(owner, memory=12 * GIB, work_ns=SECOND)
    world.run(2 * SECOND)
    world.pause(first)
    second = world.start(other, memory=12 * GIB)
    world.run(2 * SECOND + 100 * MS)
    assert second.granted > 0
    assert first.swapped == 0, "nobody had to order it"
    first.work_ns, first.done_at = None, None
    world.want(first)
    world.run(10 * SECOND)
    assert first.used(5 * SECOND, 10 * SECOND) > 4900 * MS, "it's within its guarantee, and works alone"


def test_one_that_pauses_keeps_the_others_of_its_group_from_nothing() -> None:
    spec, other = group("gang", 500, limit=16 * GIB), group("other", 500, limit=8 * GIB)
    world = World([spec, other])
    pauses, works = world.start(spec, memory=8 * GIB, work_ns=SECOND), world.start(spec, memory=8 * GIB)
    world.run(2 * SECOND)
    world.pause(pauses)
    beside = world.start(other, memory=8 * GIB)
    world.run(6 * SECOND)
    assert works.used(3 * SECOND, 6 * SECOND) > 1400 * MS
    assert beside.used(3 * SECOND, 6 * SECOND) > 1400 * MS
    assert pauses.real == {"d0": 0}
    pauses.work_ns, pauses.done_at = None, None
    world.want(pauses)
    granted = pauses.granted
    world.run(30 * SECOND)
    assert pauses.granted > granted
    assert min(p.used(6 * SECOND, 30 * SECOND) for p in (works, beside)) > 6 * SECOND


def test_who_says_that_it_ends_and_asks_all_the_same_has_its_turns_again() -> None:
    spec, other = group("a", 500, limit=10 * GIB), group("b", 500, limit=10 * GIB)
    world = World([spec, other])
    first = world.start(spec, memory=10 * GIB, work_ns=SECOND)
    world.run(2 * SECOND)
    world.say(first, lambda now: ev.Leaving(now, first.id))
    second = world.start(other, memory=10 * GIB)
    world.run(6 * SECOND)
    assert second.used(4 * SECOND, 6 * SECOND) > 1900 * MS
    assert first.real == {"d0": 0}, "what it has can be moved for as long as it's there"
    first.work_ns, first.done_at = None, None
    granted = first.granted
    world.want(first)
    world.run(30 * SECOND)
    assert first.granted > granted
