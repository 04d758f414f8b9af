"""What tests of the native part share: the headers that they are compared with, and a C compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from interposer.emulated import Machine

SMALL = {"memory": "1Gi", "context": "64Mi", "name": "Small", "cc": "8.6", "sms": 20}

ROOT = Path(__file__).resolve().parents[2]
INTERPOSER = ROOT / "interposer"
NVIDIA = Path(sysconfig.get_paths()["purelib"]) / "nvidia"
DRIVER_HEADERS = {"12": NVIDIA / "cuda_runtime/include", "13": NVIDIA / "cu13/include"}
NVML_HEADERS = {"12": NVIDIA / "nvml_dev/include", "13": NVIDIA / "cu13/include"}


def cc(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The compiler, and what it said."""
    command = [*os.environ.get("CC", "cc").split(), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session", autouse=True)
def _compiler() -> None:
    for each in ("cc", "make"):
        if shutil.which(each) is None:
            pytest.fail(f"no {each} in PATH: gpumax's native part is compiled on install")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """One device of a GiB, whose clock stands still but for work."""
    return Machine(tmp_path, {"clock": "virtual", "devices": [SMALL]})
