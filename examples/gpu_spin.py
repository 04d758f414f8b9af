"""A program that wants a whole GPU: kernels of a millisecond, two at a time. It knows nothing of gpumax.

    python examples/gpu_spin.py

`count` on standard input is answered with the time and how many kernels have ended; `rest` makes it stop for good.
"""

from __future__ import annotations

import ctypes
import select
import sys
import time
from typing import Final

from cuda.bindings import driver

from gpu_model import ok

KERNEL_NS: Final = 1_000_000


def main() -> None:
    """Launch, wait, hear."""
    ok(driver.cuInit(0))
    ok(driver.cuCtxSetCurrent(ok(driver.cuDevicePrimaryCtxRetain(0))))
    module = ok(driver.cuModuleLoadData(b"gpumax-emu\n\0"))
    spin = ok(driver.cuModuleGetFunction(module, b"spin"))
    arguments = ((KERNEL_NS,), (ctypes.c_ulonglong,))
    done, resting = 0, False
    print("ready", flush=True)
    while True:
        if not resting:
            for _ in range(2):
                ok(driver.cuLaunchKernel(spin, 1, 1, 1, 1, 1, 1, 0, 0, arguments, 0))
            ok(driver.cuCtxSynchronize())
            done += 2
        if select.select([sys.stdin], [], [], None if resting else 0)[0]:
            line = sys.stdin.readline().strip()
            if not line:
                return
            resting |= line == "rest"
            print(time.monotonic_ns(), done, flush=True)


if __name__ == "__main__":
    main()
