"""What `make wheels` builds: it installs where there is no compiler, and its libraries are what they are when they are built here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

from interposer.conftest import INTERPOSER, ROOT, SMALL
from interposer.test_layer_loading import linked
from interposer.test_layer_musl import program, under
from interposer.under import HERE, Layer, layer, scripted
from wheels.conftest import MACHINES

__all__ = ["layer", "linked", "program", "scripted"]
NAMES = ("cuda", "ml", "emu", "emu-ml")
SONAMES = {
    "cuda": "libcuda.so.1",
    "ml": "libnvidia-ml.so.1",
    "emu": "libcuda.so.1",
    "emu-ml": "libnvidia-ml.so.1",
}
LISTS = {"cuda": "driver.txt", "ml": "nvml.txt", "emu": "driver.txt", "emu-ml": "nvml.txt"}


def elf(path: Path, what: str) -> str:
    return subprocess.run(
        ["readelf", "-W", what, str(path)], check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", NAMES)
def test_a_library_in_a_wheel_is_hardened_and_exports_what_it_stands_for(
    name: str, machine: str, libraries: dict[str, Path]
) -> None:
    path = libraries[machine] / f"libgpumax-{name}.so"
    dynamic, headers = elf(path, "-d"), elf(path, "-l")
    assert f"soname: [{SONAMES[name]}]" in dynamic
    assert "NOW" in dynamic
    assert "TEXTREL" not in dynamic
    assert "GNU_RELRO" in headers
    assert re.search(r"GNU_STACK.* RW ", headers)
    exported = set(re.findall(r"(?:GLOBAL|WEAK)\s+DEFAULT\s+(?!UND)\w+\s+(\S+)", elf(path, "--dyn-syms")))
    listed = {line.split()[0] for line in (INTERPOSER / "names" / LISTS[name]).read_text().splitlines()}
    assert listed - exported == set()
    assert {each for each in exported - listed if not each.startswith("gpumax_")} <= {"dlopen", "dlmopen"}


@pytest.mark.parametrize("name", ["cuda", "ml"])
def test_a_layer_in_a_wheel_needs_no_name_that_musl_has_not(name: str, libraries: dict[str, Path]) -> None:
    """On x86-64; elsewhere the compiler's check of the stack asks for glibc's loader."""
    path = libraries["x86_64"] / f"libgpumax-{name}.so"
    assert "ld-linux" not in elf(path, "-d")
    assert re.findall(r"UND (__\w+_chk)\b", elf(path, "--dyn-syms")) == []


def test_a_program_for_musl_runs_under_a_wheels_layer(program: Path, libraries: dict[str, Path]) -> None:
    libs = libraries["x86_64"]
    preload = f"{libs / 'libgpumax-cuda.so'} {libs / 'libgpumax-ml.so'}"
    assert under(program, LD_PRELOAD=preload) == (0, "found 0\n", "")


@pytest.mark.parametrize("machine", MACHINES)
def test_a_wheel_tells_nothing_of_where_it_was_built(machine: str, libraries: dict[str, Path]) -> None:
    for path in libraries[machine].glob("*.so"):
        for place in (str(ROOT), "gpumax-wheels-", str(Path.home()) + "/"):
            assert place.encode() not in path.read_bytes(), f"{path.name} holds {place}"


@pytest.fixture(scope="session")
def fresh(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment into which the wheel was installed, with what it depends on and no compiler in reach."""
    machine = os.uname().machine
    if machine not in wheels:
        pytest.skip(f"there is no wheel for {machine}")
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=True)
    done = subprocess.run(
        [folder / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps",
         "--no-index", wheels[machine]],
        env=os.environ | {"CC": "false"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    place = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    (Path(place) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def environment(fresh: Path, folder: Path) -> dict[str, str]:
    """An emulated machine whose driver is the wheel's."""
    driver = subprocess.run(
        [fresh / "python", "-c", "from gpumax.native import library; print(library('emu'))"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    assert Path(driver).is_relative_to(fresh.parent), "that is another gpumax"
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GPUMAX_", "LD_"))}
    config = {"clock": "virtual", "shared": str(folder / "machine"), "devices": [SMALL]}
    return kept | {
        "GPUMAX_EMU": json.dumps(config),
        "GPUMAX_REAL_LIBCUDA": driver,
        "GPUMAX_REAL_LIBNVIDIA_ML": driver.replace("-emu", "-emu-ml"),
        "PYTHONPATH": str(HERE),
    }


def test_installed_anew_it_holds_a_program_to_its_limit(fresh: Path, tmp_path: Path) -> None:
    program = "from client import *; c = Cuda(); print(c.try_alloc(65 * MIB)[0], c.try_alloc(32 * MIB)[0], c.total() // MIB)"
    done = subprocess.run(
        [fresh / "gpumax", "gpu", "run", "--gpu-memory", "64Mi", "--", fresh / "python", "-c", program],
        env=environment(fresh, tmp_path), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "2 0 64\n", "")


def test_its_emulated_driver_runs_a_kernel(fresh: Path, tmp_path: Path) -> None:
    """The example of docs/how-to/emulated-devices.md, in short: real client libraries on the wheel's driver."""
    program = """
from interposer.emulated import PRELUDE
exec(PRELUDE)
current()
x = upload(np.arange(1000, dtype=np.float32)); y = upload(np.ones(1000, dtype=np.float32))
ok(launch(load(), "axpy", y, x, ctypes.c_float(2), 1000)); ok(d.cuCtxSynchronize())
print(float(download(y, np.empty(1000, dtype=np.float32)).sum()))
"""
    said = environment(fresh, tmp_path)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/libcuda.so.1").symlink_to(said["GPUMAX_REAL_LIBCUDA"])
    more = {"LD_LIBRARY_PATH": str(tmp_path / "lib"), "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(
        [fresh / "python", "-c", program], env=said | more, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "1000000.0\n"), done.stderr


@pytest.mark.parametrize("way", ["linked", "dlsym", "fork", "exec", "threads", "arguments", "gate", "swap"])
def test_a_program_in_c_comes_to_the_wheels_layer(
    way: str, linked: Path, layer: Layer, libraries: dict[str, Path]
) -> None:
    machine = os.uname().machine
    if machine not in libraries:
        pytest.skip(f"there is no wheel for {machine}")
    preload = f"{libraries[machine] / 'libgpumax-cuda.so'}:{libraries[machine] / 'libgpumax-ml.so'}"
    settings = {"LD_PRELOAD": preload, "GPUMAX_LIMIT": "64Mi", "GPUMAX_SWAP": "1" if way == "swap" else ""}
    done = subprocess.run(
        [linked, way],
        env=layer.environment(settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "held\n", "")
