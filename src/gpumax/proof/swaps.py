"""Promise 3: memory that is swapped out comes back whole, at its address."""

from __future__ import annotations

import ctypes
import hashlib
import os
import time
from ctypes import c_uint, c_uint64, c_ulonglong
from typing import Final

from gpumax.proof.checks import Missed, NotShown, Probe, Section
from gpumax.proof.cuda import MIB, NOT_SUPPORTED
from gpumax.proof.families import open_handle
from gpumax.proof.others import Other, used_by

SWAP = Section("swap", 3, settings={"GPUMAX_SWAP": "1"})
_PATIENCE_MS: Final = 30_000
_ROUNDS: Final = 50
_LEAST: Final = 10
_ENOUGH_S: Final = 60.0
"""On a machine that is slow, or busy, fewer rounds show the same; their number is in the report."""
_COPIED_OUT: Final = 5
"""Where the layer counts the bytes that it copied out."""


def _swap(probe: Probe, out: bool) -> None:
    name = "gpumax_layer_swap_out" if out else "gpumax_layer_swap_in"
    result = probe.cuda.ask(name, *((c_uint(_PATIENCE_MS),) if out else ()))
    if result == NOT_SUPPORTED:
        raise NotShown(
            "memory can't be swapped here: the driver has no memory apart from addresses, or it wasn't asked for"
        )
    if result:
        raise Missed(f"{name} gave {result}")


def exchange(probe: Probe) -> None:
    """Out, and in again."""
    _swap(probe, True)
    _swap(probe, False)


def _pattern(seed: int, size: int) -> bytes:
    return hashlib.shake_128(seed.to_bytes(8, "little")).digest(size)


def _sizes(probe: Probe) -> list[int]:
    most = max(2 * MIB, min(probe.room // 8, 64 * MIB))
    return [most, most // 2 + 4096, MIB + 12, 2 * MIB, 70_000]


@SWAP.check(
    "identical",
    f"what is read after each of {_ROUNDS} swaps, as time allows, is what was written, at the same addresses",
)
def identical(probe: Probe) -> None:
    cuda = probe.cuda
    held = {}
    for number, size in enumerate(_sizes(probe)):
        pointer = cuda.plain(size)
        held[pointer] = _pattern(number, size)
        cuda.write(pointer, held[pointer])
    until = time.monotonic() + _ENOUGH_S
    for turn in range(_ROUNDS):
        if turn >= _LEAST and time.monotonic() > until:
            break
        probe.figures["swaps"] = turn + 1
        exchange(probe)
        # One buffer a round, so that each has been changed between swaps.
        changed = list(held)[turn % len(held)]
        for pointer, data in held.items():
            if cuda.read(pointer, len(data)) != data:
                raise Missed(f"{len(data)} bytes came back changed after {turn + 1} swaps")
        held[changed] = _pattern(1000 + turn, len(held[changed]))
        cuda.write(changed, held[changed])


@SWAP.check("lent", "another process opens it by IPC and sees its bytes")
def lent(probe: Probe) -> None:
    size = max(2 * MIB, min(probe.sure // 8, 64 * MIB))
    with Other("share-by-ipc", str(size)) as other:
        handle, pointer = bytes.fromhex(other.hear()), c_uint64()
        if result := open_handle(probe.cuda, pointer, handle):
            raise Missed(f"what can be swapped can't be opened by another process ({result})")
        if probe.cuda.read(pointer.value, size) != b"\7" * size:
            raise Missed("another process sees other bytes")
        probe.cuda.call("cuIpcCloseMemHandle", pointer)


@SWAP.check("off the device", "the driver has the memory back while it is swapped out")
def off_the_device(probe: Probe) -> None:
    size = max(32 * MIB, probe.room // 2 // MIB * MIB)
    probe.cuda.fill(probe.cuda.plain(size), 7, size)
    before = used_by(os.getpid(), probe.device)
    _swap(probe, True)
    after = used_by(os.getpid(), probe.device)
    probe.figures |= {"before MiB": before / MIB, "while out MiB": after / MIB}
    _swap(probe, False)
    if before - after < size - 4 * MIB:
        raise Missed(f"of {size} bytes the driver has only {before - after} back")


@SWAP.check("read-only", "weights that aren't written to are copied out once")
def read_only(probe: Probe) -> None:
    size = max(32 * MIB, probe.room // 4 // MIB * MIB)
    pointer = probe.cuda.plain(size)
    probe.cuda.fill(pointer, 9, size)
    if probe.cuda.ask("gpumax_layer_read_only", c_ulonglong(pointer), 1):
        raise NotShown("the layer isn't there, or doesn't swap this memory")
    copied = []
    for _ in range(2):
        before = _copied_out(probe)
        _swap(probe, True)
        copied.append(_copied_out(probe) - before)
        _swap(probe, False)
    probe.figures |= {"first MiB": copied[0] / MIB, "second MiB": copied[1] / MIB}
    if copied[1]:
        raise Missed(f"{copied[1]} bytes were copied out once more")


def _copied_out(probe: Probe) -> int:
    values = (ctypes.c_uint64 * 16)()
    count = probe.cuda.lib.gpumax_layer_counters(values, ctypes.c_size_t(16))
    return int(values[_COPIED_OUT]) if count > _COPIED_OUT else 0


@SWAP.check("speed", "how fast memory goes and comes; nothing is promised here")
def speed(probe: Probe) -> None:
    size = max(32 * MIB, probe.room * 3 // 4 // MIB * MIB)
    pointer = probe.cuda.plain(size)
    for turn in range(3):
        probe.cuda.fill(pointer, turn, size)
        probe.cuda.sync()
        began = time.perf_counter()
        _swap(probe, True)
        between = time.perf_counter()
        _swap(probe, False)
        ended = time.perf_counter()
        probe.figures |= {
            "out GB/s": size / 1e9 / (between - began),
            "in GB/s": size / 1e9 / (ended - between),
        }
