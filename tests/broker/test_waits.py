"""What an owner asks for within its guarantee is waited for, whoever has borrowed it and doesn't answer, and it's told for whom."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from broker.world import GIB, MIB, MS, SECOND, Process, World, group
from gpumax.broker.core import events as ev
from gpumax.broker.core.shapes import Settings, Stuck
from gpumax.broker.status import GroupStatus, status
from gpumax.broker.words import Reason, SwapStatus
from thorough import examples

LENT = group("lent", 500, guarantee=GIB, limit=14 * GIB)
OWNS = group("owns", 500, guarantee=10 * GIB)


def row(world: World, name: str) -> GroupStatus:
    assert world.broker
    return next(each for each in status(world.broker, now=world.now).groups if each.name == name)


def told(world: World, kind: str, name: str) -> list[str]:
    return [each.text for each in world.reports if (each.kind, each.group) == (kind, name)]


def lent(*, wants: bool, **settings: object) -> tuple[World, Process]:
    """Somebody has borrowed most of a device."""
    world = World([LENT, OWNS], settings=Settings(pool_bytes=1 << 50, **settings))  # type: ignore[arg-type]
    process = world.start(LENT, memory=14 * GIB, wants=wants, kernel_ns=20 * MS)
    world.run(SECOND)
    return world, process


WAYS: dict[str, tuple[bool, Callable[[World, Process], None], Callable[[World, Process], None]]] = {
    "stopped at work": (True, World.stop, World.go_on),
    "stopped at rest": (False, World.stop, World.go_on),
    "without a connection": (False, World.drop, World.reconnect),
    "without a connection, at work": (True, World.drop, World.reconnect),
}


@pytest.mark.parametrize("ends", [False, True], ids=["goes on", "is ended"])
@pytest.mark.parametrize("way", WAYS)
def test_what_is_guaranteed_is_waited_for_until_the_borrower_answers_or_ends(way: str, ends: bool) -> None:
    wants, breaks, mends = WAYS[way]
    world, borrower = lent(wants=wants)
    breaks(world, borrower)
    owner = world.start(OWNS, memory=8 * GIB, wants=False)
    world.run(200 * SECOND)
    assert (owner.denied, owner.claimed) == ([], {})
    [text] = told(world, "waits", "owns")
    assert text == (
        "it waits for 8192 MiB of d0, within its guarantee: process 1 of lent, which doesn't answer; "
        "`kill -9 1` ends it, or the broker does by itself with `--stuck end`"
    )
    assert row(world, "owns").waits == (
        "8192 MiB on d0, within its guarantee: process 1 of lent, which doesn't answer; "
        "`kill -9 1` ends it, or the broker does by itself with `--stuck end`"
    )
    assert row(world, "lent").hangs == "process 1 doesn't answer"
    world.kill(borrower) if ends else mends(world, borrower)
    world.run(world.now + 6 * SECOND)
    assert (owner.denied, owner.claimed) == ([], {"d0": 8 * GIB})
    assert row(world, "owns").waits is None
    assert row(world, "lent").hangs is None


def test_where_it_is_wanted_who_does_not_answer_is_ended_for_it() -> None:
    world, borrower = lent(wants=True, stuck=Stuck.END)
    world.stop(borrower)
    owner = world.start(OWNS, memory=8 * GIB, wants=False)
    world.run(20 * SECOND)
    assert not borrower.alive
    assert owner.claimed == {"d0": 8 * GIB}


def test_a_borrower_that_cannot_be_moved_for_now_is_waited_for_by_name() -> None:
    world, borrower = lent(wants=False)
    borrower.swap_out_status = SwapStatus.FAILED
    owner = world.start(OWNS, memory=8 * GIB, wants=False)
    world.run(60 * SECOND)
    assert (owner.denied, owner.claimed) == ([], {})
    [text] = told(world, "waits", "owns")
    assert "lent, whose memory couldn't be moved and is tried again" in text
    borrower.swap_out_status = SwapStatus.DONE
    world.run(70 * SECOND)
    assert owner.claimed == {"d0": 8 * GIB}


def test_one_that_goes_on_in_time_is_not_told_of() -> None:
    world, borrower = lent(wants=True)
    world.stop(borrower)
    owner = world.start(OWNS, memory=8 * GIB, wants=False)
    world.run(8 * SECOND)
    world.go_on(borrower)
    world.run(20 * SECOND)
    assert owner.claimed == {"d0": 8 * GIB}
    assert told(world, "waits", "owns") == []


def test_whoever_is_ended_while_it_waits_is_forgotten() -> None:
    world, borrower = lent(wants=False)
    world.drop(borrower)
    owner = world.start(OWNS, memory=8 * GIB, wants=False)
    world.run(30 * SECOND)
    world.kill(owner)
    world.run(40 * SECOND)
    world.reconnect(borrower)
    world.run(50 * SECOND)
    assert borrower.real == {"d0": 14 * GIB}
    assert borrower.swapped == 0


def test_what_nobody_could_ever_give_is_denied_as_before() -> None:
    """A process of the group swaps nothing, so none of the group is moved, whatever is waited for."""
    world = World([LENT, OWNS])
    borrower = world.start(LENT, memory=14 * GIB, wants=False)
    world.run(SECOND)
    assert world.broker
    world.broker.state.clients[borrower.id].swaps = False
    owner = world.start(OWNS, memory=8 * GIB, wants=False)
    world.run(30 * SECOND)
    assert owner.denied == [Reason.ROOM]


def test_beyond_the_guarantee_nobody_waits_for_who_does_not_answer() -> None:
    greedy = group("greedy", 100, guarantee=GIB, limit=8 * GIB)
    world = World([LENT, greedy])
    borrower = world.start(LENT, memory=14 * GIB, wants=False)
    world.run(SECOND)
    world.drop(borrower)
    other = world.start(greedy, memory=8 * GIB, wants=False)
    world.run(30 * SECOND)
    assert other.denied == [Reason.ROOM]


OUTSIDE = {"d0": {77: 12 * GIB}}


def test_the_room_of_an_outsider_that_is_taken_off_is_waited_for_and_had_at_once() -> None:
    world = World([OWNS])
    world.tell(ev.Outside(0, OUTSIDE))
    owner = world.start(OWNS, memory=8 * GIB, wants=False)
    world.run(5 * SECOND)
    assert (owner.denied, owner.claimed, told(world, "waits", "owns")) == ([], {}, [])
    assert row(world, "owns").waits == (
        "8192 MiB on d0, within its guarantee: process 77, which has no part of it and is to be taken off by the driver; `kill -9 77` ends it"
    )
    world.run(60 * SECOND)
    assert owner.denied == []
    [text] = told(world, "waits", "owns")
    assert (
        "process 77, which has no part of it and is to be taken off by the driver; `kill -9 77` ends it"
        in text
    )
    world.tell(ev.Outside(world.now, {}))
    world.run(world.now + MS)
    assert owner.claimed == {"d0": 8 * GIB}


def test_beside_an_outsider_there_is_what_it_leaves() -> None:
    world = World([OWNS])
    world.tell(ev.Outside(0, OUTSIDE))
    owner = world.start(OWNS, memory=4 * GIB, wants=False)
    world.run(MS)
    assert owner.claimed == {"d0": 4 * GIB}


def test_who_borrows_beside_an_outsider_has_the_drivers_answer_after_a_while() -> None:
    world = World([LENT])
    world.tell(ev.Outside(0, OUTSIDE))
    borrower = world.start(LENT, memory=8 * GIB, wants=False)
    world.run(9 * SECOND)
    assert (borrower.denied, borrower.claimed) == ([], {})
    world.run(11 * SECOND)
    assert borrower.claimed == {"d0": 8 * GIB}


@pytest.mark.deep
@given(st.data())
@settings(
    phases=(Phase.explicit, Phase.generate),
    max_examples=examples(3, 100),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_whenever_borrowers_break_down_the_owner_is_never_denied_and_has_it_when_they_are_mended(
    data: st.DataObject,
) -> None:
    specs = [group(name, 250, guarantee=GIB, limit=10 * GIB) for name in "abc"]
    owns = group("owns", 250, guarantee=12 * GIB)
    world = World([*specs, owns], piece=data.draw(st.sampled_from([0, 256 * MIB])))
    some = [
        world.start(s, memory=6 * GIB, kernel_ns=100 * MS, checkpoints=data.draw(st.booleans()))
        for s in specs
    ]
    world.run(data.draw(st.integers(0, 3000)) * MS)
    owner = None
    broken: list[tuple[Process, Callable[[World, Process], None]]] = []
    for process in data.draw(st.permutations(some)):
        if owner is None and data.draw(st.booleans()):
            owner = world.start(owns, memory=12 * GIB, kernel_ns=100 * MS)
        how = data.draw(st.sampled_from(["stop", "drop", "fails", "well"]))
        if how == "stop":
            world.stop(process)
            broken.append((process, World.go_on))
        elif how == "drop":
            world.drop(process)
            broken.append((process, World.reconnect))
        elif how == "fails":
            process.swap_out_status = SwapStatus.FAILED
            broken.append((process, lambda _, p: setattr(p, "swap_out_status", SwapStatus.DONE)))
        world.run(world.now + data.draw(st.integers(0, 2000)) * MS)
    owner = owner or world.start(owns, memory=12 * GIB, kernel_ns=100 * MS)
    world.run(world.now + data.draw(st.sampled_from([2, 15, 40])) * SECOND)
    assert owner.denied == []
    for process, mend in broken:
        if data.draw(st.booleans()):
            world.kill(process)
        else:
            mend(world, process)
    world.run(world.now + 60 * SECOND)
    assert (owner.denied, owner.claimed) == ([], {"d0": 12 * GIB})
    assert owner.used(0, world.now), "it works with it"
