"""Memory that leaves a device lies in what the broker has set aside for it, so it doesn't count as the program's own."""

from __future__ import annotations

from collections.abc import Callable

from sharing.rig import MIB, Group, Rig
from sharing.test_memory import FILLED

Make = Callable[..., Rig]
BORROWER = Group(memory=(20 * MIB, 200 * MIB), share=500, swap=True)

POOL = """
    def pooled():
        "MiB of the broker's memory that are in use by this process."
        sum, ours = 0, False
        for line in open("/proc/self/smaps"):
            if "-" in line.split()[0]: ours = "gpumax-pool" in line
            elif ours and line.startswith("Rss:"): sum += int(line.split()[1])
        return sum >> 10
"""


def test_what_is_out_lies_in_the_brokers_memory(rig: Make) -> None:
    here = rig({"a": BORROWER, "b": BORROWER}, memory=256 * MIB)
    a = here.start(
        "a",
        FILLED,
        POOL,
        """
    pointer, data = fill(150, 1)
    say("filled")
    while counters()["copied_out"] >> 20 < 150: time.sleep(0.01)
    say(pooled())
    wait_for_a_line()
    say(same(pointer, data))
    """,
    )
    assert a.hear() == "filled"
    b = here.start("b", FILLED, "pointer, data = fill(150, 2)\nsay(same(pointer, data))")
    assert 140 <= a.hear() <= 200
    assert b.hear() is True
    b.ends()
    a.tell()
    assert a.hear() is True
    a.ends()
