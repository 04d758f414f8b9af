"""Builds gpumax's wheels for other machines than this one: one for x86-64, one for aarch64, each for every Linux with glibc 2.17 or newer.

    python interposer/wheels.py dist

The compiler is the one that the package ziglang brings, with the C libraries of both machines, so one machine builds both. What comes out is
looked at by auditwheel: a library that needs more than its wheel's tag promises is an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "hatch_build.py", "interposer", "src")
MACHINES = ("x86_64", "aarch64")
GLIBC = "2.17"
TAG = "manylinux_2_17_{machine}.manylinux2014_{machine}"
BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"


def copied(folder: Path) -> Path:
    """The sources in a folder of their own: libraries for another machine must not take the place of this one's."""
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__", "*.so")
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def built(machine: str, sources: Path, out: Path) -> Path:
    """The wheel for a kind of machine."""
    environment = os.environ | {
        "CC": f"{sys.executable} -m ziglang cc -target {machine}-linux-gnu.{GLIBC}",
        "GPUMAX_PLATFORM": TAG.format(machine=machine),
        "GPUMAX_STRIP": "1",
    }
    environment.pop("GPUMAX_NATIVE", None)
    shutil.rmtree(sources / "build", ignore_errors=True)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(out)],
        cwd=sources, env=environment, stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        sys.exit(f"gpumax: no wheel for {machine}: see above")
    return out / done.stdout.split()[-1]


def audited(wheel: Path, machine: str) -> None:
    """What auditwheel finds that the libraries need has to be what the wheel's name promises."""
    done = subprocess.run(
        [sys.executable, "-m", "auditwheel", "show", str(wheel)], capture_output=True, text=True, check=False
    )
    said = " ".join(done.stdout.split())
    promised = f'following platform tag: "manylinux_{GLIBC.replace(".", "_")}_{machine}"'
    if promised not in said and f'following platform tag: "manylinux_2_5_{machine}"' not in said:
        sys.exit(f"gpumax: {wheel.name} promises more than its libraries keep:\n{done.stdout}{done.stderr}")


def main(out: str) -> None:
    """Build both, look at both, put both into the folder `out`."""
    folder = Path(out).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for before in folder.glob("gpumax-*.whl"):
        before.unlink()
    with tempfile.TemporaryDirectory(prefix="gpumax-wheels-") as place:
        sources = copied(Path(place))
        for machine in MACHINES:
            wheel = built(machine, sources, folder)
            audited(wheel, machine)
            print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
