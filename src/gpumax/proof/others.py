"""Other processes of a probe: children under the same share, and one that looks from outside of the layer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from gpumax.native import library
from gpumax.proof.checks import PATIENCE_S, NotShown

_OURS: Final = ("GPUMAX_LIMIT", "GPUMAX_GROUP", "GPUMAX_SWAP", "GPUMAX_SOCKET", "GPUMAX_SHARE", "GPUMAX_MODE", "GPUMAX_DISABLE")  # fmt: skip


def unlayered(base: Mapping[str, str]) -> dict[str, str]:
    """An environment without the layer, in which the same driver is found."""
    layer = {str(library("cuda")), str(library("ml"))}
    preloads = base.get("LD_PRELOAD", "").replace(":", " ").split()
    found = {key: value for key, value in base.items() if key not in (*_OURS, "LD_PRELOAD")}
    # Whose driver lies where no loader looks is found by its name all the same, once it is loaded.
    named = [base.get(each, "") for each in ("GPUMAX_REAL_LIBCUDA", "GPUMAX_REAL_LIBNVIDIA_ML")]
    if kept := [*(each for each in named if each), *(each for each in preloads if each not in layer)]:
        found["LD_PRELOAD"] = " ".join(kept)
    return found


def program(*words: str) -> list[str]:
    """The command of one of our own programs."""
    return [sys.executable, "-m", "gpumax.proof.probe", *words]


class Other:
    """A child that does what it's told, line by line."""

    def __init__(self, *words: str, environment: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            program(*words), env=None if environment is None else dict(environment), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def __enter__(self) -> Other:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def hear(self) -> Any:
        """The next thing that it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise NotShown(f"a child ended with {self.process.wait(PATIENCE_S)} before it had done its work")
        return json.loads(line)

    def tell(self) -> None:
        """Let it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("on\n")
        self.process.stdin.flush()


def outside(device: int = 0) -> dict[str, Any]:
    """What NVML says to somebody who isn't under the layer; NotShown where there is no NVML."""
    done = subprocess.run(
        program("outside", str(device)), env=unlayered(os.environ), text=True, capture_output=True,
        timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise NotShown("nothing was seen from outside of the layer: " + done.stderr.strip()[-200:]) from None
    if "why" in found:
        raise NotShown(str(found["why"]))
    assert isinstance(found, dict)
    return found


def used_by(pid: int, device: int = 0) -> int:
    """What NVML says that a process has of the device."""
    found = outside(device)["processes"].get(str(pid))
    if found is None:
        raise NotShown(
            "NVML doesn't tell what single processes use, or knows them by the numbers of another namespace"
        )
    return int(found)


def driver_path() -> Path | None:
    """Where the real driver is, under a name by which programs ask for it."""
    folders = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    listed = [
        Path(os.environ.get("GPUMAX_REAL_LIBCUDA", "")),
        *(Path(each) / "libcuda.so.1" for each in folders if each),
    ]
    places = (
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/usr/local/nvidia/lib64",
        "/run/opengl-driver/lib",
        "/usr/lib/wsl/lib",
    )
    listed += [Path(each) / "libcuda.so.1" for each in places]
    return next((each for each in listed if each.name.startswith("libcuda.so") and each.exists()), None)
