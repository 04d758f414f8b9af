"""Time is shared as was said: each process gets its share of the device, whatever its kernels are like."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate, pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.world import GIB, LATENCY, MS, SECOND, US, Process, World, group
from gpumax.broker.core import events as ev
from gpumax.broker.core.broker import Broker
from gpumax.broker.core.orders import Grant
from gpumax.broker.core.shapes import DeviceSpec, Settings
from gpumax.broker.words import Mode


def used_until(process: Process) -> Callable[[int], int]:
    """How long the device has worked for it before a moment."""
    begins = [begin for begin, _ in process.busy]
    sums = list(accumulate((end - begin for begin, end in process.busy), initial=0))

    def used(moment: int) -> int:
        last = bisect_right(begins, moment) - 1
        return sums[last] + min(moment - begins[last], sums[last + 1] - sums[last]) if last >= 0 else 0

    return used


def furthest_off(
    world: World, processes: list[Process], window: int, *, warm: int = SECOND, step: int | None = None
) -> float:
    """The largest difference between share and achieved share in any window, in steps of a tenth of it or of what is said."""
    worst = 0.0
    for process in processes:
        used = used_until(process)
        for begin in range(warm, world.now - window + 1, step or window // 10):
            share = (used(begin + window) - used(begin)) / window
            worst = max(worst, abs(share - process.spec.share / 1000))
    return worst


def play(
    shares: list[int], kernels: list[int], mode: Mode, seconds: int, *, ahead: int = 0, latency: int = LATENCY
) -> tuple[World, list[Process]]:
    specs = [group(f"g{i}", share, mode=mode) for i, share in enumerate(shares)]
    world = World(specs, latency=latency)
    processes = [world.start(spec, kernel_ns=k, ahead=ahead) for spec, k in zip(specs, kernels, strict=True)]
    world.run(seconds * SECOND)
    return world, processes


@st.composite
def shares(draw: st.DrawFn) -> list[int]:
    count = draw(st.integers(2, 8))
    cuts = sorted(draw(st.lists(st.integers(1, 18), min_size=count - 1, max_size=count - 1, unique=True)))
    edges = [0, *cuts, 20]
    return [(b - a) * 50 for a, b in pairwise(edges)]


@pytest.mark.parametrize("mode", [Mode.FAIR, Mode.STRICT])
@given(st.data())
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_with_short_kernels_each_second_gives_each_its_share_to_two_hundredths(
    mode: Mode, data: st.DataObject
) -> None:
    """Also where a second kernel waits behind the one that runs, and each turn costs the device a fifth of a millisecond."""
    of = data.draw(shares())
    kernels = [data.draw(st.sampled_from([200 * US, MS, 3 * MS, 5 * MS])) for _ in of]
    world, processes = play(of, kernels, mode, 4, ahead=data.draw(st.integers(0, 1)), latency=100 * US)
    assert furthest_off(world, processes, SECOND) <= 0.02


@pytest.mark.parametrize("mode", [Mode.FAIR, Mode.STRICT])
@given(st.data())
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_with_very_short_kernels_whatever_second_is_looked_at_the_core_itself_misses_less_than_half_of_that(
    mode: Mode, data: st.DataObject
) -> None:
    """Four tenths of a point are what it takes to hand on the device twenty times a second; the rest is how far turns are off."""
    of = data.draw(shares())
    kernels = [data.draw(st.sampled_from([500 * US, MS])) for _ in of]
    world, processes = play(of, kernels, mode, 3, ahead=data.draw(st.integers(0, 1)), latency=100 * US)
    assert furthest_off(world, processes, SECOND, step=MS) < 0.01


@pytest.mark.parametrize("mode", [Mode.FAIR, Mode.STRICT])
@given(st.data())
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_with_any_kernels_five_seconds_give_each_its_share_to_five_hundredths(
    mode: Mode, data: st.DataObject
) -> None:
    of = data.draw(shares())
    kernels = [data.draw(st.sampled_from([200 * US, MS, 7 * MS, 20 * MS, 50 * MS])) for _ in of]
    world, processes = play(of, kernels, mode, 12)
    assert furthest_off(world, processes, 5 * SECOND) <= 0.05


@pytest.mark.parametrize("mode", [Mode.FAIR, Mode.STRICT])
def test_turns_of_one_second_are_those_of_any_other(mode: Mode) -> None:
    """So nobody's share hangs on where a second begins: all that is missing is what handing on the device took."""
    world, processes = play([700, 300], [MS, MS], mode, 8, ahead=1, latency=175 * US)
    assert furthest_off(world, processes, SECOND) <= 0.01


