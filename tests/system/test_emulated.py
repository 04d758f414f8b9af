"""`gpumax up --devices` on a machine without a GPU: tasks really compute on the devices that they hold, and share them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from system.harness import Machine, eventually

PROGRAM = """
import ctypes, sys
import numpy as np
from cuda.bindings import driver as d
import pynvml

def ok(result):
    assert result[0] == 0, result[0]
    return result[1] if len(result) == 2 else result[1:]

ok(d.cuInit(0))
ok(d.cuCtxSetCurrent(ok(d.cuDevicePrimaryCtxRetain(0))))
name = ok(d.cuDeviceGetName(64, 0)).decode().split(chr(0))[0].strip()
free, total = ok(d.cuMemGetInfo())
x = ok(d.cuMemAlloc(4000))
axpy = ok(d.cuModuleGetFunction(ok(d.cuModuleLoadData(b"gpumax-emu\\n\\0")), b"axpy"))
ok(d.cuMemsetD32(x, int(np.float32(1).view(np.uint32)), 1000))
kinds = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_float, ctypes.c_uint64)
ok(d.cuLaunchKernel(axpy, 1, 1, 1, 1, 1, 1, 0, 0, ((int(x), int(x), 2.0, 1000), kinds), 0))
out = np.empty(1000, np.float32)
ok(d.cuMemcpyDtoH(out.ctypes.data, x, 4000))
pynvml.nvmlInit()
print(ok(d.cuDeviceGetCount()), name, total >> 30, out.sum(), pynvml.nvmlDeviceGetCount(), pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(1)))
"""


def test_a_task_computes_on_the_device_that_it_holds(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "data", devices="1xT4:16Gi,1xA100:40Gi")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    machine.up()
    try:
        machine.must("run", "--name", "work", "--gpu", "2", "--", sys.executable, str(program))
        eventually(lambda: machine.in_state("work", "succeeded", "failed"), "the work ends")
        assert machine.must("logs", "work").split() == ["2", "T4", "16", "3000.0", "2", "A100"]
        assert "emulated driver" in machine.must("status")
    finally:
        machine.down()


BREAKS = """
import ctypes
driver = ctypes.CDLL("libcuda.so.1")
assert driver.cuInit(0) == 0
assert driver.gpumax_emu_set(0, b"ecc", ctypes.c_double(1)) == 0
"""


def test_a_device_whose_memory_has_errors_is_given_to_nobody_else(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "data", devices="1xT4:16Gi")
    machine.up()
    try:
        machine.must("run", "--name", "breaks", "--gpu", "1", "--", sys.executable, "-c", BREAKS)
        eventually(lambda: machine.in_state("breaks", "succeeded", "failed"), "the work ends")
        machine.must("run", "--name", "waits", "--gpu", "1", "--", "true")
        why = machine.must("why", "waits")
        assert re.search(r"so it can't start while GPU 0 of \S+ \(unhealthy\) is out of service", why), why
        assert "unhealthy" in machine.must("gpu", "list")
    finally:
        machine.down()
