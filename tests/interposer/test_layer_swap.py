"""What was taken off the device comes back as it was, to the bit and at the same address; and nobody notices meanwhile."""

from __future__ import annotations

import textwrap

import pytest

from interposer.under import Layer, layer, scripted

__all__ = ["layer", "scripted"]

BEGIN = """
    import hashlib, random
    c = Cuda()
    def out(): return c.lib.gpumax_layer_swap_out(5000)
    def back(): return c.lib.gpumax_layer_swap_in()
    def driver(name):
        "A function of the driver itself, behind the layer's back."
        import os
        return ctypes.cast(getattr(ctypes.CDLL(os.environ["GPUMAX_REAL_LIBCUDA"]), name), c_void_p).value
    in_use = ctypes.CFUNCTYPE(c_uint64, c_int)(c.address("script_in_use"))
    def fill(size):
        it, data = c.alloc(size), random.randbytes(size)
        c.write(it, data)
        return it, size, hashlib.sha256(data).digest()
    def whole(buffer): return hashlib.sha256(c.read(buffer[0], buffer[1])).digest() == buffer[2]
"""


def swapping(layer: Layer, program: str, **settings: str) -> object:
    return layer.run(textwrap.dedent(BEGIN) + textwrap.dedent(program), **({"GPUMAX_SWAP": "1"} | settings))


def test_after_many_swaps_every_byte_is_where_it_was(layer: Layer) -> None:
    """Buffers of all sizes, of one piece and of several, with a last piece that is shorter than the others."""
    said = swapping(
        layer,
        """
    buffers = [fill(size) for size in (MIB, MIB + 1, 3 * MIB, 32 * MIB, 65 * MIB + 12345)]
    results = set()
    for _ in range(8):
        results |= {out(), in_use(0), back()}
        assert all(map(whole, buffers))
    say(sorted(results))
    """,
    )
    assert said == [0]


def test_between_swaps_what_was_written_stays(layer: Layer) -> None:
    said = swapping(
        layer,
        """
    it = c.alloc(40 * MIB)
    for turn in range(10):
        c.write(it + 39 * MIB, bytes([turn]) * 100)
        out(); back()
        assert c.read(it + 39 * MIB, 100) == bytes([turn]) * 100
    say("well")
    """,
    )
    assert said == "well"


def test_small_allocations_stay_on_the_device(layer: Layer) -> None:
    said = swapping(layer, "c.alloc(1000); fill(4 * MIB); out(); say(in_use(0)); back()")
    assert said == 1000


def test_what_is_out_counts_as_before(layer: Layer) -> None:
    """The limit holds for what a process has, wherever it is; and what is freed while it is out is gone for good."""
    said = swapping(
        layer,
        """
    first, second = fill(24 * MIB), fill(24 * MIB)
    out()
    free = c.info()[0] // MIB
    c.free(first[0])
    freed = c.info()[0] // MIB
    say([free, freed, back(), whole(second), in_use(0) // MIB])
    """,
        GPUMAX_LIMIT="64Mi",
    )
    assert said == [16, 40, 0, True, 24]


def test_a_program_waits_for_its_memory_and_then_finds_it(layer: Layer) -> None:
    said = swapping(
        layer,
        """
    import threading
    buffer = fill(40 * MIB)
    out()
    found = []
    def read():
        c.enter()
        found.append(whole(buffer))
    thread = threading.Thread(target=read)
    thread.start()
    while not counters(c.lib)["gate_waits"]: pass
    before = list(found)
    back()
    thread.join()
    say([before, found])
    """,
    )
    assert said == [[], [True]]


def test_what_is_read_only_is_copied_out_once(layer: Layer) -> None:
    said = swapping(
        layer,
        """
    weights, cache = fill(40 * MIB), fill(8 * MIB)
    c.check(c.lib.gpumax_layer_read_only(c_ulonglong(weights[0]), 1))
    copied = []
    for _ in range(3):
        before = counters(c.lib)["copied_out"]
        out(); back()
        copied.append((counters(c.lib)["copied_out"] - before) // MIB)
    say([copied, whole(weights), whole(cache)])
    """,
    )
    assert said == [[48, 8, 8], True, True]


