"""Promise 1: memory beyond the limit is refused at once, by every family of calls; what is shown is the share."""

from __future__ import annotations

import os
import threading
from ctypes import Structure, byref, c_char, c_uint, c_uint64
from importlib import import_module
from typing import Any, Final

from gpumax.proof.checks import Attempt, Missed, NotShown, Probe, Section, held, refused, taken
from gpumax.proof.cuda import MIB, NOT_SUPPORTED, Cuda
from gpumax.proof.others import Other, used_by

MEMORY = Section("memory", 1)
_ARRAYS: Final = 1 << 30
"""An array has limits of its own."""
_BESIDE: Final = 4
"""Threads or processes that take memory at once."""


@MEMORY.check("shown", "cuDeviceTotalMem and cuMemGetInfo show the share")
def shown(probe: Probe) -> None:
    free, total = probe.cuda.info()
    if total != probe.limit or probe.cuda.total() != probe.limit:
        raise Missed(f"a program sees {total} and {probe.cuda.total()} bytes; declared are {probe.limit}")
    piece = probe.room // 4
    probe.cuda.plain(piece)
    now = probe.cuda.info()[0]
    if not free - piece - 4 * MIB <= now <= free - piece:
        raise Missed(f"after {piece} bytes were given out, {now} are free; before it were {free}")


@MEMORY.check("nvml", "NVML shows the share, and what is used of it")
def nvml(probe: Probe) -> None:
    probe.cuda.plain(probe.room // 2)
    pynvml: Any = import_module("pynvml")
    try:
        pynvml.nvmlInit()
        found = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByUUID(probe.cuda.uuid()))
    except pynvml.NVMLError as error:
        raise NotShown(f"NVML isn't there: {error}") from None
    if found.total != probe.limit or found.used < probe.room // 2:
        raise Missed(f"NVML shows {found.used} of {found.total} bytes; declared are {probe.limit}")


@MEMORY.check("plain", "cuMemAlloc")
def plain(probe: Probe) -> None:
    held(probe, probe.cuda.try_plain, "plain memory")


@MEMORY.check("pitch", "cuMemAllocPitch")
def pitch(probe: Probe) -> None:
    held(probe, probe.cuda.try_pitch, "pitched memory")


@MEMORY.check("managed", "cuMemAllocManaged counts in full")
def managed(probe: Probe) -> None:
    held(probe, probe.cuda.try_managed, "managed memory")


@MEMORY.check("async", "cuMemAllocAsync, in stream order")
def in_stream_order(probe: Probe) -> None:
    held(probe, probe.cuda.try_async, "memory in stream order")


@MEMORY.check("pool", "cuMemAllocFromPoolAsync, from a pool of the program's own")
def pool(probe: Probe) -> None:
    own = probe.cuda.pool()
    held(probe, lambda size: probe.cuda.try_from_pool(size, own), "memory of a pool")


