"""A model that answers requests: 10 GiB of weights on a GPU, and a forward pass of CUDA's driver API. It knows nothing of gpumax.

    python examples/gpu_model.py SEED LAYERS

Each line on standard input is the number of a request; each answer is a line: the number, and a checksum of what the last layer
gave. `ready` comes first, once the weights are on the device. A layer has 256 MiB, of which 1 MiB is drawn by the seed and the
rest is zero, so that an emulated device of a small machine can hold many of them.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from cuda.bindings import driver

WIDTH: Final = 512
ROWS: Final = 2
LAYER_BYTES: Final = 256 << 20
FLOATS: Final = WIDTH * WIDTH
KINDS: Final = {"p": ctypes.c_void_p, "u": ctypes.c_uint, "q": ctypes.c_ulonglong}


def ok(result: Sequence[Any]) -> Any:
    """What a call gave, where it succeeded."""
    if result[0] != driver.CUresult.CUDA_SUCCESS:
        raise SystemExit(f"the driver says {result[0].name}")
    return result[1] if len(result) > 1 else None


class Model:
    """Layers of weights, and room for what goes from one to the next."""

    def __init__(self, seed: int, layers: int) -> None:
        ok(driver.cuInit(0))
        ok(driver.cuCtxSetCurrent(ok(driver.cuDevicePrimaryCtxRetain(0))))
        self.module = ok(driver.cuModuleLoadData(b"gpumax-emu\n\0"))
        self.kernels = {
            name: ok(driver.cuModuleGetFunction(self.module, name.encode()))
            for name in ("gemm", "relu", "checksum")
        }
        self.random = np.random.default_rng(seed)
        self.weights = [self._layer() for _ in range(layers)]
        self.first, self.second = (int(ok(driver.cuMemAlloc(ROWS * WIDTH * 4))) for _ in range(2))
        self.sum = int(ok(driver.cuMemAlloc(8)))

    def _layer(self) -> int:
        drawn = self.random.normal(0, (2 / WIDTH) ** 0.5, FLOATS).astype(np.float32)
        layer = int(ok(driver.cuMemAlloc(LAYER_BYTES)))
        ok(driver.cuMemsetD32(layer, 0, LAYER_BYTES // 4))
        ok(driver.cuMemcpyHtoD(layer, drawn.ctypes.data, drawn.nbytes))
        return layer

    def launch(self, kernel: str, kinds: str, *values: int) -> None:
        """One kernel, behind those before it."""
        arguments = (values, tuple(KINDS[kind] for kind in kinds))
        ok(driver.cuLaunchKernel(self.kernels[kernel], 1, 1, 1, 1, 1, 1, 0, 0, arguments, 0))

    def answer(self, request: int) -> int:
        """A forward pass; its checksum."""
        given = np.random.default_rng(request).random((ROWS, WIDTH), np.float32)
        ok(driver.cuMemcpyHtoD(self.first, given.ctypes.data, given.nbytes))
        here, there = self.first, self.second
        for layer in self.weights:
            self.launch("gemm", "pppuuu", there, here, layer, ROWS, WIDTH, WIDTH)
            self.launch("relu", "pq", there, ROWS * WIDTH)
            here, there = there, here
        self.launch("checksum", "ppq", self.sum, here, ROWS * WIDTH * 4)
        out = np.zeros(1, np.uint64)
        ok(driver.cuMemcpyDtoH(out.ctypes.data, self.sum, 8))
        return int(out[0])


def main() -> None:
    """Answer until there are no more requests."""
    model = Model(int(sys.argv[1]), int(sys.argv[2]))
    print("ready", flush=True)
    for line in sys.stdin:
        print(int(line), f"{model.answer(int(line)):016x}", flush=True)


if __name__ == "__main__":
    main()
