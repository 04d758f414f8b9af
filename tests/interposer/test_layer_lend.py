"""Swappable memory in other processes, as PyTorch's processes pass tensors on: by a handle of 64 bytes, with the driver's own functions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interposer.conftest import SMALL
from interposer.emulated import line, tell
from interposer.layered import Under
from interposer.under import HERE
from sharing.rig import eventually

BOTH = """
import os, signal, sys
class Handle(ctypes.Structure):
    _fields_ = [("text", ctypes.c_char * 64)]
c = None
def begin():
    global c
    c = Cuda()
    return 0
def fill():
    "An allocation of three pieces, with bytes that are others everywhere."
    global p
    p = c.alloc(66 * MIB)
    c.write(p, DATA)
    return 0
def same():
    return c.read(p, len(DATA)) == DATA
def handle(pointer):
    got = Handle()
    c.check(c.lib.cuIpcGetMemHandle(byref(got), c_uint64(pointer)))
    return bytes(got).hex()
def opened(text):
    global p
    pointer = c_uint64()
    result = c.lib.cuIpcOpenMemHandle_v2(byref(pointer), Handle.from_buffer_copy(bytes.fromhex(text)), c_uint(1))
    p = p if result else pointer.value
    return result
def close():
    return c.lib.cuIpcCloseMemHandle(c_uint64(p))
