"""What the layer relies on in a driver. These run without the layer, so a driver can be judged before anybody is put under it."""

from __future__ import annotations

from ctypes import byref, c_int, c_size_t, c_uint, c_uint64, c_void_p

from gpumax.proof.checks import Missed, Probe, Section, had, refused
from gpumax.proof.cuda import MIB

DRIVER = Section("driver", 0, layered=False)
_PATTERN = bytes(range(256)) * 4096
_VMM_ATTRIBUTE = 102
_RELAXED = 2


@DRIVER.check("version", "CUDA 11.3 or newer, with memory apart from addresses")
def version(probe: Probe) -> None:
    found, supported = probe.cuda.version(), c_int()
    probe.cuda.call("cuDeviceGetAttribute", byref(supported), c_int(_VMM_ATTRIBUTE), c_int(probe.device))
    probe.figures["version"] = found / 1000
    if found < 11030:
        raise Missed(f"the driver is of CUDA {found // 1000}.{found % 1000 // 10}")
    if not supported.value:
        raise Missed(
            "it has no memory apart from addresses (cuMemCreate): nothing can be swapped on this device"
        )


@DRIVER.check("copies", "what is copied to the device, on it and back is the same")
def copies(probe: Probe) -> None:
    cuda, size = probe.cuda, len(_PATTERN)
    one, other = cuda.plain(size), cuda.plain(size)
    cuda.write(one, _PATTERN)
    cuda.copy(other, one, size)
    if cuda.read(other, size) != _PATTERN:
        raise Missed(f"{size} bytes came back changed")


@DRIVER.check("fill", "memory that the device fills")
def fill(probe: Probe) -> None:
    pointer = probe.cuda.plain(MIB)
    probe.cuda.fill(pointer, 0x01020304, MIB)
    if probe.cuda.read(pointer, MIB) != b"\x04\x03\x02\x01" * (MIB // 4):
        raise Missed("it isn't filled with the word that was asked for")


@DRIVER.check("moved", "memory that is unmapped, given back, made anew and mapped at the same address")
def moved(probe: Probe) -> None:
    cuda, unit = probe.cuda, probe.cuda.granularity()
    probe.figures["granularity MiB"] = unit / MIB
    size = max(unit, 2 * MIB)
    address = cuda.reserve(size)
    data = (_PATTERN * (size // len(_PATTERN) + 1))[:size]
    for _ in range(3):
        handle = had(cuda.try_physical(size), size, "physical memory")
        cuda.map(address, size, handle)
        cuda.release(handle)  # the mapping keeps it
        cuda.write(address, data)
        data = cuda.read(address, size)[::-1]
        cuda.write(address, data)
        if cuda.read(address, size) != data:
            raise Missed("what was written isn't what is read after it was mapped anew")
        cuda.unmap(address, size)
    if cuda.ask("cuMemcpyHtoD_v2", c_uint64(address), data[:16], c_size_t(16)) == 0:
        raise Missed("what is unmapped can be written to")


@DRIVER.check("full", "more memory than the device has is refused, and nothing is broken by it")
def full(probe: Probe) -> None:
    total = probe.cuda.total()
    refused(probe.cuda.try_plain(total + 64 * MIB), total + 64 * MIB, "plain memory")
    copies(probe)


@DRIVER.check("capture", "work is captured, and done when its graph is launched")
def capture(probe: Probe) -> None:
    cuda = probe.cuda
    pointer, stream, graph, ready = cuda.plain(MIB), c_void_p(), c_void_p(), c_void_p()
    cuda.fill(pointer, 1, MIB)
    cuda.call("cuStreamCreate", byref(stream), c_uint(1))
    cuda.call("cuStreamBeginCapture_v2", stream, c_int(_RELAXED))
    cuda.call("cuMemsetD32Async", c_uint64(pointer), c_uint(2), c_size_t(MIB // 4), stream)
    cuda.call("cuStreamEndCapture", stream, byref(graph))
    if cuda.read(pointer, 4)[0] != 1:
        raise Missed("work is done while it is captured")
    cuda.call("cuGraphInstantiateWithFlags", byref(ready), graph, c_uint64(0))
    cuda.call("cuGraphLaunch", ready, stream)
    cuda.call("cuStreamSynchronize", stream)
    if cuda.read(pointer, 4)[0] != 2:
        raise Missed("what was captured isn't done when its graph is launched")
