"""Installing gpumax from source compiles its native libraries, with make and the machine's C compiler, into src/gpumax/native/.

What keeps it from it is told in a sentence that says what to do. GPUMAX_NATIVE=skip installs without them: all of gpumax works then,
but for fractions of GPUs and emulated devices.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HELP = "GPUMAX_NATIVE=skip installs without the libraries: no fractions of GPUs then, and no emulated devices"


class NativeLibraries(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        # A source distribution holds sources.
        if self.target_name != "wheel" or os.environ.get("GPUMAX_NATIVE") == "skip":
            return
        # They are for Linux, where the drivers that they stand before are.
        if sys.platform != "linux":
            return
        compiled(Path(self.root))
        build_data["artifacts"].append("src/gpumax/native/*.so")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform()}"


def platform() -> str:
    named = os.environ.get("GPUMAX_PLATFORM", "")
    return named or sysconfig.get_platform().replace("-", "_").replace(".", "_")


def compiled(root: Path) -> None:
    missing = next((each for each in ("make", "cc") if shutil.which(tool(each)) is None), None)
    if missing is not None:
        sys.exit(
            f"gpumax: no {tool(missing)} in PATH, and its native libraries are compiled on install from source; "
            f"install make and a C compiler (packages make and gcc), or name one in CC. {HELP}."
        )
    command = [
        "make", "-s", "-C", str(root / "interposer"),
        f"OUT={root / 'src/gpumax/native'}", f"OBJ={root / 'build/native'}",
        f"PYTHON={sys.executable}", f"STRIP={os.environ.get('GPUMAX_STRIP', '')}",
    ]  # fmt: skip
    # What a shell set for other programs' make is none of ours.
    kept = {
        key: value
        for key, value in os.environ.items()
        if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "SANITIZE", "STRIP", "OBJ")
    }
    done = subprocess.run(command, capture_output=True, text=True, env=kept, check=False)
    if done.returncode != 0:
        said = "\n  ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[:20])
        sys.exit(
            f"gpumax: its native libraries don't compile here; {tool('cc')} and make said:\n  {said}\n"
            f"gpumax: is there a C compiler with the headers of the C library (packages gcc and libc6-dev)? {HELP}."
        )


def tool(name: str) -> str:
    return os.environ.get("CC", "cc").split()[0] if name == "cc" else name
