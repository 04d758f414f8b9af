"""At every step of the protocol, as the code has them, whoever is killed or stopped: the others go on, nothing is granted twice, nothing is left."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from gpumax.broker import messages as msg
from interposer.under import page
from sharing.rig import Rig, eventually
from sharing.scenes import SCENES
from sharing.steps import (
    BROKER_KILLED,
    BY_MESSAGE,
    FAULTS,
    KILLED,
    OTHER_KILLED,
    STEPS,
    STOPPED,
    Cast,
)

Make = Callable[..., Rig]
EVERY_DAY = {
    "they take turns in memory": [("SwapOut", KILLED), ("Revoke", STOPPED), ("Asked", BROKER_KILLED)],
    "two of a group share its limit": [("Trim", KILLED)],
    "some come and go": [("Leaving", BROKER_KILLED)],
    "a holder stops": [("PageSeen", BROKER_KILLED)],
    "who is stuck is ended": [("End", OTHER_KILLED)],
    "its share changes and ends": [("Refuse", KILLED)],
    "the driver takes one off the device": [("Restored", OTHER_KILLED)],
}


@pytest.mark.parametrize("step", STEPS)
def test_each_step_of_the_code_has_a_scene_in_which_each_fault_befalls_it(step: str) -> None:
    scenes = [scene for scene in SCENES.values() if step in scene.steps]
    assert scenes, f"{step} is made by nobody"
    for what in FAULTS:
        assert any(step in scene.at(what) or (step, what) in scene.spared for scene in scenes), what


def test_scenes_come_to_no_step_that_is_none() -> None:
    assert not {step for scene in SCENES.values() for step in scene.steps} - set(STEPS)


@pytest.mark.parametrize("message", msg.ALL, ids=lambda each: each.__name__)
def test_each_message_is_a_step(message: type[msg.Message]) -> None:
    assert set(BY_MESSAGE[message]) <= set(STEPS)


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def nothing_is_left(cast: Cast) -> None:
    """All processes end, whatever way, and so does what was kept for them."""
    here = cast.here
    assert here.broker is not None
    for _, _, program in cast.programs:
        program.signal(signal.SIGTERM)
        program.signal(signal.SIGCONT)
        program.process.wait()
    eventually(lambda: not here.pages)
    files = open_files(here.broker.pid)
    again = here.start("a", "work(); say(1)")
    again.hear()
    again.ends()
    eventually(lambda: not here.pages)
    eventually(lambda: open_files(here.broker.pid) == files if here.broker else False)
    assert not page(f"{here.folder}/a").exists()
    assert not list((here.directory / "away").glob("*"))


def play(name: str, rig: Make, faults: list[tuple[str, str]]) -> Cast:
    scene = SCENES[name]
    cast = Cast(rig(dict(scene.groups), **scene.options), scene)
    for step, what in faults:
        cast.arm(step, what)
        if not cast.programs:
            cast.begin()
        cast.come()
        cast.mend()
        cast.go_on()
    return cast


@pytest.mark.parametrize("name", SCENES)
def test_each_scene_comes_to_all_of_its_steps(name: str, rig: Make) -> None:
    cast = play(name, rig, EVERY_DAY[name])
    for step in SCENES[name].steps:
        cast.see(step)
    nothing_is_left(cast)


ALL = [(what, name) for name, scene in SCENES.items() for what in (*FAULTS, *scene.more) if scene.at(what)]


@pytest.mark.slow
@pytest.mark.parametrize(("what", "name"), ALL, ids=lambda each: each.replace(" ", "-"))
def test_at_every_step_others_go_on(what: str, name: str, rig: Make) -> None:
    cast = play(name, rig, [(step, what) for step in SCENES[name].at(what)])
    nothing_is_left(cast)
