"""Processes that are to begin together do, by what their environment says; and go on where the others don't come."""

from __future__ import annotations

from collections.abc import Callable

from sharing.rig import Group, Rig, eventually
from sharing.test_turns import FOREVER

Make = Callable[..., Rig]


def test_none_begins_before_all_have_come_and_then_all_do(rig: Make) -> None:
    """A rank that comes twice is one: what it starts doesn't stand for who is missing."""
    here = rig({"a": Group(share=1000)})
    ranks = [here.start("a", FOREVER, GPUMAX_RANKS="2", RANK="0") for _ in range(2)]
    eventually(lambda: len(here.seen("Wanted", "a")) >= 2)
    assert not here.seen("Grant", "a")
    ranks.append(here.start("a", FOREVER, GPUMAX_RANKS="2", RANK="1"))
    for program in ranks:
        program.until(lambda n: n >= 5)


def test_whoever_is_killed_before_the_others_come_keeps_nobody_waiting(rig: Make) -> None:
    here = rig({"a": Group(share=1000)})
    killed, stays = (here.start("a", FOREVER, GPUMAX_RANKS="3", RANK=rank) for rank in "01")
    eventually(lambda: len(here.seen("Wanted", "a")) >= 2)
    killed.kill()
    here.start("a", FOREVER, GPUMAX_RANKS="3", RANK="2")
    stays.until(lambda n: n >= 5)


def test_one_that_never_comes_is_waited_for_only_so_long(rig: Make) -> None:
    here = rig({"a": Group(share=1000)}, gang_wait_ms=200)
    here.start("a", FOREVER, GPUMAX_RANKS="2").until(lambda n: n >= 5)
    assert len(here.seen("report gang", "a")) == 1


def test_a_number_of_ranks_that_is_none_is_told_and_nobody_waits(rig: Make) -> None:
    here = rig({"a": Group(share=1000)})
    a = here.start("a", "work(); say('done')", GPUMAX_RANKS="two")
    assert a.hear() == "done"
    assert a.ends().startswith("gpumax: GPUMAX_RANKS=two: not a number of processes")
