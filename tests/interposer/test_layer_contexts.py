"""What contexts take of a device, as GPUMAX_CONTEXT says it, counts for as long as they are there; and what a driver can't do is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from interposer.client import NOT_FOUND
from interposer.conftest import SMALL
from interposer.emulated import Machine, end, line, tell
from interposer.layered import Under
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
    assert layer.run(f"{BEGIN}\n    say(lib.{make})", GPUMAX_LIMIT="64Mi", GPUMAX_CONTEXT="65Mi") == 2


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
        "gpumax: GPUMAX_CONTEXT=much: not a number of bytes, as 536870912 or 512Mi; contexts count nothing\n"
    )


def test_told_what_the_driver_takes_all_that_a_process_has_is_within_its_limit(tmp_path: Path) -> None:
    """The emulated driver knows what a context takes; another process asks it what is used of the device, context and all."""
    config = {"clock": "virtual", "devices": [SMALL]}
    under = Under(tmp_path, config)
    holder = under.start(
        """
        current()
        while d.cuMemAlloc(8 << 20)[0] == d.CUresult.CUDA_SUCCESS: pass
        say(free()); wait_for_a_line()
        """,
        GPUMAX_LIMIT="256Mi", GPUMAX_CONTEXT=str(SMALL["context"]),
    )  # fmt: skip
    assert line(holder) == 0
    left, total = Machine(tmp_path, config).run("current(); say(ok(d.cuMemGetInfo()))")
    own = 64 << 20
    assert total - left - own == 256 << 20
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
