"""All devices of a group and all of its processes go together: at once or not at all, and nobody waits in a circle."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.world import GIB, MS, SECOND, Process, World, group

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


def test_a_rank_that_never_comes_is_waited_for_only_so_long_and_the_rest_says_so() -> None:
    spec = group("gang", 500)
    world = World([spec])
    first = world.start(spec, ranks=3)
    world.start(spec, ranks=3)
    world.run(9 * SECOND)
    assert first.granted == 0
    world.run(11 * SECOND)
    assert first.granted > 0
    assert [(r.kind, r.text) for r in world.reports] == [
        ("gang", "2 of 3 processes have come in 10 s; they go on without the others")
    ]


def test_children_of_a_rank_count_with_it_and_not_for_those_who_are_missing() -> None:
    spec = group("gang", 500)
    world = World([spec])
    first, child = (world.start(spec, ranks=2, rank=1) for _ in range(2))
    world.run(SECOND)
    assert first.granted == child.granted == 0
    world.start(spec, ranks=2, rank=2)
    world.run(2 * SECOND)
    assert min(first.granted, child.granted) > 0


def test_nobody_waits_for_a_rank_that_has_come_and_ended_nor_for_one_that_comes_again() -> None:
    spec = group("gang", 500)
    world = World([spec])
    first = world.start(spec, ranks=2)
    world.kill(world.start(spec, ranks=2))
    world.run(SECOND)
    assert first.granted > 0, "before they have begun"
    world.kill(world.start(spec, ranks=2))
    world.run(2 * SECOND)
    again = world.start(spec, ranks=2)
    world.run(3 * SECOND)
    assert first.used(2 * SECOND, 3 * SECOND) > 900 * MS, "nor later"
    assert again.granted > 0


def test_processes_that_come_when_all_have_gone_wait_for_each_other_anew() -> None:
    spec = group("gang", 500)
    world = World([spec])
    for process in [world.start(spec, ranks=2) for _ in range(2)]:
        world.kill(process)
    world.run(SECOND)
    third = world.start(spec, ranks=2)
    world.run(2 * SECOND)
    assert third.granted == 0


def test_a_broker_that_comes_back_lets_a_gang_go_on_of_which_a_rank_has_ended() -> None:
    spec = group("gang", 500)
    world = World([spec])
    first = world.start(spec, ranks=2)
    second = world.start(spec, ranks=2)
    world.run(SECOND)
    world.kill(second)
    world.run(2 * SECOND)
    world.crash()
    world.restart()
    world.run(8 * SECOND)
    assert first.used(5 * SECOND, 8 * SECOND) > 2900 * MS


def test_a_gang_that_is_not_whole_comes_in_before_nobody() -> None:
    """What it has goes out for an owner; it isn't brought back to wait on the device."""
    waits, works = group("waits", 500, limit=12 * GIB), group("works", 500, guarantee=12 * GIB)
    world = World([waits, works])
    first = world.start(waits, ranks=2, memory=12 * GIB)
    world.run(2 * SECOND)
    other = world.start(works, memory=12 * GIB)
    world.run(9 * SECOND)
    assert first.real == {"d0": 0}
    assert other.used(5 * SECOND, 9 * SECOND) > 3900 * MS


@given(st.data())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_ranks_come_late_twice_or_never_nobody_waits_for_ever_and_none_begins_alone(
    data: st.DataObject,
) -> None:
    specs = [group(name, 300, devices=data.draw(st.sampled_from([["d0"], ["d0", "d1"]]))) for name in "abc"]
    world = World(specs, devices=THREE)
    wait, begun = world.settings.gang_wait_ns, dict[str, int]()
    ranks = {spec.name: data.draw(st.integers(0, 4)) for spec in specs}
    come: dict[str, list[tuple[int, Process]]] = {spec.name: [] for spec in specs}
    when = st.integers(0, 15).map(lambda s: s * SECOND)
    plan = [
        (data.draw(when), spec, data.draw(st.integers(0, 4)), data.draw(st.booleans()))
        for spec in specs
        for _ in range(4)
    ]
    for at, spec, rank, dies in sorted(plan, key=lambda each: each[0]):
        world.run(at)
        come[spec.name].append((at, world.start(spec, ranks=ranks[spec.name], rank=rank, kernel_ns=20 * MS)))
        if dies:
            world.run(at + 100 * MS)
            world.kill(come[spec.name][-1][1])
        for name, there in come.items():
            if any(p.granted for _, p in there):
                begun.setdefault(name, world.now)
    world.run(40 * SECOND)
    for name, there in come.items():
        first = there[0][0]
        who = {p.rank or -p.pid for at, p in there if at <= begun.get(name, 0)}
        emptied = sum(not p.alive for _, p in there)
        assert name not in begun or emptied or len(who) >= ranks[name] or begun[name] >= first + wait
        for at, process in there:
            assert not process.alive or process.granted, (name, at, ranks[name])


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
