"""Programs under the layer on an emulated machine: devices that processes share, with a driver that does what drivers do."""

from __future__ import annotations

import subprocess
from pathlib import Path

from interposer.conftest import INTERPOSER, cc
from interposer.emulated import Machine
from interposer.natives import library
from interposer.under import HERE


class Under(Machine):
    """A machine whose programs run under the layer."""

    def environment(self, **more: str) -> dict[str, str]:
        own = {
            "LD_PRELOAD": f"{library('cuda')} {library('ml')}",
            "GPUMAX_REAL_LIBCUDA": str(self.libraries / "libcuda.so.1"),
            "GPUMAX_REAL_LIBNVIDIA_ML": str(self.libraries / "libnvidia-ml.so.1"),
            "GPUMAX_GROUP": str(self.libraries),
            "PYTHONPATH": str(HERE),
        }
        return {key: value for key, value in super().environment(**(own | more)).items() if value}


def built(name: str, folder: Path) -> Path:
    """A program of tests/interposer/c that has the layer for its driver."""
    out = folder / name
    done = cc(
        "-g", "-O1", "-pthread", "-D_GNU_SOURCE", HERE / f"c/{name}.c", f"-I{INTERPOSER / 'include'}",
        library("cuda"), "-ldl", "-o", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


def ran(machine: Machine, *command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)], env=machine.environment(**environment), capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
