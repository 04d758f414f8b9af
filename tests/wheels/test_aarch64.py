"""The layer on aarch64: its library out of the wheel, run instruction by instruction by QEMU. No such machine was at hand."""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from interposer.conftest import INTERPOSER
from interposer.under import HERE, page

QEMU = "qemu-aarch64"
LIBC = Path("/usr/aarch64-linux-gnu")
WAYS = ["linked", "dlsym", "fork", "threads", "arguments", "gate", "swap"]
"""All that programs in C do but exec, for which the kernel itself would have to know QEMU."""


def compiled(*arguments: str | Path) -> None:
    command = [
        sys.executable,
        "-m",
        "ziglang",
        "cc",
        "-target",
        "aarch64-linux-gnu.2.31",
        "-D_GNU_SOURCE",
        "-O1",
    ]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scripted driver and a program that is linked with it."""
    if shutil.which(QEMU) is None or not (LIBC / "lib/ld-linux-aarch64.so.1").exists():
        pytest.skip(
            f"no {QEMU}, or no C library for aarch64 in {LIBC} (packages qemu-user and libc6-arm64-cross)"
        )
    folder = tmp_path_factory.mktemp("aarch64")
    include = f"-I{INTERPOSER / 'include'}"
    compiled(
        "-shared", "-fPIC", "-w", "-Wl,-Bsymbolic", "-Wl,-soname,libcuda.so.1", include,
        HERE / "c/driver.c", "-o", folder / "libscripted.so", "-ldl",
    )  # fmt: skip
    (folder / "libcuda.so").symlink_to("libscripted.so")
    compiled(
        "-pthread", include, HERE / "c/linked.c", f"-L{folder}", "-lcuda", "-ldl", "-o", folder / "linked"
    )
    return folder


@pytest.fixture
def group() -> Iterator[str]:
    name = uuid.uuid4().hex
    yield name
    assert not page(name).exists()


def run(
    program: Path, *words: str, libraries: dict[str, Path], driver: Path, group: str, swap: bool = False
) -> tuple[int, str, str]:
    settings = {
        "LD_PRELOAD": libraries["aarch64"] / "libgpumax-cuda.so",
        "GPUMAX_REAL_LIBCUDA": driver,
        "GPUMAX_LIMIT": "64Mi",
        "GPUMAX_GROUP": group,
        "GPUMAX_SWAP": int(swap),
    }
    told = [word for key, value in settings.items() for word in ("-E", f"{key}={value}")]
    done = subprocess.run(
        [QEMU, "-L", LIBC, *told, program, *words],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("way", WAYS)
def test_a_program_for_aarch64_comes_to_the_layer(
    way: str, programs: Path, group: str, libraries: dict[str, Path]
) -> None:
    said = run(
        programs / "linked", way,
        libraries=libraries, driver=programs / "libscripted.so", group=group, swap=way == "swap",
    )  # fmt: skip
    assert said == (0, "held\n", "")


def test_arguments_arrive_in_every_register_and_on_the_stack(
    programs: Path, group: str, libraries: dict[str, Path], tmp_path: Path
) -> None:
    driver = tmp_path / "libregisters.so"
    compiled("-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", HERE / "c/registers_driver.c", "-o", driver)
    (tmp_path / "libcuda.so").symlink_to(driver)
    compiled(HERE / "c/registers.c", f"-L{tmp_path}", "-lcuda", "-ldl", "-o", tmp_path / "registers")
    said = run(tmp_path / "registers", libraries=libraries, driver=driver, group=group)
    assert said == (0, "all there\n", "")


def test_a_namespace_of_its_own_is_held_to_the_same_limit(
    programs: Path, group: str, libraries: dict[str, Path], tmp_path: Path
) -> None:
    compiled(HERE / "c/namespace.c", "-ldl", "-o", tmp_path / "namespace")
    said = run(
        tmp_path / "namespace", "libcuda.so.1",
        libraries=libraries, driver=programs / "libscripted.so", group=group,
    )  # fmt: skip
    assert said == (0, "held\n", "")
