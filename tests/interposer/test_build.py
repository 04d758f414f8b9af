"""Libraries as they come out of the compiler, and what an install says where there is none."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gpumax.errors import NotFound
from gpumax.native import library
from interposer.conftest import INTERPOSER, ROOT


def elf(path: Path, what: str) -> str:
    return subprocess.run(
        ["readelf", "-W", what, str(path)], check=True, capture_output=True, text=True
    ).stdout


def test_a_driver_answers_to_the_name_that_programs_ask_for() -> None:
    assert "soname: [libcuda.so.1]" in elf(library("emu"), "-d")


def test_libraries_are_hardened() -> None:
    """Relocations are read-only before the first call, no stack is executable, and nothing is written over in silence."""
    path = library("emu")
    headers = elf(path, "-l")
    assert "GNU_RELRO" in headers
    assert re.search(r"GNU_STACK.* RW ", headers)
    assert "NOW" in elf(path, "-d")
    assert "TEXTREL" not in elf(path, "-d")


def test_a_driver_exports_its_functions_and_nothing_else() -> None:
    symbols = re.findall(r"(?:GLOBAL|WEAK)\s+DEFAULT\s+(?!UND)\w+\s+(\S+)", elf(library("emu"), "--dyn-syms"))
    assert "cuDriverGetVersion" in symbols
    names = set((INTERPOSER / "names/driver.txt").read_text().split())
    assert {each for each in symbols if each not in names and not each.startswith("gpumax_emu_")} == set()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which nothing was compiled yet."""
    folder = tmp_path_factory.mktemp("sources")
    for name in ("pyproject.toml", "README.md", "LICENSE", "hatch_build.py"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(INTERPOSER, folder / "interposer")
    (folder / "src/gpumax/native").mkdir(parents=True)
    for name in ("__init__.py", "native/__init__.py"):
        shutil.copy(ROOT / "src/gpumax" / name, folder / "src/gpumax" / name)
    return folder


def install(sources: Path, environment: dict[str, str], target: Path) -> subprocess.CompletedProcess[str]:
    """What pip asks of the build, without pip."""
    build = "from hatchling.build import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    kept = {"HOME": str(target), "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        [sys.executable, "-c", build, str(target)],
        cwd=sources, env=kept | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (
            {"CC": "no-such-compiler"},
            r"no no-such-compiler in PATH.*install make and a C compiler.*GPUMAX_NATIVE=skip",
        ),
        ({"PATH": "/nonexistent"}, r"no make in PATH.*GPUMAX_NATIVE=skip"),
        ({"CC": "false"}, r"don't compile here(.|\n)*GPUMAX_NATIVE=skip"),
    ],
)
def test_without_a_compiler_an_install_says_what_to_do(
    environment: dict[str, str], said: str, sources: Path, tmp_path: Path
) -> None:
    done = install(sources, environment, tmp_path)
    assert done.returncode != 0
    assert re.search(said, done.stderr)
    assert "Traceback" not in done.stderr
    assert list(tmp_path.glob("*.whl")) == []


def test_a_wheel_without_the_libraries_is_for_every_machine(sources: Path, tmp_path: Path) -> None:
    done = install(sources, {"GPUMAX_NATIVE": "skip"}, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("py3-none-any.whl")


def test_a_wheel_is_for_one_platform_and_has_the_libraries(sources: Path, tmp_path: Path) -> None:
    done = install(sources, {"GPUMAX_NATIVE": ""}, tmp_path)
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("*.whl")
    assert re.search(r"-py3-none-linux_\w+\.whl$", wheel.name)
    listed = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", str(wheel)], check=True, capture_output=True, text=True
    ).stdout
    for name in ("cuda", "ml", "emu", "emu-ml"):
        assert f"gpumax/native/libgpumax-{name}.so" in listed


def test_a_library_that_is_missing_is_an_error_that_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Path, "exists", lambda self: False)
    with pytest.raises(NotFound, match=r"libgpumax-emu.so is missing.*install it anew"):
        library("emu")
