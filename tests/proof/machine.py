"""An emulated machine for proofs, and the command line on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

from gpumax.native import library


def environment(folder: Path, devices: int = 1, **more: str) -> dict[str, str]:
    """Emulated devices of a GiB each; its driver lies in a folder of its own, as that of a GPU would."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, soname in (("emu", "libcuda.so.1"), ("emu-ml", "libnvidia-ml.so.1")):
        if not (folder / soname).exists():
            (folder / soname).symlink_to(library("emu").with_name(f"libgpumax-{name}.so"))
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("CUDA_", "GPUMAX_", "LD_"))
    }
    emulated = {
        "GPUMAX_EMU": json.dumps(
            {
                "shared": str(folder / "machine"),
                "devices": [
                    {"memory": "1Gi", "context": "64Mi", "uuid": f"GPU-{uuid.uuid4()}"}
                    for _ in range(devices)
                ],
            }
        ),
        "LD_LIBRARY_PATH": str(folder),
        "GPUMAX_REAL_LIBCUDA": str(folder / "libcuda.so.1"),
        "GPUMAX_REAL_LIBNVIDIA_ML": str(folder / "libnvidia-ml.so.1"),
        "GPUMAX_DATA": str(folder / "data"),
        "COLUMNS": "200",
    }
    return kept | emulated | more


def gpumax(settings: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """The command line."""
    program = "import sys; from gpumax.apps.cli.main import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, *words], env=settings, capture_output=True, text=True, timeout=300, check=False
    )  # fmt: skip
