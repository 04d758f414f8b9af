"""CUDA's driver as this process finds it, by ctypes: what a probe needs of it, and nothing that hides a result."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_char, c_int, c_size_t, c_uint, c_uint64, c_ulonglong, c_void_p
from typing import Any, Final

MIB: Final = 1 << 20
OUT_OF_MEMORY: Final = 2
NOT_SUPPORTED: Final = 801
_GLOBAL: Final = 1
_FLOAT: Final = 0x20
_DEVICE: Final = 1
_GRANULARITY_MINIMUM: Final = 0


class CudaError(Exception):
    """A call failed that had no reason to."""

    def __init__(self, call: str, result: int) -> None:
        super().__init__(f"{call} gave {result}")
        self.call, self.result = call, result


class Location(ctypes.Structure):
    _fields_ = [("type", c_int), ("id", c_int)]


class AllocationProp(ctypes.Structure):
    _fields_ = [
        ("type", c_int), ("handles", c_int), ("location", Location), ("win32", c_void_p), ("flags", c_char * 8),
    ]  # fmt: skip


class AccessDesc(ctypes.Structure):
    _fields_ = [("location", Location), ("flags", c_int)]


class PoolProps(ctypes.Structure):
    _fields_ = [
        ("type", c_int), ("handles", c_int), ("location", Location), ("win32", c_void_p), ("max_size", c_size_t),
        ("reserved", c_char * 56),
    ]  # fmt: skip


class AllocNode(ctypes.Structure):
    _fields_ = [
        ("pool", PoolProps), ("access", c_void_p), ("access_count", c_size_t), ("bytes", c_size_t),
        ("pointer", c_uint64),
    ]  # fmt: skip


class ArrayDescriptor(ctypes.Structure):
    _fields_ = [("width", c_size_t), ("height", c_size_t), ("format", c_int), ("channels", c_uint)]


class Array3DDescriptor(ctypes.Structure):
    _fields_ = [
        ("width", c_size_t), ("height", c_size_t), ("depth", c_size_t), ("format", c_int), ("channels", c_uint),
        ("flags", c_uint),
    ]  # fmt: skip


class Cuda:
    """One device, with its primary context on this thread. `try_` gives the result and what was made; all else raises CudaError."""

    def __init__(self, path: str = "libcuda.so.1", device: int = 0) -> None:
        self.lib: Any = ctypes.CDLL(path)
        self.device = device
        self.call("cuInit", c_uint(0))
        context = c_void_p()
        self.call("cuDevicePrimaryCtxRetain", byref(context), c_int(device))
        self.context = context
        self.enter()

    def enter(self) -> None:
        """Make the context that of this thread."""
        self.call("cuCtxSetCurrent", self.context)

    def call(self, name: str, *arguments: Any) -> None:
        result = self.ask(name, *arguments)
        if result:
            raise CudaError(name, result)

    def ask(self, name: str, *arguments: Any) -> int:
        """Its result; "not supported" where the driver has no such function."""
        try:
            function = getattr(self.lib, name)
        except AttributeError:
            return NOT_SUPPORTED
        return int(function(*arguments))

    def version(self) -> int:
        """13000 for CUDA 13.0."""
        found = c_int()
        self.call("cuDriverGetVersion", byref(found))
        return found.value

    def name(self) -> str:
        text = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", text, c_int(256), c_int(self.device))
        return text.value.decode(errors="replace")

    def uuid(self) -> str:
        raw = (ctypes.c_ubyte * 16)()
        if self.ask("cuDeviceGetUuid_v2", raw, c_int(self.device)):
            self.call("cuDeviceGetUuid", raw, c_int(self.device))
        digits = bytes(raw).hex()
        return f"GPU-{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def info(self) -> tuple[int, int]:
        """Free and total bytes."""
        free, total = c_size_t(), c_size_t()
        self.call("cuMemGetInfo_v2", byref(free), byref(total))
        return free.value, total.value

    def total(self) -> int:
        found = c_size_t()
        self.call("cuDeviceTotalMem_v2", byref(found), c_int(self.device))
        return found.value

    def sync(self) -> None:
        self.call("cuCtxSynchronize")

    # families of memory

    def try_plain(self, size: int) -> tuple[int, int]:
        pointer = c_uint64()
        return self.ask("cuMemAlloc_v2", byref(pointer), c_size_t(size)), pointer.value

    def plain(self, size: int) -> int:
        result, pointer = self.try_plain(size)
        if result:
            raise CudaError("cuMemAlloc_v2", result)
        return pointer

    def free(self, pointer: int) -> None:
        self.call("cuMemFree_v2", c_uint64(pointer))

    def try_pitch(self, size: int) -> tuple[int, int]:
        """Rows of 1 MiB, which every driver takes for well aligned."""
        pointer, pitch = c_uint64(), c_size_t()
        rows = max(1, size // MIB)
        result = self.ask(
            "cuMemAllocPitch_v2", byref(pointer), byref(pitch), c_size_t(MIB), c_size_t(rows), c_uint(16)
        )
        return result, pointer.value

    def try_managed(self, size: int) -> tuple[int, int]:
        pointer = c_uint64()
        return self.ask("cuMemAllocManaged", byref(pointer), c_size_t(size), c_uint(_GLOBAL)), pointer.value

    def try_async(self, size: int, twin: str = "") -> tuple[int, int]:
        pointer = c_uint64()
        result = self.ask(f"cuMemAllocAsync{twin}", byref(pointer), c_size_t(size), c_void_p())
        return result, pointer.value

    def free_async(self, pointer: int, twin: str = "") -> None:
        self.call(f"cuMemFreeAsync{twin}", c_uint64(pointer), c_void_p())

    def pool(self) -> c_void_p:
        pool = c_void_p()
        wish = PoolProps(type=1, location=Location(_DEVICE, self.device))
        self.call("cuMemPoolCreate", byref(pool), byref(wish))
        return pool

    def try_from_pool(self, size: int, pool: c_void_p, twin: str = "") -> tuple[int, int]:
        pointer = c_uint64()
        name = f"cuMemAllocFromPoolAsync{twin}"
        return self.ask(name, byref(pointer), c_size_t(size), pool, c_void_p()), pointer.value

    def granularity(self) -> int:
        """Of physical memory."""
        found = c_size_t()
        wish = AllocationProp(type=1, location=Location(_DEVICE, self.device))
        self.call("cuMemGetAllocationGranularity", byref(found), byref(wish), c_int(_GRANULARITY_MINIMUM))
        return found.value

    def try_physical(self, size: int) -> tuple[int, int]:
        handle = c_uint64()
        wish = AllocationProp(type=1, location=Location(_DEVICE, self.device))
        result = self.ask("cuMemCreate", byref(handle), c_size_t(size), byref(wish), c_ulonglong(0))
        return result, handle.value

    def release(self, handle: int) -> None:
        self.call("cuMemRelease", c_uint64(handle))

    def reserve(self, size: int) -> int:
        pointer = c_uint64()
        self.call(
            "cuMemAddressReserve", byref(pointer), c_size_t(size), c_size_t(0), c_uint64(0), c_ulonglong(0)
        )
        return pointer.value

    def map(self, pointer: int, size: int, handle: int) -> None:
        self.call(
            "cuMemMap", c_uint64(pointer), c_size_t(size), c_size_t(0), c_uint64(handle), c_ulonglong(0)
        )
        access = AccessDesc(Location(_DEVICE, self.device), 3)
        self.call("cuMemSetAccess", c_uint64(pointer), c_size_t(size), byref(access), c_size_t(1))

    def unmap(self, pointer: int, size: int) -> None:
        self.call("cuMemUnmap", c_uint64(pointer), c_size_t(size))

    def try_array(self, size: int) -> tuple[int, int]:
        """Rows of 16 KiB."""
        array = c_void_p()
        wish = ArrayDescriptor(4096, max(1, size // (4 * 4096)), _FLOAT, 1)
        return self.ask("cuArrayCreate_v2", byref(array), byref(wish)), array.value or 0

    def try_mipmapped(self, size: int) -> tuple[int, int]:
        """One level, of rows of 16 KiB."""
        array = c_void_p()
        wish = Array3DDescriptor(4096, max(1, size // (4 * 4096)), 0, _FLOAT, 1, 0)
        result = self.ask("cuMipmappedArrayCreate", byref(array), byref(wish), c_uint(1))
        return result, array.value or 0

    def graph(self) -> c_void_p:
        graph = c_void_p()
        self.call("cuGraphCreate", byref(graph), c_uint(0))
        return graph

    def try_graph_node(self, graph: c_void_p, size: int) -> tuple[int, int]:
        """A node that allocates."""
        node = c_void_p()
        wish = AllocNode(pool=PoolProps(type=1, location=Location(_DEVICE, self.device)), bytes=size)
        result = self.ask("cuGraphAddMemAllocNode", byref(node), graph, None, c_size_t(0), byref(wish))
        return result, node.value or 0

    # contents

    def write(self, pointer: int, data: bytes) -> None:
        self.call("cuMemcpyHtoD_v2", c_uint64(pointer), data, c_size_t(len(data)))

    def read(self, pointer: int, size: int) -> bytes:
        data = (ctypes.c_ubyte * size)()
        self.call("cuMemcpyDtoH_v2", data, c_uint64(pointer), c_size_t(size))
        return bytes(data)

    def copy(self, to: int, source: int, size: int) -> None:
        self.call("cuMemcpyDtoD_v2", c_uint64(to), c_uint64(source), c_size_t(size))

    def fill(self, pointer: int, word: int, size: int) -> None:
        """Words of 32 bits; work of the device, which needs no code for it."""
        self.call("cuMemsetD32_v2", c_uint64(pointer), c_uint(word), c_size_t(size // 4))

    def fill_async(self, pointer: int, word: int, size: int) -> int:
        return self.ask("cuMemsetD32Async", c_uint64(pointer), c_uint(word), c_size_t(size // 4), c_void_p())

    def address(self, name: str, version: int, flags: int = 0) -> int:
        """What cuGetProcAddress gives; 0: nothing."""
        found, status = c_void_p(), c_int()
        arguments = (name.encode(), byref(found), c_int(version), c_ulonglong(flags), byref(status))
        return 0 if self.ask("cuGetProcAddress_v2", *arguments) else found.value or 0