@pytest.mark.parametrize("mode", [Mode.FAIR, Mode.STRICT])
def test_a_hog_of_long_kernels_and_a_process_of_very_short_ones_get_what_they_should(mode: Mode) -> None:
    world, processes = play([300, 700], [50 * MS, 10 * US], mode, 7)
    assert furthest_off(world, processes, 5 * SECOND) <= 0.05


def test_strict_leaves_the_device_idle_rather_than_give_more_than_the_share() -> None:
    world, (alone,) = play([300], [MS], Mode.STRICT, 5)
    assert furthest_off(world, [alone], SECOND) <= 0.02


def test_fair_gives_all_to_whoever_is_alone() -> None:
    _, (alone,) = play([300], [MS], Mode.FAIR, 3)
    assert alone.used(SECOND, 3 * SECOND) > 2 * SECOND - MS
    assert alone.granted == 1  # and never takes it back for nobody


def test_idle_time_is_split_by_share_among_those_who_want_it() -> None:
    specs = [group("a", 500), group("b", 300), group("c", 200)]
    world = World(specs)
    a, b, c = (world.start(spec) for spec in specs)
    world.run(SECOND)
    world.rest(a)
    world.run(4 * SECOND)
    got = [p.used(2 * SECOND, 4 * SECOND) / (2 * SECOND) for p in (a, b, c)]
    assert got == pytest.approx([0, 0.6, 0.4], abs=0.02)


def test_who_rested_is_owed_nothing_for_it() -> None:
    specs = [group("a", 500), group("b", 500)]
    world = World(specs)
    a, b = world.start(specs[0], wants=False), world.start(specs[1])
    world.run(10 * SECOND)
    world.want(a)
    world.run(12 * SECOND)
    assert b.used(10 * SECOND, 12 * SECOND) / (2 * SECOND) == pytest.approx(0.5, abs=0.02)


def test_another_share_holds_from_the_moment_it_is_set() -> None:
    specs = [group("a", 500), group("b", 500)]
    world = World(specs)
    a, b = (world.start(spec) for spec in specs)
    world.run(2 * SECOND)
    world.tell(ev.GroupChanged(world.now, group("a", 200)))
    world.run(4 * SECOND)
    got = [p.used(2 * SECOND, 4 * SECOND) / (2 * SECOND) for p in (a, b)]
    assert got == pytest.approx([2 / 7, 5 / 7], abs=0.02)
    world.tell(ev.GroupChanged(world.now, group("a", 200, mode=Mode.STRICT)))
    world.rest(b)
    world.run(7 * SECOND)
    assert a.used(5 * SECOND, 7 * SECOND) / (2 * SECOND) == pytest.approx(0.2, abs=0.02)


def test_strict_gets_its_share_beside_fair_ones_which_split_the_rest() -> None:
    specs = [group("a", 300, mode=Mode.STRICT), group("b", 400), group("c", 200)]
    world = World(specs)
    a, b, c = (world.start(spec) for spec in specs)
    world.run(6 * SECOND)
    got = [p.used(SECOND, 6 * SECOND) / (5 * SECOND) for p in (a, b, c)]
    assert got == pytest.approx([0.3, 0.7 * 2 / 3, 0.7 / 3], abs=0.02)


def test_giving_back_a_lease_that_is_over_ends_none_that_goes_on() -> None:
    """Its word of the turn before may be on its way while the next one begins."""
    broker = Broker(Settings(), [DeviceSpec("d0", GIB)], epoch=1, now=0, specs=[group("a")])
    broker.handle(ev.Joined(1, 1, "a", 100, ("d0",)))
    leases = []
    for now in (2, 4):
        (grant,) = [each for each in broker.handle(ev.Wanted(now, 1)) if isinstance(each, Grant)]
        leases.append(grant.lease)
        if now == 2:
            broker.handle(ev.Released(3, 1, grant.lease, wants=False))
    broker.handle(ev.Released(5, 1, leases[0], wants=False))
    assert broker.state.groups["a"].lease is not None
    broker.handle(ev.Released(6, 1, leases[1], wants=False))
    assert broker.state.groups["a"].lease is None
