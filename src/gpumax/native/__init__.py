"""The native libraries of gpumax: where they are. They are written in C, in interposer/, and compiled on install.

This package imports nothing that is slow, and nothing of gpumax but its errors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gpumax.errors import NotFound

Name = Literal["cuda", "ml", "emu", "emu-ml"]


def library(name: Name) -> Path:
    """The layer under CUDA (`cuda`) and NVML (`ml`), or the emulated driver (`emu`) and its NVML (`emu-ml`)."""
    path = Path(__file__).with_name(f"libgpumax-{name}.so")
    if not path.exists():
        raise NotFound(
            f"the native library {path.name} is missing from {path.parent}: gpumax was installed without it; "
            "install it anew where there are make and a C compiler (from source: pip install .)"
        )
    return path
