"""What the layer under CUDA costs: `python bench/interposer.py [--quick]`, before a driver that does nothing.

A launch through the gate, a call that is forwarded, an allocation with its free, each beside the same call without the
layer, in nanoseconds of the processor; the instructions that the gate adds, counted by callgrind where valgrind is installed; and
what preloading costs a program that never touches CUDA.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from gpumax.native import library
from measure import Figure, Row, Skipped, show

HERE = Path(__file__).parent
FIELDS = ("launch", "forwarded", "allocation and free")
GOALS = {"launch": 5.0, "forwarded": 1.0, "allocation and free": 1000.0}
CALLS = 2_000_000


def built(folder: Path) -> tuple[Path, Path]:
    """The program that measures, and a driver whose functions return at once."""
    driver, program = folder / "libcuda.so.1", folder / "calls"
    source, include = HERE / "interposer.c", f"-I{HERE.parent / 'interposer/include'}"
    compile_it = [*os.environ.get("CC", "cc").split(), "-O2", "-w", "-D_GNU_SOURCE", include, str(source)]
    shared = ["-shared", "-fPIC", "-DDRIVER", "-Wl,-soname,libcuda.so.1"]
    subprocess.run([*compile_it, *shared, "-o", str(driver)], check=True)
    subprocess.run([*compile_it, "-o", str(program), "-ldl"], check=True)
    return driver, program


def environment(driver: Path, layer: bool) -> dict[str, str]:
    """With the layer before the driver, or the driver alone."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GPUMAX_", "LD_"))}
    if not layer:
        return kept | {"CALLS_LIBRARY": str(driver)}
    return kept | {
        "CALLS_LIBRARY": "libcuda.so.1",
        "LD_PRELOAD": str(library("cuda")),
        "GPUMAX_REAL_LIBCUDA": str(driver),
        "GPUMAX_LIMIT": "1Ti",
        "GPUMAX_GROUP": f"bench-{os.getpid()}",
    }


def nanoseconds(program: Path, driver: Path, layer: bool, calls: int) -> dict[str, float]:
    """One run: the time of each kind of call."""
    out = subprocess.run(
        [program, str(calls)], env=environment(driver, layer), check=True, capture_output=True, text=True
    ).stdout
    return dict(zip(FIELDS, map(float, out.split()), strict=True))


def instructions(program: Path, driver: Path, folder: Path) -> Row:
    """What the gate adds to a launch: a thousand more launches with the layer and without, counted by callgrind."""
    name = "launch: instructions added by it"
    if shutil.which("valgrind") is None:
        return Skipped(name, "valgrind is not installed")

    def counted(layer: bool, calls: int) -> int:
        said = subprocess.run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder / 'out'}", program, str(calls), "launch"],
            env=environment(driver, layer), check=True, capture_output=True, text=True,
        ).stderr  # fmt: skip
        found = re.search(r"Collected : (\d+)", said)
        return int(found[1]) if found else 0

    added = [counted(layer, 2000) - counted(layer, 1000) for layer in (False, True)]
    return Figure(name, "instr.", ((added[1] - added[0]) / 1000,))


def start(layer: bool, repeat: int) -> list[float]:
    """Milliseconds that `true` takes from beginning to end."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GPUMAX_", "LD_"))}
    preload = {"LD_PRELOAD": f"{library('cuda')} {library('ml')}", "GPUMAX_LIMIT": "1Gi"} if layer else {}
    taken = []
    for _ in range(repeat):
        begin = time.perf_counter()
        subprocess.run(["/bin/true"], env=kept | preload, check=True)
        taken.append((time.perf_counter() - begin) * 1000)
    return taken


def figures(repeat: int, calls: int = CALLS) -> list[Row]:
    """All of them. Runs with and without the layer follow each other, so that a busy machine slows both."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        driver, program = built(Path(name))
        pairs = [
            (nanoseconds(program, driver, False, calls), nanoseconds(program, driver, True, calls))
            for _ in range(repeat)
        ]
        for field in FIELDS:
            without = tuple(one[field] for one, _ in pairs)
            added = tuple(max(other[field] - one[field], 0.0) for one, other in pairs)
            rows += [
                Figure(f"{field}: without the layer", "ns", without),
                Figure(f"{field}: added by it", "ns", added, GOALS[field]),
            ]
        rows.append(instructions(program, driver, Path(name)))
    bare, preloaded = start(False, 10 * repeat), start(True, 10 * repeat)
    added_ms = statistics.median(preloaded) - statistics.median(bare)
    rows.append(Figure("start of a program without CUDA: added", "ms", (added_ms,), 1.0))
    return rows


def main() -> None:
    """Read the flags, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats: a look, not a measurement")
    flags = parser.parse_args()
    show(figures(3 if flags.quick else 15))


if __name__ == "__main__":
    main()
