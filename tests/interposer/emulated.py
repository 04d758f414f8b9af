"""Programs on an emulated machine: each is a Python process of its own, for which the emulated driver is libcuda.so.1."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interposer.natives import library, preloaded

BARE = """
import ctypes, sys
lib = ctypes.CDLL("libcuda.so.1")
context, pointer = ctypes.c_void_p(), ctypes.c_uint64()
lib.cuInit(0); lib.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0); lib.cuCtxSetCurrent(context)
assert lib.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(200 << 20)) == 0
print("there", flush=True); sys.stdin.readline()
"""
"""A program that holds 200 MiB of a device, whatever environment it has, until it hears a line."""

PRELUDE = '''
import ctypes, json, os, sys, threading, time
import numpy as np
from cuda.bindings import driver as d

def ok(result):
    """What a call gave, where it succeeded."""
    assert result[0] == d.CUresult.CUDA_SUCCESS, result[0]
    return None if len(result) == 1 else result[1] if len(result) == 2 else result[1:]

def name(result):
    return (result[0] if isinstance(result, tuple) else result).name

def current(ordinal=0):
    ok(d.cuInit(0))
    context = ok(d.cuDevicePrimaryCtxRetain(ok(d.cuDeviceGet(ordinal))))
    ok(d.cuCtxSetCurrent(context))
    return context

def load(text=""):
    return ok(d.cuModuleLoadData(("gpumax-emu\\n" + text).encode() + b"\\0"))

def launch(module, kernel, *parameters, stream=0):
    """Integers are 64 bits wide; what is narrower comes as a ctypes object."""
    values = tuple(p.value if isinstance(p, ctypes._SimpleCData) else int(p) for p in parameters)
    kinds = tuple(type(p) if isinstance(p, ctypes._SimpleCData) else ctypes.c_ulonglong for p in parameters)
    function = ok(d.cuModuleGetFunction(module, kernel.encode()))
    return d.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, (values, kinds) if values else 0, 0)

def upload(array):
    pointer = ok(d.cuMemAlloc(array.nbytes))
    ok(d.cuMemcpyHtoD(pointer, array.ctypes.data, array.nbytes))
    return pointer

def download(pointer, like):
    out = np.empty_like(like)
    ok(d.cuMemcpyDtoH(out.ctypes.data, pointer, out.nbytes))
    return out

def free():
    return ok(d.cuMemGetInfo())[0]

def say(value):
    print(json.dumps(value), flush=True)

def wait_for_a_line():
    return sys.stdin.readline()
'''


class Machine:
    """One emulated machine; its processes share its devices."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.libraries = folder / "lib"
        self.libraries.mkdir(parents=True, exist_ok=True)
        for name, soname in (("emu", "libcuda.so.1"), ("emu-ml", "libnvidia-ml.so.1")):
            link = self.libraries / soname
            if not link.exists() and library("emu").with_name(f"libgpumax-{name}.so").exists():
                link.symlink_to(library("emu").with_name(f"libgpumax-{name}.so"))
        self.config = {"shared": str(folder / "machine"), **config}

    def environment(self, **more: str) -> dict[str, str]:
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("CUDA_", "GPUMAX_", "LD_"))
        }
        own = {"GPUMAX_EMU": json.dumps(self.config), "LD_LIBRARY_PATH": str(self.libraries)}
        return preloaded(kept | own | more)

    def start(self, program: str, **environment: str) -> subprocess.Popen[str]:
        """A process that goes on; its lines come and go by pipes."""
        return subprocess.Popen(
            [sys.executable, "-c", PRELUDE + textwrap.dedent(program)],
            env=self.environment(**environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, program: str, **environment: str) -> Any:
        """What the program said last, as JSON."""
        process = self.start(program, **environment)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return json.loads(out.strip().splitlines()[-1])


def line(process: subprocess.Popen[str]) -> Any:
    """The next thing that a process says."""
    assert process.stdout is not None
    text = process.stdout.readline()
    assert text, process.stderr.read() if process.stderr is not None else ""
    return json.loads(text)


def tell(process: subprocess.Popen[str], what: str = "on") -> None:
    assert process.stdin is not None
    process.stdin.write(what + "\n")
    process.stdin.flush()


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
