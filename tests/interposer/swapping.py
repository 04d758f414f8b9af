"""What programs in tests of swapping begin with: orders as a broker gives them, buffers with their checksums."""

from __future__ import annotations

import textwrap
from typing import Any

from interposer.under import Layer

BEGIN = """
    import hashlib, random, threading
    from ctypes import Structure
    c = Cuda()
    NORMAL, READ_ONLY, DISCARDABLE = range(3)
    BUSY, FAILED = 2, 3
    class Report(Structure):
        _fields_ = [("status", c_int), ("why", c_int), ("resident", c_uint64), ("copied", c_uint64), ("took", c_uint64)]
        def __iter__(self): return iter((self.status, self.why, self.resident // MIB, self.copied // MIB))
    class Share(Structure):
        _fields_ = [(n, c_uint64) for n in ("limit", "guarantee", "used", "own", "swapped", "pinned")] + [
            (n, c_uint) for n in ("share", "mode", "swaps", "paused")]
    def order(out, mib, patience=5000):
        report = Report()
        c.lib.gpumax_layer_swap(0, out, c_ulonglong(mib * MIB), patience, byref(report))
        return list(report)
    def out(mib=0, patience=5000): return order(1, mib, patience)
    def back(mib=1 << 20, patience=5000): return order(0, mib, patience)
    def hint(pointer, size, kind): return c.lib.gpumax_layer_hint(c_ulonglong(pointer), c_ulonglong(size), kind)
    def share():
        found = Share()
        c.check(c.lib.gpumax_layer_share(0, byref(found), c_size_t(ctypes.sizeof(found))))
        return found
    def pinned():
        values = (c_uint64 * 9)()
        c.lib.gpumax_layer_pinned(0, values, c_size_t(9))
        names = ("small", "plain", "managed", "pools", "graphs", "arrays", "mapped", "shared", "contexts")
        return {n: v for n, v in zip(names, values) if v}
    def driver(name, result=c_int, *arguments):
        "A function of the driver itself, behind the layer's back."
        import os
        function = getattr(ctypes.CDLL(os.environ["GPUMAX_REAL_LIBCUDA"]), name)
        return ctypes.CFUNCTYPE(result, *arguments)(ctypes.cast(function, c_void_p).value)
    def in_use():
        "MiB on the device, by the driver's own account."
        return ctypes.CFUNCTYPE(c_uint64, c_int)(c.address("script_in_use"))(0) // MIB
    def fill(mib):
        size = int(mib * MIB)
        it, data = c.alloc(size), random.randbytes(size)
        c.write(it, data)
        return it, size, hashlib.sha256(data).digest()
    def whole(*buffers):
        return all(hashlib.sha256(c.read(at, size)).digest() == digest for at, size, digest in buffers)
"""


def swapping(layer: Layer, program: str, **settings: str) -> Any:
    """What the program said last."""
    return layer.run(textwrap.dedent(BEGIN) + textwrap.dedent(program), **({"GPUMAX_SWAP": "1"} | settings))


EMULATED = """
        class Report(ctypes.Structure):
            _fields_ = [("status", ctypes.c_int), ("why", ctypes.c_int)] + [
                (n, ctypes.c_uint64) for n in ("resident", "copied", "took")]
        lib, emu = ctypes.CDLL("libcuda.so.1"), ctypes.CDLL(os.path.realpath(os.environ["GPUMAX_REAL_LIBCUDA"]))
        def order(out, mib, patience):
            report = Report()
            lib.gpumax_layer_swap(0, out, ctypes.c_ulonglong(mib << 20), patience, ctypes.byref(report))
            return [report.status, report.why, report.resident >> 20, report.copied >> 20]
        def out(mib=0, patience=5000): return order(1, mib, patience)
        def back(mib=1 << 20, patience=5000): return order(0, mib, patience)
        current()
        data = np.random.default_rng(7).integers(0, 2**32, 20 << 20, dtype=np.uint32)
"""
"""The same on an emulated machine, under cuda-bindings: 80 MiB of random data, three pieces."""
