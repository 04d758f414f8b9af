"""Whichever way a program comes to its driver, it comes to the layer; and the layer harms nobody."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from gpumax.native import library
from interposer.conftest import INTERPOSER, cc
from interposer.under import HERE, Layer, layer, scripted

__all__ = ["layer", "scripted"]
LISTS = INTERPOSER / "names"


def words(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines() if line and not line.startswith("#")]


DRIVER = [row[0] for row in words(LISTS / "driver.txt")]
HOOKS = {row[0] for row in words(LISTS / "driver-hooks.txt")}
VERSIONS = words(LISTS / "procaddress.txt")


@pytest.mark.parametrize(("name", "listed"), [("cuda", "driver.txt"), ("ml", "nvml.txt")])
def test_every_function_of_the_real_library_is_there(name: str, listed: str) -> None:
    out = subprocess.run(
        ["readelf", "-W", "--dyn-syms", str(library("cuda" if name == "cuda" else "ml"))],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    exported = set(re.findall(r"(?:FUNC|OBJECT)\s+GLOBAL\s+DEFAULT\s+(?!UND)\w+\s+(\S+)", out))
    names = {row[0] for row in words(LISTS / listed)}
    assert names - exported == set()
    assert {each for each in exported - names if not each.startswith("gpumax_layer")} == {"dlopen", "dlmopen"}


@pytest.mark.parametrize(
    "name", ["libcuda.so.1", "libcuda.so", "/usr/lib/nowhere/libcuda.so.1", "/opt/x/libcuda.so.580.65.06"]
)
def test_by_whatever_name_it_is_loaded_the_limit_holds(name: str, layer: Layer) -> None:
    said = layer.run(
        f"c = Cuda({name!r}); say([c.try_alloc(65 * MIB)[0], c.try_alloc(64 * MIB)[0]])", GPUMAX_LIMIT="64Mi"
    )
    assert said == [2, 0]


def test_the_absolute_path_of_the_real_driver_leads_to_the_layer_too(layer: Layer, tmp_path: Path) -> None:
    (tmp_path / "libcuda.so.1").symlink_to(layer.driver)
    said = layer.run(
        f"say(Cuda({str(tmp_path / 'libcuda.so.1')!r}).try_alloc(65 * MIB)[0])", GPUMAX_LIMIT="64Mi"
    )
    assert said == 2


def test_other_libraries_are_loaded_as_ever(layer: Layer) -> None:
    assert layer.run("say(ctypes.CDLL('libm.so.6').abs(-3))") == 3


def test_cu_get_proc_address_gives_the_layers_functions(layer: Layer) -> None:
    """For each name, each version of it and each kind of stream: what dlsym gives for the symbol that it is."""
    asked = [
        (base, int(since), 2 if streams != "-" else 0, symbol)
        for base, since, streams, symbol in VERSIONS
        if symbol
        in {"cuMemAlloc_v2", "cuMemFree_v2", "cuLaunchKernel", "cuLaunchKernel_ptsz", "cuGraphLaunch"}
    ]
    said = layer.run(
        f"""
        c = Cuda()
        say([[s, c.address(b, v, f) == c.exported(s)] for b, v, f, s in {asked!r}])
        """,
        GPUMAX_LIMIT="1Gi",
    )
    assert [symbol for symbol, same in said if not same] == []
    assert len(said) == 5


def test_where_addresses_differ_the_table_of_versions_decides(layer: Layer) -> None:
    """A driver may give another address by cuGetProcAddress than by dlsym."""
    said = layer.run(
        """
        c = Cuda()
        say([c.address("cuMemAlloc") == c.exported("cuMemAlloc_v2"), c.address("cuMemFree", 15000)])
        """,
        GPUMAX_LIMIT="1Gi", SCRIPT_APART="1",
    )  # fmt: skip
    assert said == [True, None]


def test_an_older_program_gets_the_older_cu_get_proc_address(layer: Layer) -> None:
    said = layer.run(
        """
        c = Cuda()
        say([c.address("cuGetProcAddress", v) == c.exported(s)
             for v, s in ((11030, "cuGetProcAddress"), (12000, "cuGetProcAddress_v2"))])
        """,
        GPUMAX_LIMIT="1Gi",
    )  # fmt: skip
    assert said == [True, True]


def test_a_function_that_the_driver_lacks_is_not_found(layer: Layer) -> None:
    assert layer.run("say([Cuda().lib.cuGreenCtxGetId(None, None), Cuda().lib.cuMemAdvise_v2()])") == [
        500,
        500,
    ]


def test_without_a_driver_there_is_no_device(layer: Layer) -> None:
    said, errors = layer.talk(
        "lib = ctypes.CDLL('libcuda.so.1'); say([lib.cuInit(0), lib.cuInit(0), c_string(lib.cuGetErrorString, 100)])",
        GPUMAX_REAL_LIBCUDA="/nowhere/libcuda.so.1",
    )
    assert said == [100, 100, "no CUDA-capable device is detected"]
    assert errors.count("\n") == 1
    assert "GPUMAX_REAL_LIBCUDA" in errors


def test_the_layer_never_takes_itself_for_the_driver(layer: Layer, tmp_path: Path) -> None:
    copy = tmp_path / "libcuda.so.1"
    copy.write_bytes(library("cuda").read_bytes())
    for path in (library("cuda"), copy):
        said, _ = layer.talk("say(ctypes.CDLL('libcuda.so.1').cuInit(0))", GPUMAX_REAL_LIBCUDA=str(path))
        assert said == 100


def test_switched_off_it_is_as_if_it_were_not_there(layer: Layer) -> None:
    said = layer.run(
        "c = Cuda(); say([c.try_alloc(65 * MIB)[0], c.total(), c.address('cuMemAlloc') == c.exported('cuMemAlloc_v2')])",
        GPUMAX_LIMIT="64Mi", GPUMAX_DISABLE="1",
    )  # fmt: skip
    assert said == [0, 8 << 30, False]


def test_found_by_ld_library_path_it_stands_before_the_driver_too(layer: Layer, tmp_path: Path) -> None:
    (tmp_path / "libcuda.so.1").symlink_to(library("cuda"))
    said = layer.run(
        "say(Cuda().try_alloc(65 * MIB)[0])",
        LD_PRELOAD="", LD_LIBRARY_PATH=str(tmp_path), GPUMAX_LIMIT="64Mi",
    )  # fmt: skip
    assert said == 2


@pytest.mark.parametrize("command", ["true", "echo words | sed s/w/W/ | sort", "bash -c 'cat /dev/null'"])
def test_programs_that_never_touch_cuda_notice_nothing(command: str, layer: Layer) -> None:
    done = subprocess.run(
        ["bash", "-c", command], env=layer.environment({"GPUMAX_LIMIT": "1Gi"}), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.fixture(scope="session")
def linked(scripted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program in C that is linked with -lcuda."""
    folder = tmp_path_factory.mktemp("linked")
    (folder / "libcuda.so").symlink_to(scripted)
    done = cc(
        "-D_GNU_SOURCE", "-O1", "-pthread", HERE / "c/linked.c", f"-I{INTERPOSER / 'include'}",
        f"-L{folder}", "-lcuda", "-ldl", "-o", folder / "linked",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "linked"


@pytest.mark.parametrize("way", ["linked", "dlsym", "fork", "exec", "threads", "arguments", "gate", "swap"])
def test_a_program_in_c_comes_to_the_layer(way: str, linked: Path, layer: Layer) -> None:
    done = subprocess.run(
        [linked, way], env=layer.environment({"GPUMAX_LIMIT": "64Mi", "GPUMAX_SWAP": "1" if way == "swap" else ""}), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "held\n", "")
