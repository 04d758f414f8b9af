"""The layer, built with the compilers' own checks, under programs in C: no byte out of place, nothing undefined, no race."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpumax.native import library
from interposer.conftest import INTERPOSER, cc
from interposer.under import HERE, Layer, layer, scripted
from sharing.rig import eventually

__all__ = ["layer", "scripted"]
RUNTIMES = {"address,undefined": "libasan.so", "thread": "libtsan.so"}
WAYS = ["linked", "dlsym", "fork", "exec", "threads", "arguments", "gate", "swap"]


@pytest.fixture(scope="module", params=RUNTIMES)
def checked(
    request: pytest.FixtureRequest, scripted: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """The program, and what is to be preloaded: the checker first, then the layer."""
    kind: str = request.param
    folder = tmp_path_factory.mktemp("checked")
    runtime = cc(f"-print-file-name={RUNTIMES[kind]}").stdout.strip()
    if not Path(runtime).is_absolute():
        pytest.skip(f"this compiler has no {RUNTIMES[kind]}")
    (folder / "libcuda.so").symlink_to(scripted)
    made = subprocess.run(
        ["make", "-s", "-C", INTERPOSER, f"OUT={folder}", f"SANITIZE={kind}", folder / "libgpumax-cuda.so"],
        env={**os.environ, "MAKEFLAGS": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    for name, link in (("linked", "-lcuda"), ("storm", str(library("cuda")))):
        done = cc(
            f"-fsanitize={kind}", "-g", "-O1", "-pthread", "-D_GNU_SOURCE", HERE / f"c/{name}.c",
            f"-I{INTERPOSER / 'include'}", f"-L{folder}", link, "-ldl", "-o", folder / name,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return folder / "linked", f"{runtime} {folder / 'libgpumax-cuda.so'}"


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_checks_of_the_compiler_find_nothing(way: str, checked: tuple[Path, str], layer: Layer) -> None:
    program, preload = checked
    settings = {
        "LD_PRELOAD": preload, "GPUMAX_LIMIT": "64Mi", "GPUMAX_SWAP": "1" if way == "swap" else "",
        "ASAN_OPTIONS": "detect_leaks=0",  # what a program still has when it ends, these leave on purpose
    }  # fmt: skip
    done = subprocess.run(
        [program, way],
        env=layer.environment(settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "held\n", "")


@pytest.mark.slow
def test_checks_of_the_compiler_find_nothing_while_parts_of_memory_come_and_go(
    checked: tuple[Path, str], layer: Layer
) -> None:
    program, preload = checked
    settings = {"LD_PRELOAD": preload, "GPUMAX_SWAP": "1", "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(
        [program.with_name("storm"), "1", "40"],
        env=layer.environment(settings),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stdout[:6], done.stderr) == (0, "whole ", "")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Path]:
    """The socket of a group that has the scripted driver's first device."""
    group = {
        "memory": [64 << 20, 64 << 20],
        "share": 1000,
        "mode": "fair",
        "swap": False,
        "devices": ["10" * 16],
    }
    wish = {
        "heartbeat_ms": 200, "quantum_ms": 100, "devices": ["10" * 16], "bytes": 64 << 20, "faults": [],
        "groups": {"a": group},
    }  # fmt: skip
    serve = [sys.executable, str(HERE.parent / "sharing/serve.py"), str(tmp_path / "gpu"), json.dumps(wish)]
    environment = {**os.environ, "PYTHONPATH": str(INTERPOSER.parent / "src")}
    with subprocess.Popen(serve, env=environment, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            yield tmp_path / "gpu" / "a.sock"
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["fork", "exec", "threads", "gate"])
def test_they_find_nothing_where_a_broker_gives_turns(
    way: str, checked: tuple[Path, str], layer: Layer, broker: Path
) -> None:
    program, preload = checked
    settings = {
        "LD_PRELOAD": preload, "GPUMAX_LIMIT": "64Mi", "GPUMAX_SOCKET": str(broker),
        "ASAN_OPTIONS": "detect_leaks=0",
    }  # fmt: skip
    done = subprocess.run(
        [program, way],
        env=layer.environment(settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "held\n", "")
    # The broker notes what it has said only afterwards, so a program may be done before.
    record = broker.parent.with_suffix(".record")
    eventually(lambda: '"Grant"' in record.read_text())


@pytest.mark.parametrize("seed", [1, 2])
def test_a_cache_of_the_loader_that_is_broken_is_read_within_its_bounds(seed: int, tmp_path: Path) -> None:
    done = cc(
        "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g", "-O1", "-D_GNU_SOURCE",
        f"-I{INTERPOSER}", HERE / "c/cache.c", INTERPOSER / "share/search.c", "-o", tmp_path / "cache",
    )  # fmt: skip
    if done.returncode and "asan" in done.stderr:
        pytest.skip("this compiler has no libasan")
    assert done.returncode == 0, done.stderr
    ran = subprocess.run(
        [tmp_path / "cache", str(seed)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "read\n", "")
