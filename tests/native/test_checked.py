"""The native parts under tools that watch each byte: the compilers' checks of memory, undefined behaviour and races, and valgrind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from interposer.conftest import INTERPOSER, ROOT, SMALL, cc
from interposer.test_layer_loading import linked
from interposer.under import HERE, Layer, layer, scripted

__all__ = ["layer", "linked", "scripted"]
OWN = Path(__file__).parent / "c"
UNITS = ["layer/index.c", "share/share.c", "share/identity.c", "share/presence.c", "share/words.c"]
VALGRIND = [
    "valgrind",
    "-q",
    "--error-exitcode=9",
    "--leak-check=full",
    "--errors-for-leak-kinds=definite",
    "--trace-children=yes",
]


def made(folder: Path, *goals: str) -> Path:
    """Native libraries, into a folder; what is generated on the way lies in obj/generated."""
    done = subprocess.run(
        ["make", "-s", "-C", INTERPOSER, f"OUT={folder}", *(folder / each for each in goals)],
        env={**os.environ, "MAKEFLAGS": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def units(folder: Path, *checks: str) -> Path:
    """The program that looks at single parts, compiled with checks or without."""
    made(folder, "obj/generated/layer/slots.h")
    done = cc(
        "-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-pthread", *checks, f"-I{INTERPOSER}", f"-I{INTERPOSER / 'include'}",
        f"-I{folder / 'obj/generated/layer'}", OWN / "units.c", *(INTERPOSER / each for each in UNITS), "-o", folder / "units",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "units"


def says(command: list[str | Path], environment: dict[str, str], word: str) -> None:
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert (ran.returncode, ran.stdout.strip(), ran.stderr) == (0, word, ""), ran.stderr[-4000:]


RUNTIMES = {"address,undefined": "libasan.so", "thread": "libtsan.so"}
PYTHON = [
    "interposer/test_layer_memory.py", "interposer/test_layer_swap.py", "interposer/test_layer_gate.py",
    "interposer/test_layer_emulated.py", "interposer/test_layer_lend.py", "interposer/test_emu_memory.py", "sharing/test_turns.py",
]  # fmt: skip
"""Tests whose programs are in Python, many threads and processes among them: of the layer, of the emulated driver, and of both with a broker."""


IN_TIME = "sharing/test_turns.py::test_whoever_waits_for_each_kernel_is_at_work_all_the_same"
"""Left out: its programs must be at their next kernel when their turn ends, and with checks they may be between two."""


@pytest.mark.parametrize("checks", RUNTIMES)
def test_programs_in_python_under_the_checked_layer(checks: str, tmp_path: Path) -> None:
    runtime = cc(f"-print-file-name={RUNTIMES[checks]}").stdout.strip()
    if not Path(runtime).is_absolute():
        pytest.skip(f"this compiler has no {RUNTIMES[checks]}")
    goals = [
        f"SANITIZE={checks}",
        *(str(tmp_path / f"libgpumax-{each}.so") for each in ("cuda", "ml", "emu", "emu-ml")),
    ]
    done = subprocess.run(
        ["make", "-s", "-C", INTERPOSER, f"OUT={tmp_path}", *goals],
        env={**os.environ, "MAKEFLAGS": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # Python keeps what it has until its end; and what isn't compiled with checks shares no lock that the checker would see.
    environment = os.environ | {
        "CHECKED": f"{tmp_path}:{runtime}",
        "ASAN_OPTIONS": "detect_leaks=0",
        "TSAN_OPTIONS": "ignore_noninstrumented_modules=1",
    }
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *(ROOT / "tests" / each for each in PYTHON), f"--deselect=tests/{IN_TIME}"],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-6000:]


def memcheck() -> list[str]:
    if shutil.which("valgrind") is None:
        pytest.skip("there is no valgrind (package valgrind)")
    return VALGRIND


@pytest.mark.parametrize("checks", ["address,undefined", "thread"])
def test_single_parts_under_the_compilers_checks(checks: str, tmp_path: Path) -> None:
    program = units(tmp_path, f"-fsanitize={checks}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
    says([program], dict(os.environ), "right")


def test_single_parts_under_valgrind(tmp_path: Path) -> None:
    valgrind = memcheck()
    says([*valgrind, units(tmp_path)], dict(os.environ), "right")


@pytest.mark.parametrize("way", ["linked", "dlsym", "fork", "exec", "threads", "arguments", "swap"])
def test_a_program_under_the_layer_under_valgrind(way: str, linked: Path, layer: Layer) -> None:
    """The gate's threads are left out: valgrind runs one at a time, for as long as it likes."""
    valgrind = memcheck()
    settings = {"GPUMAX_LIMIT": "64Mi", "GPUMAX_SWAP": "1" if way == "swap" else ""}
    # A thread's seat at the gate and the like are kept for as long as the process lives.
    says([*valgrind, "--leak-check=no", linked, way], layer.environment(settings), "held")


def test_the_emulated_driver_under_valgrind(tmp_path: Path) -> None:
    valgrind = memcheck()
    library = made(tmp_path, "libgpumax-emu.so") / "libgpumax-emu.so"
    (tmp_path / "libcuda.so.1").symlink_to(library)
    done = cc(
        "-g",
        "-O1",
        "-pthread",
        f"-I{INTERPOSER}/include",
        HERE / "c/exercise.c",
        library,
        "-o",
        tmp_path / "exercise",
    )
    assert done.returncode == 0, done.stderr
    config = {"clock": "virtual", "shared": str(tmp_path / "machine"), "devices": [SMALL]}
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path), "GPUMAX_EMU": json.dumps(config)}
    says([*valgrind, tmp_path / "exercise"], environment, "fine")