def test_where_the_device_has_no_room_it_stays_out_and_comes_back_later(layer: Layer) -> None:
    """Somebody else has the memory: what fits not stays on the host, whole."""
    said = swapping(
        layer,
        """
    buffer = fill(100 * MIB)
    out()
    wish = AllocationProp(type=1, location=Location(1, 0))
    other = c_uint64()
    create = ctypes.CFUNCTYPE(c_int, c_void_p, c_size_t, c_void_p, c_ulonglong)(driver("cuMemCreate"))
    create(ctypes.addressof(other), 64 * MIB, ctypes.addressof(wish), 0)
    refused = [back(), back()]
    release = ctypes.CFUNCTYPE(c_int, c_uint64)(driver("cuMemRelease"))
    release(other.value)
    say([refused, back(), whole(buffer)])
    """,
        SCRIPT_MEMORY=str(128 << 20),
    )
    assert said == [[2, 2], 0, True]


@pytest.mark.parametrize("call", ["cuMemcpyDtoHAsync_v2", "cuCtxSynchronize"])
@pytest.mark.parametrize("nth", [1, 2])
def test_what_fails_on_the_way_out_is_undone(call: str, nth: int, layer: Layer) -> None:
    """Whichever call fails: either all is out, or all is on the device, whole, and the program goes on."""
    said = swapping(
        layer,
        """
    buffers = [fill(40 * MIB), fill(3 * MIB)]
    first = out()
    if first:
        assert all(map(whole, buffers)) and c.launch() == 0
    second = out()
    third = out()
    say([first in (0, 2), third, back(), all(map(whole, buffers)), in_use(0) // MIB])
    """,
        SCRIPT_FAIL=f"{call}:{nth}",
    )
    assert said == [True, 0, 0, True, 44]


@pytest.mark.parametrize("call", ["cuMemCreate", "cuMemMap", "cuMemcpyHtoDAsync_v2"])
@pytest.mark.parametrize("nth", [1, 4])
def test_what_fails_on_the_way_in_can_be_tried_again(call: str, nth: int, layer: Layer) -> None:
    said = swapping(
        layer,
        """
    sizes, buffers = (40 * MIB, 3 * MIB), []
    for size in sizes:
        try:
            buffers.append(fill(size))
        except RuntimeError:
            buffers.append(fill(size))  # the call that fails was one of the allocation
    assert out() == 0
    first = back()
    second = back()
    say([first in (0, 2), second, all(map(whole, buffers)), in_use(0) // MIB])
    """,
        SCRIPT_FAIL=f"{call}:{nth}",
    )
    assert said == [True, 0, True, 44]


def test_what_is_made_of_pieces_answers_as_one_allocation(layer: Layer) -> None:
    said = swapping(
        layer,
        """
    it = c.alloc(70 * MIB)
    base, size = c_uint64(), c_size_t()
    c.check(c.lib.cuMemGetAddressRange_v2(byref(base), byref(size), c_uint64(it + 40 * MIB)))
    say([base.value == it, size.value // MIB])
    """,
    )
    assert said == [True, 70]


def test_without_the_wish_to_swap_nothing_is(layer: Layer) -> None:
    assert layer.run(textwrap.dedent(BEGIN) + "fill(4 * MIB); say([out(), back()])", GPUMAX_LIMIT="64Mi") == [
        801,
        0,
    ]


def test_the_end_of_the_context_ends_what_is_made_of_pieces(layer: Layer) -> None:
    said = swapping(
        layer,
        "fill(40 * MIB); c.check(c.lib.cuDevicePrimaryCtxReset_v2(0)); say([in_use(0), c.info()[0] // MIB])",
        GPUMAX_LIMIT="64Mi",
    )
    assert said == [0, 64]
