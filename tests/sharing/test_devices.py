"""Several devices: a program has its turn on all of its own at once, and none on what isn't its group's."""

from __future__ import annotations

from collections.abc import Callable

from sharing.rig import DEVICES, Group, Rig, check_turns, eventually

Make = Callable[..., Rig]
ON_BOTH = """
    first = ok(d.cuCtxGetCurrent())
    second = ok(d.cuDevicePrimaryCtxRetain(ok(d.cuDeviceGet(1))))
    n = 0
    while True:
        for context in (first, second):
            ok(d.cuCtxSetCurrent(context))
            function = ok(d.cuModuleGetFunction(load(), b"spin"))
            work(1)
        n += 1; say(n)
"""
ON_THE_SECOND = """
    current(1)
    function = ok(d.cuModuleGetFunction(load(), b"spin"))
    n = 0
    while True:
        work(2); n += 1; say(n)
"""


def test_a_program_of_two_devices_and_one_of_the_second_take_turns(rig: Make) -> None:
    """The other one sees both devices, too, but has a part of one alone: its turns are those of that one."""
    here = rig({"both": Group(devices=DEVICES), "second": Group(devices=DEVICES[1:])}, devices=2)
    both, second = here.start("both", ON_BOTH), here.start("second", ON_THE_SECOND)
    for program in (both, second):
        program.until(lambda n: n >= 30)
    check_turns(here)
    eventually(lambda: here.seen("Grant", "both") and here.seen("Grant", "second"))
