"""However a program calls, and however it starts others: what it sends arrives, and the limit holds for all of them together."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from interposer.conftest import INTERPOSER, cc
from interposer.under import HERE, Layer, layer, scripted

__all__ = ["layer", "scripted"]


def built(source: str, folder: Path, *more: str | Path) -> Path:
    """A program of tests/interposer/c."""
    program = folder / Path(source).stem
    done = cc(
        "-D_GNU_SOURCE", "-O1", f"-I{INTERPOSER / 'include'}", HERE / "c" / source, "-o", program, *more
    )
    assert done.returncode == 0, done.stderr
    return program


def say(program: Path, *words: str, under: dict[str, str]) -> tuple[int, str, str]:
    done = subprocess.run(
        [program, *words], env=under, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout.strip(), done.stderr


@pytest.fixture(scope="module")
def children(scripted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("children")
    (folder / "libcuda.so").symlink_to(scripted)
    return built("children.c", folder, f"-L{folder}", "-lcuda")


@pytest.mark.parametrize("way", ["fork", "fork_exec", "vfork", "spawn", "clone", "system"])
def test_a_program_and_one_that_it_starts_share_the_limit(way: str, children: Path, layer: Layer) -> None:
    assert say(children, way, under=layer.environment({"GPUMAX_LIMIT": "64Mi"})) == (0, "held", "")


@pytest.mark.parametrize("name", ["libcuda.so.1", "/opt/nowhere/libcuda.so.580.65.06"])
def test_a_namespace_of_its_own_is_held_to_the_same_limit(name: str, layer: Layer, tmp_path: Path) -> None:
    program = built("namespace.c", tmp_path, "-ldl")
    assert say(program, name, under=layer.environment({"GPUMAX_LIMIT": "64Mi"})) == (0, "held", "")


def test_other_libraries_come_into_namespaces_as_ever(layer: Layer) -> None:
    program = """
        lib = ctypes.CDLL(None)
        lib.dlmopen.restype = ctypes.c_void_p
        say(lib.dlmopen(ctypes.c_long(-1), b"libm.so.6", 2) is not None)
    """
    assert layer.run(program, GPUMAX_LIMIT="64Mi") is True


def test_arguments_arrive_in_every_register_and_on_the_stack(layer: Layer, tmp_path: Path) -> None:
    """At the first call of a function, which finds it, and later; there vectors of 32 bytes, too, where the processor has them."""
    driver = tmp_path / "libregisters.so"
    done = cc(
        "-shared", "-fPIC", "-O1", "-Wl,-soname,libcuda.so.1", HERE / "c/registers_driver.c", "-o", driver
    )
    assert done.returncode == 0, done.stderr
    (tmp_path / "libcuda.so").symlink_to(driver)
    program = built("registers.c", tmp_path, f"-L{tmp_path}", "-lcuda", "-ldl")
    under = layer.environment({"GPUMAX_LIMIT": "64Mi", "GPUMAX_REAL_LIBCUDA": str(driver)})
    assert say(program, under=under) == (0, "all there", "")


def test_a_stream_whose_capture_goes_to_graphics_holds_nobody_up(layer: Layer) -> None:
    said = layer.run(
        """
        c = Cuda()
        c.check(c.lib.cuStreamBeginCaptureToCig(None, None))
        got = [c.lib.gpumax_layer_hold(1, 20), c.launch()]
        c.check(c.lib.cuStreamEndCaptureToCig(None))
        say(got + [c.lib.gpumax_layer_hold(1, 5000)])
        """,
        GPUMAX_LIMIT="64Mi",
    )
    assert said == [600, 0, 0]


@pytest.mark.parametrize("version", ["99000", "10010"])
def test_under_a_driver_of_a_version_that_nobody_knows_the_limit_holds(version: str, layer: Layer) -> None:
    said = layer.run(
        """
        c = Cuda()
        version = c_int()
        c.check(c.lib.cuDriverGetVersion(byref(version)))
        say([version.value, c.try_alloc(65 * MIB)[0], c.try_alloc(64 * MIB)[0]])
        """,
        GPUMAX_LIMIT="64Mi", SCRIPT_VERSION=version,
    )  # fmt: skip
    assert said == [int(version), 2, 0]
