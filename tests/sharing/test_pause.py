"""A program that pauses leaves its devices to others at once, whatever the broker would have given it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sharing.rig import MIB, Group, Rig
from sharing.test_memory import FILLED

Make = Callable[..., Rig]
BIG = Group(memory=(25 * MIB, 225 * MIB), share=500, swap=True)
OWNER = Group(memory=(225 * MIB, 225 * MIB), share=500, swap=True)


@pytest.mark.parametrize("kind", [BIG, OWNER], ids=["borrower", "owner"])
def test_who_pauses_leaves_the_device_and_finds_all_of_it_again(kind: Group, rig: Make) -> None:
    here = rig({"a": kind, "b": BIG}, memory=256 * MIB)
    program = """
    pointer, data = fill(140, 1)
    paused = layer.gpumax_layer_pause(20000)
    out = counters()["copied_out"] >> 20
    say([paused, out])
    wait_for_a_line()
    again = (counters()["copied_out"] >> 20) - out
    layer.gpumax_layer_resume()
    say([same(pointer, data), again])
    """
    a = here.start("a", FILLED, program)
    assert a.hear() == [0, 140]
    b = here.start("b", FILLED, "pointer, data = fill(140, 2)\nsay(same(pointer, data))")
    assert b.hear() is True
    assert not here.seen("SwapOut", "a"), "nobody had to order what is done already, nor waits for it to rest"
    b.ends()
    a.tell()
    assert a.hear() == [True, 0]
    a.ends()
