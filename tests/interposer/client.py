"""A program that uses CUDA as a program would, by ctypes: what tests run under the layer. It imports nothing of gpumax."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_ulonglong, c_void_p
from typing import Any

MIB = 1 << 20
OUT_OF_MEMORY = 2
NOT_FOUND = 500


class Location(ctypes.Structure):
    _fields_ = [("type", c_int), ("id", c_int)]


class AllocationProp(ctypes.Structure):
    _fields_ = [
        ("type", c_int),
        ("handles", c_int),
        ("location", Location),
        ("win32", c_void_p),
        ("flags", c_char * 8),
    ]


class PoolProps(ctypes.Structure):
    _fields_ = [
        ("type", c_int),
        ("handles", c_int),
        ("location", Location),
        ("win32", c_void_p),
        ("max_size", c_size_t),
        ("reserved", c_char * 56),
    ]


class AllocNode(ctypes.Structure):
    _fields_ = [
        ("pool", PoolProps),
        ("access", c_void_p),
        ("access_count", c_size_t),
        ("bytes", c_size_t),
        ("pointer", c_uint64),
    ]


class ArrayDescriptor(ctypes.Structure):
    _fields_ = [("width", c_size_t), ("height", c_size_t), ("format", c_int), ("channels", c_uint)]


class Cuda:
    """The driver as this process finds it; functions raise on an error unless they begin with `try_`."""

    def __init__(self, name: str = "libcuda.so.1", device: int = 0) -> None:
        self.lib: Any = ctypes.CDLL(name)
        self.check(self.lib.cuInit(0))
        self.device = device
        context = c_void_p()
        self.check(self.lib.cuDevicePrimaryCtxRetain(byref(context), device))
        self.context = context
        self.enter()

    def enter(self) -> None:
        """Make the context that of this thread."""
        self.check(self.lib.cuCtxSetCurrent(self.context))

    @staticmethod
    def check(result: int) -> None:
        if result:
            raise RuntimeError(f"CUDA error {result}")

    def try_alloc(self, size: int) -> tuple[int, int]:
        """The result, and the pointer."""
        pointer = c_uint64()
        return self.lib.cuMemAlloc_v2(byref(pointer), c_size_t(size)), pointer.value

    def alloc(self, size: int) -> int:
        result, pointer = self.try_alloc(size)
        self.check(result)
        return pointer

    def free(self, pointer: int) -> None:
        self.check(self.lib.cuMemFree_v2(c_uint64(pointer)))

    def info(self) -> tuple[int, int]:
        """Free and total bytes."""
        free, total = c_size_t(), c_size_t()
        self.check(self.lib.cuMemGetInfo_v2(byref(free), byref(total)))
        return free.value, total.value

    def total(self) -> int:
        total = c_size_t()
        self.check(self.lib.cuDeviceTotalMem_v2(byref(total), self.device))
        return total.value

    def try_pitch(self, width: int, height: int) -> tuple[int, int]:
        pointer, pitch = c_uint64(), c_size_t()
        result = self.lib.cuMemAllocPitch_v2(
            byref(pointer), byref(pitch), c_size_t(width), c_size_t(height), c_uint(4)
        )
        return result, pointer.value

    def try_managed(self, size: int) -> tuple[int, int]:
        pointer = c_uint64()
        return self.lib.cuMemAllocManaged(byref(pointer), c_size_t(size), c_uint(1)), pointer.value

    def try_alloc_async(self, size: int, twin: str = "") -> tuple[int, int]:
        pointer = c_uint64()
        function = getattr(self.lib, f"cuMemAllocAsync{twin}")
        return function(byref(pointer), c_size_t(size), c_void_p()), pointer.value

    def free_async(self, pointer: int, twin: str = "") -> None:
        self.check(getattr(self.lib, f"cuMemFreeAsync{twin}")(c_uint64(pointer), c_void_p()))

    def sync(self) -> None:
        self.check(self.lib.cuCtxSynchronize())

    def try_create(self, size: int) -> tuple[int, int]:
        """Physical memory."""
        handle = c_uint64()
        wish = AllocationProp(type=1, location=Location(1, self.device))
        return self.lib.cuMemCreate(byref(handle), c_size_t(size), byref(wish), c_ulonglong(0)), handle.value

    def reserve(self, size: int) -> int:
        pointer = c_uint64()
        self.check(
            self.lib.cuMemAddressReserve(
                byref(pointer), c_size_t(size), c_size_t(0), c_uint64(0), c_ulonglong(0)
            )
        )
        return pointer.value

    def map(self, pointer: int, size: int, handle: int) -> None:
        self.check(
            self.lib.cuMemMap(
                c_uint64(pointer), c_size_t(size), c_size_t(0), c_uint64(handle), c_ulonglong(0)
            )
        )

    def unmap(self, pointer: int, size: int) -> None:
        self.check(self.lib.cuMemUnmap(c_uint64(pointer), c_size_t(size)))

    def release(self, handle: int) -> None:
        self.check(self.lib.cuMemRelease(c_uint64(handle)))

    def try_array(self, width: int, height: int) -> tuple[int, int]:
        array = c_void_p()
        wish = ArrayDescriptor(width, height, 0x20, 1)
        return self.lib.cuArrayCreate_v2(byref(array), byref(wish)), array.value or 0

    def graph(self) -> c_void_p:
        graph = c_void_p()
        self.check(self.lib.cuGraphCreate(byref(graph), 0))
        return graph

    def try_graph_node(self, graph: c_void_p, size: int) -> int:
        """A node of the graph that allocates."""
        node = c_void_p()
        wish = AllocNode(pool=PoolProps(type=1, location=Location(1, self.device)), bytes=size)
        result: int = self.lib.cuGraphAddMemAllocNode(byref(node), graph, None, c_size_t(0), byref(wish))
        return result

    def write(self, pointer: int, data: bytes) -> None:
        self.check(self.lib.cuMemcpyHtoD_v2(c_uint64(pointer), data, c_size_t(len(data))))

    def read(self, pointer: int, size: int) -> bytes:
        data = ctypes.create_string_buffer(size)
        self.check(self.lib.cuMemcpyDtoH_v2(data, c_uint64(pointer), c_size_t(size)))
        return data.raw

    def address(self, name: str, version: int = 13000, flags: int = 0) -> int | None:
        """What cuGetProcAddress gives."""
        function, status = c_void_p(), c_int()
        self.check(
            self.lib.cuGetProcAddress_v2(
                name.encode(), byref(function), version, c_ulonglong(flags), byref(status)
            )
        )
        return function.value

    def exported(self, name: str) -> int | None:
        """The address of an exported function, as dlsym gives it."""
        return ctypes.cast(getattr(self.lib, name), c_void_p).value

    def launch(self, twin: str = "") -> int:
        """A kernel of which nobody knows anything, with arguments that can be told apart."""
        function = getattr(self.lib, f"cuLaunchKernel{twin}")
        result: int = function(
            c_void_p(0x1111222233334444),
            *map(c_uint, range(2, 9)),
            c_void_p(0x99),
            c_void_p(0xAAAABBBBCCCC),
            c_void_p(0xBB),
        )
        return result


def c_string(function: Any, *arguments: Any) -> str:
    """What a function such as cuGetErrorString leaves in its last argument."""
    text = c_char_p()
    function(*arguments, byref(text))
    return (text.value or b"").decode()


def counters(lib: Any) -> dict[str, int]:
    """What the layer has counted."""
    names = (
        "refused", "unknown_functions", "export_tables", "unaccounted",
        "gate_waits", "copied_out", "copied_in", "spared", "staged", "swaps_out", "swaps_in", "swaps_failed",
        "without_broker",
    )  # fmt: skip
    values = (c_uint64 * len(names))()
    lib.gpumax_layer_counters.argtypes = [POINTER(c_uint64), c_size_t]
    lib.gpumax_layer_counters(values, len(names))
    return dict(zip(names, values, strict=True))