def whole(inside):
    base, size = c_uint64(), c_size_t()
    c.check(c.lib.cuMemGetAddressRange_v2(byref(base), byref(size), c_uint64(inside)))
    return [base.value == p, size.value // MIB]
def free():
    return c.info()[0] // MIB
def elsewhere():
    out, opened = c_uint64(), c_uint64()
    c.lib.gpumax_layer_elsewhere(byref(out), byref(opened))
    return [out.value, opened.value]
def shared():
    "MiB that aren't moved since others have them open."
    values = (c_uint64 * 9)()
    c.lib.gpumax_layer_pinned(0, values, c_size_t(9))
    return values[7] // MIB
class Report(ctypes.Structure):
    _fields_ = [("status", c_int), ("why", c_int), ("resident", c_uint64), ("copied", c_uint64), ("took", c_uint64)]
def order(out):
    report = Report()
    c.lib.gpumax_layer_swap(0, out, c_ulonglong(0 if out else 1 << 40), 5000, byref(report))
    return [report.status, report.resident // MIB]
def until(what, wanted):
    import time
    for _ in range(6000):
        if what() == wanted: break
        time.sleep(0.01)
    return what()
def child():
    pid = os.fork()
    if not pid: signal.pause()
    return pid
p, DATA = 0, b"".join(i.to_bytes(4, "little") for i in range(256)) * (66 << 10)
for asked in sys.stdin:
    print(json.dumps(eval(json.loads(asked))), flush=True)
"""
"""A program that does what it's told, an expression a line."""


class Program:
    """One of them."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def __call__(self, *expressions: str) -> Any:
        """What they come to, or what the only one does."""
        self.begin(*expressions)
        return line(self.process)

    def begin(self, *expressions: str) -> None:
        tell(
            self.process,
            json.dumps(expressions[0] if len(expressions) == 1 else f"[{', '.join(expressions)}]"),
        )


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Starts such a program; all share a limit of 256 MiB."""
    under = Under(tmp_path, {"clock": "virtual", "devices": [SMALL]})
    started: list[subprocess.Popen[str]] = []

    def one(**settings: str) -> Program:
        process = subprocess.Popen(
            [sys.executable, "-c", "import json\nfrom client import *\n" + BOTH],
            env=under.environment(**({"GPUMAX_LIMIT": "256Mi", "GPUMAX_SWAP": "1", "PYTHONPATH": str(HERE)} | settings)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        program = Program(process)
        program("begin()")
        return program

    yield one
    for each in started:
        each.kill()
        each.communicate()


OWNER = ("fill()", "handle(p)")


def test_both_see_the_same_bytes_and_they_count_once(start: Any) -> None:
    """Three pieces are one allocation in the other process, too; what that writes the owner sees."""
    owner, other = start(), start(GPUMAX_SWAP="")
    _, handle = owner("fill()", "handle(p + (33 << 20))")
    assert other(f"opened('{handle}')", "same()", "c.write(p + (40 << 20), b'words')") == [0, True, None]
    assert owner("c.read(p + (40 << 20), 5) == b'words'")
    assert [each("whole(p + (65 << 20))", "free()") for each in (owner, other)] == [[[True, 66], 190]] * 2
    assert [owner("elsewhere()"), other("elsewhere()")] == [[1, 0], [0, 1]]
    assert other("c.lib.cuMemFree_v2(c_uint64(p))", "close()", "close()") == [1, 0, 1]
    assert owner("c.free(p)") is None
    assert eventually(lambda: owner("free()") == 256)  # the owner hears a little later that it was closed


def test_what_is_open_elsewhere_is_not_moved_and_what_was_closed_is(start: Any) -> None:
    """Until it was closed as often as it was opened; then it goes out, comes back whole, and can be opened again."""
    owner, other = start(), start()
    _, handle = owner(*OWNER)
    assert owner("order(1)", "order(0)") == [[0, 0], [0, 66]]  # a handle alone keeps nothing where it is
    assert other(f"opened('{handle}')", "p", f"opened('{handle}')", "p")[1::2] == [other("p")] * 2
    assert owner("shared()", "order(1)") == [66, [0, 66]]
    assert other("close()", "same()") == [0, True]
    assert owner("shared()") == 66
    assert other("close()", "close()") == [0, 1]
    assert owner("until(shared, 0)", "order(1)", "order(0)", "same()") == [0, [0, 0], [0, 66], True]
    assert other(f"opened('{handle}')", "same()") == [0, True]


def test_whoever_opens_what_is_off_the_device_waits_until_it_is_back(start: Any) -> None:
    owner, other = start(), start()
    _, handle = owner(*OWNER)
    assert owner("c.lib.gpumax_layer_pause(5000)", "shared()") == [0, 0]
    other.begin(f"opened('{handle}')", "same()")
    assert owner("c.lib.gpumax_layer_resume()") == 0
    assert line(other.process) == [0, True]
    assert owner("shared()") == 66


def test_whoever_is_killed_lets_go_and_who_has_it_open_keeps_the_bytes_of_the_dead(start: Any) -> None:
    owner, victim, other = start(), start(), start()
    _, handle = owner(*OWNER)
    assert victim(f"opened('{handle}')") == 0
    assert owner("shared()") == 66
    victim.process.kill()
    assert owner("until(shared, 0)") == 0
    assert other(f"opened('{handle}')") == 0
    owner.process.kill()
    owner.process.wait()
    assert other("same()", "close()", f"opened('{handle}')") == [True, 0, 1]


def test_what_was_freed_counts_until_it_is_closed(start: Any) -> None:
    owner, other = start(), start()
    _, handle = owner(*OWNER)
    assert other(f"opened('{handle}')", f"opened('{handle[:32]}' + '0' * 96)") == [0, 1]
    assert owner("c.free(p)", "free()", "shared()") == [None, 190, 66]
    assert other("same()", "close()") == [True, 0]
    assert owner("until(free, 256)") == 256


def test_children_keep_nothing_open(start: Any) -> None:
    """A child by fork has neither what its parent lent nor what it borrowed, and keeps no connection of either."""
    owner, other = start(), start()
    _, handle = owner(*OWNER)
    assert other(f"opened('{handle}')") == 0
    children = [owner("child()"), other("child()")]
    try:
        assert other("close()") == 0
        assert owner("until(shared, 0)") == 0
        owner.process.kill()
        owner.process.wait()
        assert other(f"opened('{handle}')") == 1
    finally:
        for each in children:
            os.kill(each, signal.SIGKILL)


def test_a_context_that_ends_closes_what_was_opened_in_it(start: Any) -> None:
    owner, other = start(), start()
    _, handle = owner(*OWNER)
    assert other(
        "c.lib.cuCtxCreate_v2(byref(c.context), 0, 0)", f"opened('{handle}')", "c.lib.cuCtxDestroy_v2(c.context)",
    ) == [0, 0, 0]  # fmt: skip
    assert owner("until(shared, 0)") == 0
    assert other("begin()", "close()") == [0, 1]


def test_handles_of_the_driver_pass_through(start: Any) -> None:
    """Small memory has the driver's; so has what a program without the layer made. Its own a process can't open."""
    owner, other, bare = start(), start(), start(LD_PRELOAD="", GPUMAX_SWAP="", GPUMAX_LIMIT="")
    small = owner("handle(c.alloc(1000))")
    assert other(f"opened('{small}')", "close()") == [0, 0]
    _, theirs = bare(*OWNER)
    assert other(f"opened('{theirs}')", "same()", "elsewhere()", "free()") == [0, True, [0, 2], 255]
    _, own = owner(*OWNER)
    assert owner(f"opened('{own}')") == 201
    assert bare(f"opened('{own}')") == 1
