"""The second tier with programs under the layer: the driver takes a whole process off the device, and brings it back with every bit."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

import pytest

from gpumax.broker.node import second
from sharing.rig import MIB, Group, Program, Rig, eventually
from sharing.scenes import HOLDS
from sharing.serve import BEFALLEN

Make = Callable[..., Rig]

GROUPS = {
    "a": Group(memory=(120 * MIB, 120 * MIB), swap=True),
    "b": Group(memory=(100 * MIB, 250 * MIB), swap=True),
}  # what b wants has no room beside what of a can't be swapped
SETTINGS = {
    "cold_ns": 300_000_000, "idle_ns": 300_000_000, "stuck_ns": 300_000_000, "memory_wait_ns": 60_000_000_000,
}  # fmt: skip

RESTS = (
    HOLDS
    + """
    first = checksums()
    say(first[0] == first[1])
"""
)
MANAGED = "kept = ok(d.cuMemAllocManaged(4 << 20, 1))"
"""What has such memory the driver refuses to take off."""
ASKS = "say('asks'); p = ok(d.cuMemAlloc(220 << 20)); say('has'); wait_for_a_line(); ok(d.cuMemFree(p)); say('frees'); wait_for_a_line()"
WAYS = {
    "a kernel": "say(checksums() == first)",
    "a call that nobody holds up": "ok(d.cuStreamCreate(0)); say(checksums() == first)",
    "an allocation": "ok(d.cuMemAlloc(4 << 20)); say(checksums() == first)",
}


def begin(rig: Make, then: str, *faults: dict[str, str], first: str = "") -> tuple[Rig, Program, Program]:
    """A program rests, and another one asks for its room."""
    here = rig(GROUPS, memory=256 * MIB, driver=True, settings=SETTINGS, helpers=faults)
    a = here.start("a", first, RESTS, "wait_for_a_line()", then)
    assert a.hear() is True
    b = here.start("b", ASKS)
    assert b.hear() == "asks"
    return here, a, b


def taken_off(rig: Make, then: str) -> tuple[Rig, Program, Program]:
    """It's off the device, and the other one has its room."""
    here, a, b = begin(rig, then)
    assert b.hear() == "has"
    return here, a, b


def nobody_is_away(here: Rig) -> None:
    """No file says that it isn't known where somebody is; and nobody was granted anything while it was away."""
    eventually(lambda: not list((here.directory / "away").iterdir()))
    away = False
    for each in [each for each in here.record() if each["group"] == "a"]:
        away = {"report checkpointed": True, "report restored": False, "Died": False}.get(each["kind"], away)
        assert not (away and each["kind"] in ("Grant", "SwapIn", "SwapOut"))


@pytest.mark.parametrize("way", WAYS)
def test_who_rests_is_taken_off_for_others_and_comes_back_when_it_wants(way: str, rig: Make) -> None:
    here, a, _ = taken_off(rig, WAYS[way])
    assert here.seen("report checkpointed", "a")
    assert here.seen("SwapOut", "a")[0]["at"] < here.seen("Checkpoint", "a")[0]["at"]
    a.tell()
    assert a.hear() is True
    assert here.seen("report restored", "a")
    nobody_is_away(here)


def test_it_comes_back_by_itself_when_nobody_wants_the_room(rig: Make) -> None:
    here, a, b = taken_off(rig, "say(checksums() == first)")
    b.tell()
    assert b.hear() == "frees"
    eventually(lambda: here.seen("report restored", "a"))
    a.tell()
    assert a.hear() is True


CALL = "cuCheckpointProcess"
STEPS = {
    ("away", "Lock"): "running",
    ("away", "Checkpoint"): "locked",
    ("away", "Unlock"): "locked, and can't be taken off",
    ("away", ""): "away",
    ("back", "Restore"): "about to be restored",
    ("back", "Unlock"): "restored",
    ("back", ""): "back",
    ("settle", "Unlock"): "locked by a helper that was killed",
}
"""By what a helper is at, and its next call of the driver; none: it has made its last."""
WHAT = ("the broker is killed", "it is killed", "its helper is killed")
EVERY_DAY = {
    (WHAT[0], ("away", "Checkpoint")),
    (WHAT[0], ("away", "")),
    (WHAT[1], ("away", "")),
    (WHAT[2], ("settle", "Unlock")),
    (WHAT[2], ("back", "Unlock")),
}
DEATHS = [
    pytest.param(what, step, marks=() if (what, step) in EVERY_DAY else pytest.mark.slow, id=f"{what} while it is {STEPS[step]}")
    for what in WHAT
    for step in STEPS
]  # fmt: skip


def test_each_step_that_a_helper_makes_is_one_at_which_somebody_is_killed() -> None:
    found = set()
    for way, function in second._WAYS.items():
        calls = re.findall(r'driver\.step\("(\w+)"', inspect.getsource(function))
        found |= {(way, call) for call in (*calls, "")}
    found -= {("settle", "")}  # it only looks, and undoes a lock as whoever brings back does
    assert found | {("settle", "Unlock")} == set(STEPS)


@pytest.mark.parametrize(("what", "step"), DEATHS)
def test_whoever_is_killed_nobody_stays_away_or_locked(what: str, step: tuple[str, str], rig: Make) -> None:
    """Its helper goes with the broker: what the driver has done is all that the next one can know."""
    way, call = step[0], step[1] and CALL + step[1]
    faults = [{"way": way, "call": call, "what": what}]
    if way == "settle":
        faults.insert(0, {"way": "away", "call": f"{CALL}Checkpoint", "what": "its helper is killed"})
    stays = step == ("away", "Unlock")
    here, a, b = begin(rig, WAYS["a kernel"], *faults, first=MANAGED if stays else "")
    if way == "back":
        assert b.hear() == "has"
        a.tell()
    here.helpers = ()
    if what == "the broker is killed":
        here.broken()
        here.serve()
    if what == "it is killed":
        a.process.wait()
        if way != "back":
            assert b.hear() == "has"
        b.tell()
        assert b.hear() == "frees"
        a = here.start("a", RESTS)
    elif stays:
        eventually(lambda: here.seen("report checkpoint", "a"))
        a.tell()
    elif way != "back":
        assert b.hear() == "has"
        a.tell()
    assert a.hear() is True
    nobody_is_away(here)
    assert [(each["way"], each["call"]) for each in here.seen(BEFALLEN)] == [
        (each["way"], each["call"]) for each in faults
    ]
