"""Promise 2: whichever way a program finds the driver, and whatever it starts, the share holds."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from ctypes import CFUNCTYPE, Structure, byref, c_char_p, c_int, c_size_t, c_uint64, c_void_p
from typing import Final, NoReturn

from gpumax.native import library
from gpumax.proof.checks import Missed, NotShown, Probe, Section, held, taken
from gpumax.proof.cuda import MIB, Cuda, CudaError
from gpumax.proof.others import Other, driver_path

WAYS = Section("ways", 2)
_HELD: Final = (
    "cuMemAlloc", "cuMemAllocPitch", "cuMemAllocManaged", "cuMemAllocAsync", "cuMemAllocFromPoolAsync", "cuMemCreate",
    "cuArrayCreate", "cuArray3DCreate", "cuMipmappedArrayCreate", "cuMemFree", "cuMemFreeAsync", "cuMemPoolCreate", "cuMemMap",
    "cuMemRelease", "cuMemGetInfo", "cuDeviceTotalMem", "cuGraphAddMemAllocNode", "cuGraphAddNode", "cuGraphInstantiate",
    "cuLaunchKernel", "cuLaunchKernelEx", "cuLaunchCooperativeKernel", "cuGraphLaunch", "cuMemcpyAsync", "cuMemcpyHtoD",
    "cuMemsetD32Async", "cuStreamSynchronize", "cuCtxSynchronize", "cuGetProcAddress",
)  # fmt: skip
_VERSIONS: Final = (11030, 12000, 12020, 12040, 12080, 13000)
_FLAGS: Final = (0, 1, 2)
"""Default stream: as it was compiled, legacy, one a thread."""


class _Found(Structure):
    _fields_ = [("file", c_char_p), ("base", c_void_p), ("name", c_char_p), ("address", c_void_p)]


@WAYS.check("by name", "dlopen of libcuda.so.1 and libcuda.so, then dlsym")
def by_name(probe: Probe) -> None:
    names = ["libcuda.so.1"]
    try:
        ctypes.CDLL("libcuda.so")
        names.append("libcuda.so")
    except OSError:
        pass
    for name in names:
        _held_by(name, probe)


@WAYS.check("by path", "dlopen of the driver by its absolute path, then dlsym")
def by_path(probe: Probe) -> None:
    path = driver_path()
    if path is None:
        raise NotShown("where the driver is wasn't found")
    _held_by(str(path), probe)


def _held_by(name: str, probe: Probe) -> None:
    cuda = Cuda(name, probe.device)
    room = cuda.info()[0]
    if cuda.total() != probe.limit or cuda.try_plain(room + 2 * MIB)[0] == 0:
        raise Missed(f"{name} isn't held: it shows {cuda.total()} bytes; declared are {probe.limit}")
    result, pointer = cuda.try_plain(room // 2)
    if result:
        raise Missed(f"refused with {result} within the limit by {name}")
    cuda.free(pointer)


@WAYS.check(
    "cuGetProcAddress", "every version, both kinds of default stream: never the driver's own function"
)
def by_address(probe: Probe) -> None:
    cuda = probe.cuda
    versions = [each for each in _VERSIONS if each <= cuda.version()]
    if not cuda.address("cuMemAlloc", versions[-1] if versions else 0):
        raise NotShown("this driver has no cuGetProcAddress")
    wrong = {
        f"{name} of {version}, flags {flags}: {file}"
        for name in _HELD
        for version in versions
        for flags in _FLAGS
        if (address := cuda.address(name, version, flags))
        and (file := _file(address)) != library("cuda").name
    }
    if wrong:
        raise Missed(f"{len(wrong)} not held back: {'; '.join(sorted(wrong)[:3])}")
    take = CFUNCTYPE(c_int, c_void_p, c_size_t)(cuda.address("cuMemAlloc", versions[-1]))

    def attempt(size: int) -> tuple[int, int]:
        pointer = c_uint64()
        return take(ctypes.addressof(pointer), size), pointer.value

    held(probe, attempt, "memory by cuGetProcAddress")


def _file(address: int) -> str:
    """Which library has it."""
    found = _Found()
    ctypes.CDLL(None).dladdr(c_void_p(address), byref(found))
    return os.path.basename((found.file or b"nothing that is loaded").decode(errors="replace"))


@WAYS.check("twins", "functions for a default stream a thread")
def twins(probe: Probe) -> None:
    held(probe, lambda size: probe.cuda.try_async(size, "_ptsz"), "memory in the order of a thread's stream")


@WAYS.check("pool twins", "the same, from a pool of the program's own")
def pool_twins(probe: Probe) -> None:
    own = probe.cuda.pool()
    held(probe, lambda size: probe.cuda.try_from_pool(size, own, "_ptsz"), "memory of a pool")


@WAYS.check("fork", "two children by fork, before CUDA began")
def forked(probe: Probe) -> None:
    total = sum(_in_children(probe, 2))
    if total > probe.limit:
        raise Missed(f"two children have {total} bytes together, of {probe.limit}")
    if total < probe.limit // 2:
        raise Missed(f"two children were refused after {total} bytes, of {probe.limit}")


def _in_children(probe: Probe, count: int) -> list[int]:
    """What each took; all keep it until all are done."""
    ends = [(os.pipe(), os.pipe()) for _ in range(count)]
    children = []
    for own in ends:
        if (child := os.fork()) == 0:
            # Whoever keeps another's end would keep it waiting for ever.
            for pair in (
                *(each for other in ends if other is not own for each in other),
                (own[0][0], own[1][1]),
            ):
                for each in pair:
                    with suppress(OSError):
                        os.close(each)
            _take_and_wait(probe, own[0][1], own[1][0])
        children.append(child)
    for (_, told), (go, _) in ends:
        os.close(told)
        os.close(go)
    got = []
    for (hear, _), _ in ends:
        with os.fdopen(hear) as file:
            got.append(int(file.readline() or -1))
    for _, (_, tell) in ends:
        os.close(tell)
    for child in children:
        os.waitpid(child, 0)
    if -1 in got:
        raise NotShown("a forked child ended before it had done its work")
    return got


def _take_and_wait(probe: Probe, told: int, go: int) -> NoReturn:
    """In the child; the end of what it reads is its own end."""
    try:
        try:
            got = taken(probe.cuda.try_plain, max(MIB, probe.limit // 64))
        except CudaError:
            got = 0  # the others left nothing, not even for its context
        os.write(told, str(got).encode() + b"\n")
        os.close(told)
        os.read(go, 1)
    finally:
        os._exit(0)


@WAYS.check("child", "a program that this one starts shares its limit")
def child(probe: Probe) -> None:
    room = probe.room
    half = room // 2 // (2 * MIB) * 2 * MIB
    probe.cuda.plain(half)
    with Other("take", str(max(MIB, room // 64))) as other:
        other.hear()
        other.tell()
        got = other.hear()
    if got > room - half:
        raise Missed(f"a child has {got} bytes beside {half} of its parent, of {room}")
    if got == 0:
        raise Missed(f"a child has nothing, though {room - half} bytes are left")


@WAYS.check("exec", "a program that replaces itself by another is held, and has given back what it had")
def replaced(probe: Probe) -> None:
    with Other("replace", str(probe.room // 2)) as other:
        other.hear()  # what it had before
        other.tell()
        other.hear()  # the program after it is ready
        other.tell()
        got = other.hear()
    _about(got, probe.room)


@WAYS.check("shell", "a program that a script starts")
def through_shell(probe: Probe) -> None:
    with Other("by-shell", str(max(MIB, probe.room // 64))) as other:
        other.hear()
        other.tell()
        got = other.hear()
    _about(got, probe.room)


def _about(got: int, room: int) -> None:
    if got > room:
        raise Missed(f"{got} bytes were given out, of {room}")
    if got < room - room // 4:
        raise Missed(f"refused after {got} bytes; {room} should be had")