@MEMORY.check("physical", "cuMemCreate, memory apart from addresses")
def physical(probe: Probe) -> None:
    unit = probe.cuda.granularity()
    held(probe, lambda size: probe.cuda.try_physical(-(-size // unit) * unit), "physical memory")


@MEMORY.check("array", "cuArrayCreate")
def array(probe: Probe) -> None:
    held(probe, probe.cuda.try_array, "memory of arrays", most=_ARRAYS)


@MEMORY.check("mipmapped", "cuMipmappedArrayCreate")
def mipmapped(probe: Probe) -> None:
    held(probe, probe.cuda.try_mipmapped, "memory of mipmapped arrays", most=_ARRAYS)


@MEMORY.check("graph", "nodes of graphs that allocate")
def graph(probe: Probe) -> None:
    own = probe.cuda.graph()
    held(probe, lambda size: probe.cuda.try_graph_node(own, size), "memory of graphs")


@MEMORY.check("ipc", "memory opened by IPC counts where it was made, and nowhere twice")
def ipc(probe: Probe) -> None:
    size = max(2 * MIB, probe.sure // 8)
    with Other("share-by-ipc", str(size)) as other:
        handle = bytes.fromhex(other.hear())
        before = probe.cuda.info()[0]
        pointer = c_uint64()
        result = open_handle(probe.cuda, pointer, handle)
        if result:
            raise NotShown(f"this driver opens no memory of another process ({result})")
        after = probe.cuda.info()[0]
        probe.cuda.call("cuIpcCloseMemHandle", pointer)
    if before != after or before > probe.room - size:
        raise Missed(f"{size} bytes of another process: {before} free before they were opened, {after} then")


class _Handle(Structure):
    _fields_ = [("reserved", c_char * 64)]


def open_handle(cuda: Cuda, pointer: c_uint64, raw: bytes) -> int:
    """The driver's answer, and the address."""
    return cuda.ask("cuIpcOpenMemHandle_v2", byref(pointer), _Handle.from_buffer_copy(raw), c_uint(1))


@MEMORY.check("together", "all families have one limit together")
def together(probe: Probe) -> None:
    cuda, part = probe.cuda, probe.sure // 8 // (2 * MIB) * 2 * MIB
    if part == 0:
        raise NotShown("the limit is too small")
    own = cuda.graph()
    families: tuple[Attempt, ...] = (
        cuda.try_plain, cuda.try_managed, cuda.try_async, cuda.try_array, lambda size: cuda.try_graph_node(own, size),
    )  # fmt: skip
    for attempt in families:
        if (result := attempt(min(part, _ARRAYS))[0]) not in (0, NOT_SUPPORTED):
            raise Missed(f"an eighth of the limit was refused with {result}")
    rest = cuda.info()[0]
    refused(cuda.try_plain(rest + 2 * MIB), rest + 2 * MIB, "plain memory after all others")


@MEMORY.check("small", "many small pieces end at the limit")
def small(probe: Probe) -> None:
    _within(taken(probe.cuda.try_plain, max(MIB // 2, probe.room // 512)), probe.room, probe.sure)


@MEMORY.check("given back", "what was freed can be had again, as often as one likes")
def given_back(probe: Probe) -> None:
    most = probe.sure - probe.sure // 4
    for turn in range(50):
        result, pointer = probe.cuda.try_plain(most)
        if result:
            raise Missed(f"refused with {result} after {turn} rounds of taking and giving back")
        probe.cuda.free(pointer)


@MEMORY.check("threads", "threads that take memory at once")
def threads(probe: Probe) -> None:
    got: list[int] = []
    gate = threading.Barrier(_BESIDE)
    cuda, piece = probe.cuda, max(MIB, probe.room // 64)

    def take() -> None:
        cuda.enter()
        gate.wait()
        got.append(taken(cuda.try_plain, piece))

    workers = [threading.Thread(target=take) for _ in range(_BESIDE)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    _within(sum(got), probe.room, probe.sure)


@MEMORY.check("processes", "processes of one share that take memory at once never have more than it together")
def processes(probe: Probe) -> None:
    room, sure = probe.room, probe.sure
    others = [Other("take", str(max(MIB, room // 64))) for _ in range(_BESIDE)]
    try:
        for each in others:
            each.hear()
        for each in others:
            each.tell()
        _within(sum(each.hear() for each in others), room, sure)
    finally:
        for each in others:
            each.__exit__(None, None, None)


def _within(got: int, room: int, sure: int) -> None:
    if got > room:
        raise Missed(f"{got} bytes were given out, of {room}")
    if got < sure - sure // 4:
        raise Missed(f"refused after {got} bytes; {sure} should be had")


@MEMORY.check("driver", "what the driver says that the program uses is what was declared, and its context")
def driver_says(probe: Probe) -> None:
    probe.cuda.sync()
    context = used_by(os.getpid(), probe.device)
    got = taken(probe.cuda.try_plain, max(2 * MIB, probe.room // 16))
    beyond = used_by(os.getpid(), probe.device) - context
    probe.figures |= {"declared MiB": got / MIB, "used MiB": beyond / MIB, "context MiB": context / MIB}
    if not got <= beyond + 4 * MIB or beyond > probe.limit + 4 * MIB:
        raise Missed(f"the driver says {beyond} bytes beyond the context; declared are {got}")
