"""All devices of a group and all of its processes go together: at once or not at all, and nobody waits in a circle."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.world import GIB, MS, SECOND, World, group

THREE = {"d0": 16 * GIB, "d1": 16 * GIB, "d2": 16 * GIB}


def test_a_group_of_two_devices_gets_both_at_once_beside_those_who_use_one() -> None:
    specs = [
        group("both", 500, devices=["d0", "d1"]),
        group("left", 500),
        group("right", 500, devices=["d1"]),
    ]
    world = World(specs, devices=THREE)
    both, left, right = (world.start(spec) for spec in specs)
    world.run(4 * SECOND)
    got = [p.used(SECOND, 4 * SECOND) / (3 * SECOND) for p in (both, left, right)]
    assert min(got) > 0.45, got


def test_a_gang_alone_on_one_of_its_devices_is_not_passed_over_on_the_other() -> None:
    specs = [group("gang", 200, devices=["d0", "d1"]), group("many", 200)]
    world = World(specs, devices=THREE)
    gang = world.start(specs[0], kernel_ns=60 * MS)
    many = [world.start(specs[1], kernel_ns=60 * MS) for _ in range(6)]
    world.run(10 * SECOND)
    assert gang.used(SECOND, 10 * SECOND) > 4 * SECOND
    assert many[0].used(SECOND, 10 * SECOND) > 4 * SECOND


def test_gangs_that_meet_on_a_device_where_only_they_are_have_their_turn_beside_a_third() -> None:
    specs = [group("a", 333), *(group(name, 333, devices=["d0", "d1"]) for name in "bc")]
    world = World(specs, devices=THREE)
    all_of_them = [world.start(spec, kernel_ns=50 * MS) for spec in specs]
    world.run(10 * SECOND)
    got = [p.used(SECOND, 10 * SECOND) / (9 * SECOND) for p in all_of_them]
    assert min(got) > 0.3, got


def test_all_ranks_hold_the_lease_together_and_none_before_all_are_there() -> None:
    spec = group("gang", 500)
    world = World([spec, group("other", 500)])
    first = world.start(spec, ranks=2)
    other = world.start(world.specs[1])
    world.run(SECOND)
    assert first.granted == 0
    assert other.used(0, SECOND) > 990 * MS
    second = world.start(spec, ranks=2, wants=False)
    world.run(3 * SECOND)
    assert first.used(SECOND, 3 * SECOND) > 900 * MS
    assert second.granted > 0, "also the rank that didn't ask: others may wait for it inside a kernel"


def test_two_groups_that_swap_on_two_devices_come_in_whole_and_never_wait_for_each_other() -> None:
    specs = [group(name, 500, limit=12 * GIB, devices=["d0", "d1"]) for name in "ab"]
    world = World(specs, devices=THREE)
    a, b = (world.start(spec, memory=12 * GIB, kernel_ns=20 * MS) for spec in specs)
    world.run(150 * SECOND)
    assert a.claimed == b.claimed == {"d0": 12 * GIB, "d1": 12 * GIB}
    got = [p.used(0, world.now) / world.now for p in (a, b)]
    assert sum(got) > 0.85
    assert min(got) > 0.3


@given(st.data())
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_set_of_gangs_ever_stops_or_starves_one(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 5))
    some = st.lists(st.sampled_from(sorted(THREE)), min_size=1, max_size=3, unique=True)
    specs = [group(f"g{i}", 1000 // count, limit=9 * GIB, devices=data.draw(some)) for i in range(count)]
    world = World(specs, devices=THREE)
    gangs = [world.start(s, memory=data.draw(st.integers(0, 9)) * GIB, kernel_ns=50 * MS) for s in specs]
    world.run(40 * SECOND)
    for gang in gangs:
        assert gang.used(0, world.now) > 0.3 * world.now / count, (
            gang.spec.name,
            [p.spec.memory for p in gangs],
        )
