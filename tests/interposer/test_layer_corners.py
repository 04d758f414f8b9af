"""What few programs call: it waits at the gate, stays what it is, or gives the driver's answer, and is counted."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from interposer.conftest import INTERPOSER, SMALL
from interposer.layered import Under, ran
from interposer.swapping import swapping
from interposer.under import Layer, layer, scripted

__all__ = ["layer", "scripted"]
LISTED = [
    line.split() for line in (INTERPOSER / "names/driver-hooks.txt").read_text().splitlines()
    if line.strip() and not line.startswith("#")
]  # fmt: skip
GATED = {name: int(arguments) for name, kind, arguments in LISTED if kind == "gate"}


@pytest.fixture
def under(tmp_path: Path) -> Under:
    """One emulated device of a GiB."""
    return Under(tmp_path, {"clock": "virtual", "devices": [SMALL]})


def said(under: Under, program: str, **settings: str) -> Any:
    """By a program that imports nothing that takes long."""
    head = "import json, threading\nfrom client import *\nc = Cuda()\n"
    done = ran(
        under, sys.executable, "-c", head + textwrap.dedent(program), **({"GPUMAX_LIMIT": "256Mi"} | settings)
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_function_that_submits_work_waits_while_the_gate_is_closed(under: Under) -> None:
    """Each by a thread of its own, batches of copies, of memory to discard and to decompress, and twins for threads among them."""
    got = said(
        under,
        f"""
        gated, results = {GATED!r}, {{}}
        assert c.lib.gpumax_layer_hold(1, 5000) == 0
        def call(name, arguments):
            c.enter()
            results[name] = getattr(c.lib, name)(*[c_void_p()] * arguments)
        threads = [threading.Thread(target=call, args=each) for each in gated.items()]
        for each in threads: each.start()
        while counters(c.lib)["gate_waits"] < len(gated) and not results: pass
        before = list(results)
        c.lib.gpumax_layer_hold(0, 0)
        for each in threads: each.join()
        print(json.dumps([before, len(results), counters(c.lib)["gate_waits"]]))
        """,
    )
    assert len(GATED) > 150
    assert got == [[], len(GATED), len(GATED)]


def test_a_batch_of_copies_waits_for_what_is_off_the_device(under: Under) -> None:
    got = under.run(
        """
        from client import counters
        context = current()
        lib, stream, data = ctypes.CDLL("libcuda.so.1"), ok(d.cuStreamCreate(1)), np.arange(1 << 20, dtype=np.uint32)
        p, q = upload(data), ok(d.cuMemAlloc(data.nbytes))
        how = d.CUmemcpyAttributes()
        how.srcAccessOrder = d.CUmemcpySrcAccessOrder.CU_MEMCPY_SRC_ACCESS_ORDER_STREAM
        def behind(pointer): return [d.CUdeviceptr(int(pointer) + at) for at in (0, 4096)]
        def copy():
            ok(d.cuCtxSetCurrent(context))
            ok(d.cuMemcpyBatchAsync(behind(q), behind(p), [4096, data.nbytes - 4096], 2, [how], [0], 1, stream))
        out, thread = lib.gpumax_layer_swap_out(5000), threading.Thread(target=copy)
        thread.start()
        while not counters(lib)["gate_waits"]: pass
        back = lib.gpumax_layer_swap_in()
        thread.join()
        ok(d.cuStreamSynchronize(stream))
        say([out, back, bool((download(q, data) == data).all())])
        """,
        GPUMAX_SWAP="1",
    )
    assert got == [0, 0, True]


@pytest.mark.parametrize("several", [False, True])
def test_what_is_off_the_device_is_said_to_be_mapped_once_it_is_there(several: bool, under: Under) -> None:
    """What the driver says of a pointer meanwhile isn't true of it at any other time."""
    ask = "cuPointerGetAttributes(2, [mapped, kind], p)" if several else "cuPointerGetAttribute(mapped, p)"
    got = under.run(
        f"""
        from client import counters
        context, lib, said = current(), ctypes.CDLL("libcuda.so.1"), []
        p = upload(np.arange(10 << 20, dtype=np.uint32))
        mapped, kind = d.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MAPPED, d.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE
        def ask():
            ok(d.cuCtxSetCurrent(context))
            said.append(ok(d.{ask}))
        there = ok(d.{ask})
        out, thread = lib.gpumax_layer_swap_out(5000), threading.Thread(target=ask)
        thread.start()
        while not counters(lib)["gate_waits"] and not said: pass
        back = lib.gpumax_layer_swap_in()
        thread.join()
        say([out, back, repr(said[0]) == repr(there)])
        """,
        GPUMAX_SWAP="1",
    )
    assert got == [0, 0, True]


