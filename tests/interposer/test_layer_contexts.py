"""What contexts take of a device, by NVML or else as GPUMAX_CONTEXT says it, counts for as long as they are there; and what a driver can't do is said."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from interposer.client import NOT_FOUND
from interposer.conftest import SMALL
from interposer.emulated import Machine, end, line, tell
from interposer.layered import Under, ran
from interposer.under import Layer, layer, scripted

__all__ = ["layer", "scripted"]
BEGIN = """
    lib, context = ctypes.CDLL("libcuda.so.1"), c_void_p()
    lib.cuInit(0)
"""


def test_a_limit_covers_contexts(layer: Layer) -> None:
    """The primary one once, however often it is asked for; each other one; and all of it is there again when they have ended."""
    said = layer.run(
        """
        c = Cuda(); again = Cuda()
        def free(): return c.info()[0] // MIB
        got, other = [free()], c_void_p()
        c.check(c.lib.cuCtxCreate_v2(byref(other), 0, 0))
        got += [free(), c.try_alloc(25 * MIB)[0], c.try_alloc(24 * MIB)[0], free()]
        c.check(c.lib.cuCtxDestroy_v2(other))
        c.enter()
        got += [free()]
        c.check(c.lib.cuDevicePrimaryCtxRelease_v2(0)); c.check(c.lib.cuDevicePrimaryCtxRelease_v2(0))
        say(got + [Cuda().try_alloc(44 * MIB)[0]])
        """,
        GPUMAX_LIMIT="64Mi", GPUMAX_CONTEXT="20Mi",
    )  # fmt: skip
    assert said == [44, 24, 2, 0, 0, 44, 0]


@pytest.mark.parametrize(
    "make", ["cuDevicePrimaryCtxRetain(byref(context), 0)", "cuCtxCreate_v2(byref(context), 0, 0)",
             "cuGreenCtxCreate(byref(context), None, 0, 0)"],
)  # fmt: skip
def test_a_context_beyond_the_limit_is_out_of_memory(make: str, layer: Layer) -> None:
    said, errors = layer.talk(
        f"{BEGIN}\n    say([lib.{make}, lib.{make}])", GPUMAX_LIMIT="64Mi", GPUMAX_CONTEXT="65Mi"
    )
    assert said == [2, 2]
    assert errors == (
        "gpumax: a part of 64 MiB can't hold a context, which counts 65 MiB (GPUMAX_CONTEXT): "
        "CUDA_ERROR_OUT_OF_MEMORY; ask for more memory\n"
    )


def test_a_green_context_counts_as_the_primary_one_that_it_is_a_part_of(layer: Layer) -> None:
    said = layer.run(
        """
        c = Cuda(); green = c_void_p()
        def free(): return c.info()[0] // MIB
        c.check(c.lib.cuGreenCtxCreate(byref(green), None, 0, 0))
        c.alloc(10 * MIB)
        got = [free()]
        c.check(c.lib.cuDevicePrimaryCtxRelease_v2(0))
        got += [free()]
        c.check(c.lib.cuGreenCtxDestroy(green))
        say(got + [Cuda().info()[0] // MIB])
        """,
        GPUMAX_LIMIT="64Mi", GPUMAX_CONTEXT="20Mi",
    )  # fmt: skip
    assert said == [34, 34, 44]


def test_a_child_pays_for_its_own_contexts(layer: Layer) -> None:
    said = layer.run(
        """
        import os
        lib = ctypes.CDLL("libcuda.so.1")
        child = os.fork()
        if child == 0:
            sys.exit(Cuda().info()[0] != 44 * MIB)
        say([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), Cuda().info()[0] // MIB])
        """,
        GPUMAX_LIMIT="64Mi", GPUMAX_CONTEXT="20Mi",
    )  # fmt: skip
    assert said == [0, 44]


def test_nonsense_is_said_and_contexts_count_nothing(layer: Layer) -> None:
    said, errors = layer.talk("say(Cuda().info()[0] // MIB)", GPUMAX_LIMIT="64Mi", GPUMAX_CONTEXT="much")
    assert said == 64
    assert errors == (
        "gpumax: GPUMAX_CONTEXT=much: not a whole number of bytes, as 536870912 or 512Mi; contexts count nothing\n"
    )


REAL_CONTEXT = 64
"""MiB that one takes of the emulated device, the first of a process; others take nothing."""

MEASURED = """
import json
from client import *
from ctypes import c_void_p
def state():
    active, flags = c_int(), c_uint()
    lib.cuDevicePrimaryCtxGetState(0, byref(flags), byref(active))
    return active.value
lib = ctypes.CDLL("libcuda.so.1")
"""


@pytest.fixture
def under(tmp_path: Path) -> Under:
    return Under(tmp_path, {"clock": "virtual", "devices": [SMALL]})


def said(under: Under, program: str, **settings: str) -> Any:
    """By a program that imports nothing that takes long."""
    done = ran(
        under,
        sys.executable,
        "-c",
        MEASURED + textwrap.dedent(program),
        **({"GPUMAX_LIMIT": "256Mi"} | settings),
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("guess", ["20Mi", "64Mi", "100Mi"])
def test_a_context_counts_as_nvml_says_whatever_was_thought(guess: str, under: Under) -> None:
    """What is left is to be had to the last byte, and shown so; a second context takes nothing here; with the last all is back."""
    got = said(
        under,
        """
        c, other = Cuda(), c_void_p()
        c.check(lib.cuCtxCreate_v2(byref(other), 0, 0))
        left = c.info()[0]
        got = [left // MIB, c.try_alloc(left + 1)[0], c.try_alloc(left)[0], c.info()[0]]
        c.check(lib.cuCtxDestroy_v2(other))
        c.check(lib.cuDevicePrimaryCtxReset_v2(0))
        print(json.dumps(got + [Cuda().info()[0] // MIB]))
        """,
        GPUMAX_CONTEXT=guess,
    )
    room = 256 - REAL_CONTEXT
    assert got == [room, 2, 0, 0, room]


@pytest.mark.parametrize(
    "make", ["cuDevicePrimaryCtxRetain(byref(made), 0)", "cuCtxCreate_v2(byref(made), 0, 0)"]
)
def test_a_context_that_turns_out_larger_than_its_part_is_refused_and_gone(make: str, under: Under) -> None:
    """Nobody has it, and it counts nothing: who has room for it gets it."""
    got = said(
        under,
        f"""
        lib.cuInit(0)
        made = c_void_p()
        values = (c_uint64 * 9)()
        got = [lib.{make}, state(), lib.gpumax_layer_pinned(0, values, c_size_t(9)), list(values)]
        print(json.dumps(got))
        """,
        GPUMAX_LIMIT="60Mi", GPUMAX_CONTEXT="20Mi",
    )  # fmt: skip
    assert got == [2, 0, 9, [0] * 9]
    assert (
        Machine(under.libraries.parent, under.config).run("current(); say(free() >> 20)")
        == 1024 - REAL_CONTEXT
    )


def test_where_nvml_cant_say_it_counts_as_was_said(under: Under) -> None:
    program = "print(json.dumps(Cuda().info()[0] // MIB))"
    assert (
        said(under, program, GPUMAX_CONTEXT="20Mi", GPUMAX_REAL_LIBNVIDIA_ML="/nowhere/libnvidia-ml.so.1")
        == 236
    )
    assert said(under, program, GPUMAX_CONTEXT="20Mi") == 192


def test_threads_that_begin_at_once_pay_for_one_context(under: Under) -> None:
    got = said(
        under,
        """
        import threading
        lib.cuInit(0)
        results = []
        def begin():
            made = c_void_p()
            results.append(lib.cuDevicePrimaryCtxRetain(byref(made), 0))
        threads = [threading.Thread(target=begin) for _ in range(8)]
        for each in threads: each.start()
        for each in threads: each.join()
        print(json.dumps([results, Cuda().info()[0] // MIB]))
        """,
        GPUMAX_LIMIT="90Mi", GPUMAX_CONTEXT="50Mi",
    )  # fmt: skip
    assert got == [[0] * 8, 90 - REAL_CONTEXT]


def test_all_that_a_process_has_is_within_its_limit(under: Under) -> None:
    """The emulated driver knows what a context takes; another process asks it what is used of the device, context and all."""
    holder = under.start(
        """
        current()
        while d.cuMemAlloc(8 << 20)[0] == d.CUresult.CUDA_SUCCESS: pass
        say(free()); wait_for_a_line()
        """,
        GPUMAX_LIMIT="256Mi", GPUMAX_CONTEXT="20Mi",
    )  # fmt: skip
    assert line(holder) == 0
    left, total = Machine(under.libraries.parent, under.config).run("current(); say(ok(d.cuMemGetInfo()))")
    assert total - left - (REAL_CONTEXT << 20) == 256 << 20
    tell(holder)
    end(holder)


def test_where_memory_cant_be_mapped_by_hand_it_isnt_swapped_which_is_said_once(layer: Layer) -> None:
    said, errors = layer.talk(
        """
        c = Cuda()
        first, second = c.alloc(40 * MIB), c.alloc(2 * MIB)
        c.write(first, b"words")
        c.lib.gpumax_layer_swap_out(1000)
        say([c.read(first, 5).decode(), c.info()[0] // MIB, c.try_alloc(23 * MIB)[0]])
        """,
        GPUMAX_LIMIT="64Mi", GPUMAX_SWAP="1", SCRIPT_NO_MAPPING="1",
    )  # fmt: skip
    assert said == ["words", 22, 2]
    assert errors == "gpumax: the driver can't map memory by hand on device 0, so its memory isn't swapped\n"


def test_swappable_memory_has_no_handle_where_the_driver_gives_no_descriptors_which_is_said_once(
    layer: Layer,
) -> None:
    said, errors = layer.talk(
        """
        c, handle = Cuda(), ctypes.create_string_buffer(64)
        large = c.alloc(8 * MIB)
        say([c.lib.cuIpcGetMemHandle(handle, c_uint64(large)) for _ in range(2)])
        """,
        GPUMAX_LIMIT="64Mi", GPUMAX_SWAP="1",
    )  # fmt: skip
    assert said == [NOT_FOUND] * 2
    assert errors == (
        "gpumax: memory that can be swapped can't be opened by other processes with this driver (cuIpcGetMemHandle); "
        "without GPUMAX_SWAP it can\n"
    )
