"""The memory of a process that has died is somebody else's as soon as the driver has it back."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from broker.test_unfenced import GPU, MIB, Node
from gpumax.broker.control import Group
from gpumax.broker.node.burial import freed

PATIENT = """
import sys
from pathlib import Path
from gpumax.broker.control import Device
from gpumax.broker.core.shapes import SECOND, Settings
from gpumax.broker.node.ears import run
from gpumax.broker.node.main import Wishes, serve
from gpumax.devices.processes import Processes
settings = Settings(burial_ns=3600 * SECOND, memory_wait_ns=3600 * SECOND, pool_bytes=4 << 30, sparse_pool=True)
driver = Processes()
def read():
    found = driver.read()
    print(*[pid for used in found.values() for pid in used], flush=True)
    return found
run(serve(Wishes(Path(sys.argv[1]), (Device(sys.argv[2], 2 << 30),), settings, readings=read)))
"""
"""A broker that waits an hour for the memory of the dead, and says whom the driver lists."""

HOLD = """
    current()
    ok(d.cuMemAlloc(1200 << 20))
    say(os.getpid()); wait_for_a_line()
"""


@pytest.mark.parametrize(
    ("before", "now", "free"),
    [
        ({"a": {7: 1}}, {"a": {}}, [1]),
        ({"a": {7: 1}}, {"a": {7: 1}}, []),
        ({"a": {7: 1}, "b": {7: 1}}, {"a": {}, "b": {7: 1}}, []),
        ({"a": {}}, {"a": {}}, []),
        ({"a": {7: 1}}, {}, []),
    ],
    ids=["gone", "still there", "still on another", "never seen", "can't be read"],
)
def test_only_what_was_listed_and_no_longer_is_is_free(
    before: dict[str, dict[int, int]], now: dict[str, dict[int, int]], free: list[int]
) -> None:
    assert list(freed({1: 7}, before, now)) == free


def test_the_room_of_one_that_died_is_had_as_soon_as_the_driver_has_it_back(tmp_path: Path) -> None:
    with ExitStack() as stack:
        node = Node(tmp_path, stack, command=[sys.executable, "-c", PATIENT, str(tmp_path / "gpu"), GPU])
        node.control.add(Group("a", (GPU,), 1200 * MIB, share=0.5))
        node.control.add(Group("b", (GPU,), 100 * MIB, 1500 * MIB, share=0.5, swap=True))
        first = node.fenced(HOLD, "a")
        pid = first.hear()
        assert node.broker.stdout is not None
        for _ in range(2):  # what was told twice was looked at once
            while str(pid) not in next(node.broker.stdout).split():
                pass
        first.kill()

        assert node.fenced(HOLD, "b", GPUMAX_SWAP="1").hear()