ADVICE = """
it, managed, answers = c.alloc(4 * MIB), c_uint64(c.try_managed(4 * MIB)[1]), []
for at in (c_uint64(it), managed):
    answers += [c.lib.cuMemAdvise(at, c_size_t(MIB), 3, 0), c.lib.cuMemPrefetchAsync(at, c_size_t(MIB), 0, None)]
print(json.dumps(answers + [c.info()[0] // MIB]))
"""


def test_advice_and_prefetching_are_for_managed_memory_whether_other_memory_is_swapped_or_not(
    under: Under,
) -> None:
    """For memory that can be swapped the driver says what it says of plain memory, and neither changes what counts."""
    plain, swappable = said(under, ADVICE), said(under, ADVICE, GPUMAX_SWAP="1")
    assert plain == swappable == [1, 1, 0, 0, 248]


@pytest.mark.parametrize("bind", [
    "c.lib.cuMulticastBindAddr(c_uint64(1), c_size_t(0), c_uint64(it), c_size_t(40 * MIB), c_ulonglong(0))",
    "c.lib.cuMulticastBindAddr_v2(c_uint64(1), 0, c_size_t(0), c_uint64(it), c_size_t(40 * MIB), c_ulonglong(0))",
    "c.lib.cuMemGetHandleForAddressRange(byref(c_int()), c_uint64(it), c_size_t(40 * MIB), 1, c_ulonglong(0))",
    "c.lib.cuPointerSetAttribute(byref(c_uint(1)), 6, c_uint64(it))",  # SYNC_MEMOPS, as before RDMA
])  # fmt: skip
def test_memory_that_another_device_is_to_reach_is_not_moved_any_more(bind: str, layer: Layer) -> None:
    """It counts once, where it was made; what is off the device comes back before it's bound."""
    got = swapping(
        layer,
        f"""
    it, other = c.alloc(40 * MIB), c.alloc(8 * MIB)
    results, before = [out()[2]], counters(c.lib)["gate_waits"]
    def bound():
        c.enter()
        results.append({bind})
    thread = threading.Thread(target=bound)
    thread.start()
    while counters(c.lib)["gate_waits"] == before: pass
    results.append(back()[0])
    thread.join()
    say([sorted(results), pinned(), share().used // MIB, out()[2], in_use()])
    """,
    )
    assert got == [[0, 0, 0], {"shared": 40 << 20}, 48, 40, 40]


def test_pools_of_other_processes_count_where_they_were_made(layer: Layer) -> None:
    got = layer.run(
        """
        c, pool, file, pointer = Cuda(), c_void_p(), c_int(), c_uint64()
        def counted():
            out, opened = c_uint64(), c_uint64()
            c.lib.gpumax_layer_elsewhere(byref(out), byref(opened))
            return [out.value, opened.value]
        results = [c.lib.cuMemPoolExportToShareableHandle(byref(file), None, 1, c_ulonglong(0)), counted()]
        results += [c.lib.cuMemPoolImportFromShareableHandle(byref(pool), c_void_p(file.value), 1, c_ulonglong(0)),
                    c.lib.cuMemPoolImportPointer(byref(pointer), pool, None), counted(), c.info()[0] // MIB]
        results += [c.lib.cuMemPoolImportFromShareableHandle(byref(pool), c_void_p(1), 1, c_ulonglong(0)), counted()]
        say(results)
        """,
        GPUMAX_LIMIT="64Mi",
    )
    assert got == [0, [1, 0], 0, 0, [1, 2], 64, 1, [1, 2]]
