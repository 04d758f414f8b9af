"""Memory: a guarantee is to be had at any time, what is borrowed takes turns, and nothing is resident that doesn't fit."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.world import GIB, MIB, MS, SECOND, Process, World, group
from gpumax.broker.core import events as ev
from gpumax.broker.core import orders as od
from gpumax.broker.core.shapes import Settings
from gpumax.broker.words import HintKind, Mode, Reason, SwapStatus
from thorough import examples


def finished(world: World, processes: list[Process], most: int = 600) -> int:
    """When the last of them was done."""
    while any(p.done_at is None for p in processes):
        assert world.now < most * SECOND, "nobody gets on any more"
        world.run(world.now + SECOND)
    return max(p.done_at or 0 for p in processes)


def test_beyond_the_limit_is_refused_at_once() -> None:
    spec = group("a", guarantee=2 * GIB, limit=4 * GIB)
    world = World([spec])
    a = world.start(spec, memory=3 * GIB, wants=False)
    world.ask(a, 2 * GIB)
    world.run(MS)
    assert (a.denied, a.claimed) == ([Reason.LIMIT], {"d0": 3 * GIB})


def test_processes_of_one_group_share_its_limit_to_the_byte() -> None:
    spec = group("a", guarantee=4 * GIB, limit=4 * GIB)
    world = World([spec])
    many = [world.start(spec, wants=False) for _ in range(8)]
    for process in many:
        world.ask(process, GIB)
    world.run(SECOND)
    assert sum(p.claimed.get("d0", 0) for p in many) == 4 * GIB
    assert sum(len(p.denied) for p in many) == 4


def test_a_sibling_is_asked_for_what_it_does_not_use_before_anybody_is_refused() -> None:
    spec = group("a", guarantee=4 * GIB, limit=4 * GIB)
    world = World([spec])
    full, other = world.start(spec, memory=4 * GIB, wants=False), world.start(spec, wants=False)
    world.run(MS)
    assert world.broker
    said = world.broker.handle(ev.Asked(world.now, other.id, "d0", GIB))
    assert od.Trim(full.id, "d0") in said
    assert not [o for o in said if isinstance(o, od.MemDeny)]
    said = world.broker.handle(ev.Returned(world.now, full.id, "d0", GIB))
    assert [o.bytes for o in said if isinstance(o, od.MemGrant)] == [GIB]


def test_memory_that_cannot_be_swapped_stays_within_the_guarantee() -> None:
    spec = group("a", guarantee=GIB, limit=8 * GIB)
    world = World([spec])
    a = world.start(spec, memory=4 * GIB, pinned=GIB, wants=False)
    world.ask(a, MIB, pinned=True)
    world.run(MS)
    assert a.denied == [Reason.PINNED]


def test_without_swap_nobody_borrows() -> None:
    spec = group("a", guarantee=GIB, limit=8 * GIB, swap=False)
    world = World([spec])
    a = world.start(spec, memory=2 * GIB, wants=False)
    world.run(MS)
    assert a.denied == [Reason.LIMIT]


def test_the_owner_gets_its_guarantee_at_once_and_the_borrower_is_swapped_out_not_killed() -> None:
    borrows, owns = group("borrows", 500, guarantee=0, limit=16 * GIB), group("owns", 500, guarantee=8 * GIB)
    world = World([borrows, owns])
    b = world.start(borrows, memory=12 * GIB)
    world.run(50 * MS)
    assert b.word.name == "GRANTED"
    o = world.start(owns, memory=8 * GIB)
    world.run(50 * MS + 12 * SECOND // 10 + 10 * MS)  # 12 GiB over a link of 10 GiB/s
    assert o.claimed == {"d0": 8 * GIB}
    assert b.real["d0"] <= 8 * GIB
    assert b.alive
    world.run(10 * SECOND)
    assert (o.swapped, o.denied) == (0, [])
    assert o.used(2 * SECOND, 10 * SECOND) > 7 * SECOND


def test_the_borrower_comes_back_with_everything_when_the_owner_is_done() -> None:
    borrows, owns = group("borrows", 500, guarantee=0, limit=16 * GIB), group("owns", 500, guarantee=8 * GIB)
    world = World([borrows, owns])
    b, o = world.start(borrows, memory=12 * GIB), world.start(owns, memory=8 * GIB)
    world.run(5 * SECOND)
    world.kill(o)
    world.run(10 * SECOND)
    assert b.real == {"d0": 12 * GIB}
    assert b.used(8 * SECOND + 500 * MS, 10 * SECOND) > 1.4 * SECOND


def test_three_of_ten_gib_take_turns_on_sixteen_and_each_gets_its_part() -> None:
    specs = [group(f"m{i}", 330, guarantee=2 * GIB, limit=10 * GIB) for i in range(3)]
    world = World(specs)
    three = [world.start(spec, memory=10 * GIB, kernel_ns=20 * MS) for spec in specs]
    world.run(400 * SECOND)
    assert [p.claimed for p in three] == [{"d0": 10 * GIB}] * 3
    got = [p.used(0, world.now) / world.now for p in three]
    assert sum(got) > 0.85
    assert max(got) - min(got) < 0.08
    assert all(p.longest_wait < 60 * SECOND for p in three)


@pytest.mark.parametrize("mode", [Mode.FAIR, Mode.STRICT])
def test_turns_of_those_who_swap_follow_their_shares(mode: Mode) -> None:
    specs = [group("a", 700, mode=mode, limit=10 * GIB), group("b", 300, mode=mode, limit=10 * GIB)]
    world = World(specs)
    a, b = (world.start(spec, memory=10 * GIB, kernel_ns=20 * MS) for spec in specs)
    world.run(400 * SECOND)
    assert [a.claimed, b.claimed] == [{"d0": 10 * GIB}] * 2
    both = a.used(0, world.now) + b.used(0, world.now)
    assert a.used(0, world.now) / both == pytest.approx(0.7, abs=0.05)


def test_two_of_700_mib_on_1_gib_take_hardly_longer_than_one_after_the_other() -> None:
    specs = [group(name, 500, limit=900 * MIB) for name in "ab"]
    work = 30 * SECOND
    world = World(specs, devices={"d0": GIB})
    both = [world.start(spec, memory=700 * MIB, work_ns=work) for spec in specs]
    took = finished(world, both)
    assert 2 * work / took >= 0.85
    assert all(p.swapped > 2 for p in both), "they did take turns"


def test_with_a_slow_link_turns_become_longer_so_that_swapping_stays_a_tenth() -> None:
    specs = [group(name, 500, limit=900 * MIB) for name in "ab"]
    world = World(specs, devices={"d0": GIB}, link=500 * MIB)
    both = [world.start(spec, memory=700 * MIB, work_ns=60 * SECOND) for spec in specs]
    assert 120 * SECOND / finished(world, both) >= 0.85


def test_when_swapping_eats_the_time_the_broker_says_so_and_lets_one_run_after_the_other() -> None:
    specs = [group(name, 500, limit=900 * MIB) for name in "ab"]
    quick = Settings(pool_bytes=1 << 50, longest_quantum_ns=500 * MS, serial_ns=20 * SECOND)
    world = World(specs, devices={"d0": GIB}, link=500 * MIB, settings=quick)
    both = [world.start(spec, memory=700 * MIB, work_ns=60 * SECOND) for spec in specs]
    took = finished(world, both)
    thrash = [r for r in world.reports if r.kind == "thrash"]
    assert len(thrash) == 1
    assert "one after another" in thrash[0].text
    assert 120 * SECOND / took >= 0.7, "and it helps: at half a second a turn it would be under a third"


def test_one_after_another_means_that_whoever_rests_makes_way_at_once() -> None:
    """It has rested for as long as a swap takes; the long stay is for those who work."""
    specs = [group(name, 500, limit=900 * MIB) for name in "ab"]
    world = World(specs, devices={"d0": GIB}, link=500 * MIB)
    assert world.broker
    a = world.start(specs[0], memory=700 * MIB)
    b = world.start(specs[1], memory=700 * MIB, wants=False)
    world.run(10 * SECOND)
    world.broker.state.devices["d0"].serial = True
    swap = 700 * SECOND // 500
    world.want(b)
    world.run(world.now + 30 * SECOND)
    assert b.used(0, world.now) == 0, "a works"
    world.rest(a)
    world.run(world.now + 5 * swap)
    assert b.used(0, world.now) > 0
    world.rest(b)
    world.want(a)
    before = a.used(0, world.now)
    world.run(world.now + 5 * swap)
    assert a.used(0, world.now) > before, "b has been in for less than nine swaps"


@pytest.mark.parametrize(
    ("sizes", "link"),
    [([4, 4, 4, 4, 3], 10), ([4, 4, 4, 4, 3], 2), ([3, 8, 8], 10), ([2, 2, 2, 2, 2, 2, 2, 2, 2], 4)],
    ids=["19 of 16", "19 of 16, slow link", "19 of 16, large ones", "18 of 16"],
)  # fmt: skip
def test_who_hardly_lacks_room_takes_turns_and_no_thrashing_is_told(sizes: list[int], link: int) -> None:
    specs = [group(f"g{i}", 1000 // len(sizes), limit=10 * GIB) for i in range(len(sizes))]
    world = World(specs, link=link * GIB)
    some = [
        world.start(s, memory=size * GIB, kernel_ns=20 * MS) for s, size in zip(specs, sizes, strict=True)
    ]
    world.run(200 * SECOND)
    got = [p.used(0, world.now) / world.now for p in some]
    assert [r.kind for r in world.reports] == []
    assert sum(got) > 0.9, got
    assert min(got) > 0.6 / len(sizes), got


@pytest.mark.parametrize(
    ("piece", "least", "most"), [(0, 1.6, 2.1), (256 * MIB, 1.0, 1.3)], ids=["at the end", "in pieces"]
)
def test_others_come_in_as_pieces_go_out(piece: int, least: float, most: float) -> None:
    specs = [group(name, 500, limit=12 * GIB) for name in "ab"]
    world = World(specs, piece=piece)
    both = [world.start(spec, memory=12 * GIB, kernel_ns=MS) for spec in specs]
    world.run(120 * SECOND)
    assert world.broker
    assert all(p.swapped > 2 for p in both)
    one_way = 12 * SECOND // 10
    assert least < world.broker.state.devices["d0"].switch_ns / one_way < most


def test_memory_that_needs_no_copy_leaves_first() -> None:
    specs = [group(name, 300, limit=8 * GIB) for name in ("costly", "cheap")]
    specs.append(group("owns", 300, guarantee=6 * GIB))
    world = World(specs)
    cheap = world.start(specs[1], memory=8 * GIB, wants=False)
    costly = world.start(specs[0], memory=8 * GIB, wants=False)
    world.run(SECOND)
    world.tell(ev.Hinted(world.now, cheap.id, "d0", HintKind.READ_ONLY, 5 * GIB))
    world.tell(ev.Hinted(world.now, cheap.id, "d0", HintKind.DISCARDABLE, 3 * GIB))
    world.want(cheap)  # it has worked last, and would stay longer if all cost the same
    world.run(world.now + SECOND)
    world.rest(cheap)
    world.run(world.now + SECOND)
    world.start(specs[2], memory=6 * GIB, wants=False)
    world.run(world.now + 3 * SECOND)
    assert (costly.swapped, cheap.swapped) == (0, 1)


def test_whoever_is_least_urgent_and_rests_longest_leaves_first_and_no_more_than_needed() -> None:
    specs = [
        group("low", 100, limit=4 * GIB, priority=0), group("old", 100, limit=4 * GIB, priority=1),
        group("new", 100, limit=4 * GIB, priority=1), group("comes", 100, guarantee=8 * GIB),
    ]  # fmt: skip
    world = World(specs)
    low, old, new = (world.start(spec, memory=4 * GIB) for spec in specs[:3])
    world.run(SECOND)
    for process in (old, low, new):
        world.rest(process)
        world.run(world.now + SECOND)
    comes = world.start(specs[3], memory=8 * GIB, wants=False)
    world.run(world.now + 3 * SECOND)
    assert comes.claimed == {"d0": 8 * GIB}
    assert [p.real["d0"] for p in (low, old, new)] == [0, 4 * GIB, 4 * GIB]


def test_one_large_victim_is_preferred_to_several_small_ones() -> None:
    specs = [group(f"s{i}", 100, limit=2 * GIB) for i in range(4)] + [group("large", 100, limit=8 * GIB)]
    world = World([*specs, group("owns", 100, guarantee=8 * GIB)])
    small = [world.start(spec, memory=2 * GIB, wants=False) for spec in specs[:4]]
    large = world.start(specs[4], memory=8 * GIB, wants=False)
    world.run(2 * SECOND)
    owns = world.start(world.specs[5], memory=8 * GIB, wants=False)
    world.run(6 * SECOND)
    assert owns.claimed == {"d0": 8 * GIB}
    assert [p.swapped for p in small] == [0, 0, 0, 0]
    assert large.swapped == 1


def test_pinned_memory_stays_where_it_is() -> None:
    specs = [group("pins", 500, guarantee=4 * GIB, limit=12 * GIB), group("owns", 500, guarantee=10 * GIB)]
    world = World(specs)
    pins = world.start(specs[0], memory=8 * GIB, pinned=3 * GIB)
    world.run(SECOND)
    world.start(specs[1], memory=10 * GIB)
    world.run(5 * SECOND)
    assert pins.real["d0"] == 3 * GIB


def test_a_victim_that_cannot_leave_now_keeps_its_data_and_another_one_leaves() -> None:
    specs = [
        group("busy", 100, limit=8 * GIB),
        group("free", 100, limit=8 * GIB),
        group("owns", 100, guarantee=6 * GIB),
    ]
    world = World(specs)
    busy, free = (world.start(spec, memory=8 * GIB, wants=False) for spec in specs[:2])
    busy.swap_out_status = SwapStatus.BUSY
    world.run(SECOND)
    world.want(busy)
    world.run(SECOND + MS)
    world.rest(busy)
    world.run(2 * SECOND)
    busy.swap_out_status = SwapStatus.BUSY
    owns = world.start(specs[2], memory=6 * GIB, wants=False)
    world.run(8 * SECOND)
    assert owns.claimed == {"d0": 6 * GIB}
    assert busy.real["d0"] == 8 * GIB
    assert free.real["d0"] == 0


def test_guaranteed_memory_that_rests_for_long_makes_way_and_is_back_before_any_borrower() -> None:
    specs = [group("owns", 500, guarantee=8 * GIB), group("borrows", 500, limit=12 * GIB)]
    world = World(specs)
    owns = world.start(specs[0], memory=8 * GIB, wants=False)
    borrows = world.start(specs[1], memory=6 * GIB)
    world.run(SECOND)
    world.ask(borrows, 6 * GIB)
    world.run(30 * SECOND)
    assert (owns.real["d0"], borrows.claimed["d0"]) in ((0, 12 * GIB), (8 * GIB, 6 * GIB))
    world.want(owns)
    world.run(40 * SECOND)
    assert owns.real["d0"] == 8 * GIB
    assert owns.longest_wait < 3 * SECOND


def test_a_shortage_within_the_limit_waits_for_a_while_and_then_is_an_out_of_memory() -> None:
    specs = [group("a", 500, guarantee=10 * GIB), group("b", 500, guarantee=0, limit=16 * GIB)]
    world = World(specs)
    world.start(specs[0], memory=10 * GIB)
    b = world.start(specs[1], memory=8 * GIB, wants=False)
    world.run(20 * SECOND)
    assert b.denied == [Reason.ROOM]


def test_who_does_not_answer_right_now_may_do_so_in_a_moment_so_nobody_is_refused_for_it() -> None:
    specs = [group("a", 500, guarantee=GIB, limit=14 * GIB), group("b", 500, guarantee=GIB, limit=8 * GIB)]
    world = World(specs)
    a = world.start(specs[0], memory=14 * GIB, wants=False)
    world.run(SECOND)
    world.drop(a)
    b = world.start(specs[1], memory=4 * GIB, wants=False)
    world.run(5 * SECOND)
    assert (b.denied, b.claimed) == ([], {})
    world.reconnect(a)
    world.run(9 * SECOND)
    assert (b.denied, b.claimed) == ([], {"d0": 4 * GIB})


def test_who_waits_for_one_that_never_answers_is_refused_after_a_while() -> None:
    specs = [group("a", 500, guarantee=GIB, limit=14 * GIB), group("b", 500, guarantee=GIB, limit=8 * GIB)]
    world = World(specs)
    a = world.start(specs[0], memory=14 * GIB, wants=False)
    world.run(SECOND)
    world.drop(a)
    b = world.start(specs[1], memory=4 * GIB, wants=False)
    world.run(20 * SECOND)
    assert b.denied == [Reason.ROOM]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (group("x", 0), "share 0; it's between 0.001 and 1"),
        (group("x", 1200), "share 1.2; it's between 0.001 and 1"),
        (group("x", 600, guarantee=GIB), "d0 has 0.5 left"),
        (group("x", 100, guarantee=20 * GIB), "limit of 20 GiB; d0 has 16 GiB"),
        (group("x", 100, guarantee=9 * GIB, limit=10 * GIB), "9 GiB guaranteed; d0 has 8 GiB left to guarantee"),
        (group("x", 100, guarantee=3 * GIB, limit=2 * GIB), "a guarantee is within the limit"),
        (group("x", 100, devices=["d9"], limit=GIB), "device d9 isn't of this node"),
        (group("x", 100, limit=6 * GIB), "swapping would need 14 GiB of host memory; 13 GiB are set aside"),
        (group("there", 100), "group there is there already"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_what_would_be_possible(spec: object, says: str) -> None:
    world = World([group("there", 500, guarantee=8 * GIB)], settings=Settings(pool_bytes=13 * GIB))
    assert world.broker
    (refusal,) = world.broker.handle(ev.GroupAdded(0, spec))  # type: ignore[arg-type]
    assert isinstance(refusal, od.RefuseGroup)
    assert says in refusal.text


def nobody_starves(sizes_gib: Sequence[int]) -> None:
    """Each works while it asks for all that it wants; no two of them need fit together."""
    count = len(sizes_gib)
    specs = [group(f"g{i}", 1000 // count, limit=10 * GIB) for i in range(count)]
    # Where swapping costs too much they run one after another, for minutes each: here for ten seconds.
    world = World(specs, settings=Settings(pool_bytes=1 << 50, serial_ns=10 * SECOND))
    sizes = [size * GIB for size in sizes_gib]
    processes = [
        world.start(spec, memory=size, kernel_ns=20 * MS) for spec, size in zip(specs, sizes, strict=True)
    ]
    world.run(150 * SECOND)
    for process, size in zip(processes, sizes, strict=True):
        assert process.claimed == {"d0": size}
        assert process.used(0, world.now) > 0.4 * world.now / count, (sizes, process.spec.name)


@pytest.mark.deep
@given(st.lists(st.integers(1, 10), min_size=2, max_size=6))
@settings(max_examples=examples(2, 60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whoever_fits_beside_what_others_are_guaranteed_never_starves(sizes_gib: list[int]) -> None:
    nobody_starves(sizes_gib)


def test_whoever_works_while_it_asks_for_most_of_the_device_gets_it() -> None:
    """It's further than others are, since it works: how far it was when it asked is what counts."""
    nobody_starves([7, 4, 8, 10, 3])
