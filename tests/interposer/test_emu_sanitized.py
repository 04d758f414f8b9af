"""The emulated driver under the compiler's sanitizers: threads that use all of it at once, and configurations that nobody would write."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from interposer.conftest import INTERPOSER, SMALL, cc

PROGRAMS = Path(__file__).parent / "c"


@pytest.fixture(scope="module", params=["address,undefined", "thread"])
def checked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the driver and a program that uses it, both with checks."""
    sanitizers, folder = str(request.param), tmp_path_factory.mktemp("checked")
    library = folder / "libgpumax-emu.so"
    made = subprocess.run(
        ["make", "-s", "-C", INTERPOSER, f"OUT={folder}", f"SANITIZE={sanitizers}", library],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    (folder / "libcuda.so.1").symlink_to(library)
    flags = ("-g", "-O1", f"-fsanitize={sanitizers}", "-pthread", f"-I{INTERPOSER}/include")
    built = cc(*flags, PROGRAMS / "exercise.c", library, "-o", folder / "exercise")
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("clock", ["real", "virtual"])
def test_threads_that_use_all_of_it_at_once(checked: Path, clock: str, tmp_path: Path) -> None:
    """No race, no leak, no byte beyond; what is read back is right, and nothing is left of the device's memory."""
    config = {"clock": clock, "shared": str(tmp_path / "machine"), "devices": [SMALL | {"latency_us": 1}]}
    environment = os.environ | {"LD_LIBRARY_PATH": str(checked), "GPUMAX_EMU": json.dumps(config)}
    ran = subprocess.run(
        [checked / "exercise"], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert (ran.returncode, ran.stdout.strip()) == (0, "fine"), ran.stderr[:4000]


def test_configurations_that_nobody_would_write(tmp_path: Path) -> None:
    sources = [
        PROGRAMS / "configs.c",
        *(INTERPOSER / each for each in ("common/json.c", "emu/config.c", "emu/known.c", "emu/results.c")),
    ]
    flags = (
        "-std=c11",
        "-D_GNU_SOURCE",
        "-g",
        "-O1",
        "-fsanitize=address,undefined",
        f"-I{INTERPOSER}/include",
        f"-I{INTERPOSER}",
    )
    built = cc(*flags, *sources, "-lm", "-o", tmp_path / "configs")
    assert built.returncode == 0, built.stderr
    ran = subprocess.run([tmp_path / "configs"], capture_output=True, text=True, timeout=300, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, "fine"), ran.stderr[:4000]
