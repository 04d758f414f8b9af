"""`gpumax gpu run`: a program gets a part of the memory of a GPU, and who can't be held to it is not started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpumax.native import library

PROGRAM = """
import ctypes
lib = ctypes.CDLL("libcuda.so.1")
context, pointer, total = ctypes.c_void_p(), ctypes.c_uint64(), ctypes.c_size_t()
lib.cuInit(0); lib.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0); lib.cuCtxSetCurrent(context)
lib.cuDeviceTotalMem_v2(ctypes.byref(total), 0)
print(total.value >> 20, lib.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(101 << 20)),
      lib.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(100 << 20)), flush=True)
"""


def gpu_run(*words: str) -> subprocess.CompletedProcess[str]:
    emulated = {
        "GPUMAX_REAL_LIBCUDA": str(library("emu")),
        "GPUMAX_EMU": '{"devices": [{"memory": "1Gi", "context": "64Mi"}]}',
    }
    return subprocess.run(
        [sys.executable, "-c", "import sys; from gpumax.apps.cli.main import main; sys.exit(main())", "gpu", "run", *words],
        env=os.environ | emulated, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_program_and_its_children_get_no_more(tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text(f"#!/bin/sh\n\"{sys.executable}\" -c '{PROGRAM}'\nexit 7\n")
    script.chmod(0o755)
    done = gpu_run("--gpu-memory", "100Mi", "--", str(script))
    assert (done.stdout, done.stderr, done.returncode) == ("100 2 0\n", "", 7)


@pytest.mark.parametrize("amount", ["much", "0", "-1Gi", "0.1", "10Q"])
def test_an_amount_that_is_none_is_refused(amount: str) -> None:
    done = gpu_run(f"--gpu-memory={amount}", "--", "true")
    assert done.returncode != 0
    assert (
        f"gpumax: --gpu-memory: found {amount}; wanted an amount of memory above zero, as 10Gi" in done.stderr
    )


def test_a_program_that_isnt_there_is_told() -> None:
    done = gpu_run("--gpu-memory", "1Gi", "no-such-program")
    assert done.stderr == "gpumax: no-such-program: no such program in PATH\n"


def test_a_static_program_is_not_started(tmp_path: Path) -> None:
    """Nothing can be preloaded into it, so the limit would hold nobody."""
    source, program = tmp_path / "x.c", tmp_path / "x"
    source.write_text('#include <stdio.h>\nint main(void) { puts("ran"); return 0; }\n')
    made = subprocess.run(
        ["cc", "-static", source, "-o", program], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip("this machine has no static C library")
    script = tmp_path / "x.sh"
    script.write_text(f"#!{program}\n")
    script.chmod(0o755)
    for each in (program, script):
        done = gpu_run("--gpu-memory", "1Gi", "--", str(each))
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith(f"gpumax: {program} is linked statically, so nothing can be preloaded")


def test_a_program_for_musl_is_not_started(tmp_path: Path) -> None:
    """Its loader reads no library of another C library. The loader's name in the program says which it is."""
    program = tmp_path / "musl"
    whole = Path("/bin/true").resolve().read_bytes()
    loader = next(
        each for each in (b"/lib64/ld-linux-x86-64.so.2", b"/lib/ld-linux-aarch64.so.1") if each in whole
    )
    program.write_bytes(whole.replace(loader, b"/lib/ld-musl.so.1".ljust(len(loader), b"\0"), 1))
    program.chmod(0o755)
    done = gpu_run("--gpu-memory", "1Gi", "--", str(program))
    assert done.returncode == 2
    assert "is for another C library (musl)" in done.stderr


@pytest.mark.parametrize("words", [("-i",), ("-",), ("--ignore-environment",), ("-iu", "HOME")])
def test_a_command_that_clears_its_environment_is_not_started(words: tuple[str, ...]) -> None:
    """The layer would be gone with it."""
    done = gpu_run("--gpu-memory", "1Gi", "--", "env", *words, "true")
    assert done.returncode == 2
    assert "begins with an empty environment (env -i), so nothing can be preloaded" in done.stderr


def test_env_that_keeps_the_environment_is_started() -> None:
    assert gpu_run("--gpu-memory", "100Mi", "--", "env", "A=-i", "true", "-i").returncode == 0


@pytest.mark.parametrize("size", [1, 4, 40, 63, 64, 100, 500])
def test_a_program_that_was_cut_off_is_no_traceback(size: int, tmp_path: Path) -> None:
    program = tmp_path / "cut"
    program.write_bytes(Path(sys.executable).resolve().read_bytes()[:size])
    program.chmod(0o755)
    done = gpu_run("--gpu-memory", "1Gi", "--", str(program))
    assert done.returncode != 0
    assert done.stderr.startswith("gpumax: ")
    assert "Traceback" not in done.stderr


def test_a_path_that_is_no_program_is_told_with_the_reason(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.touch(mode=0o644)
    said = [gpu_run("--gpu-memory", "100Mi", "--", str(each)) for each in (tmp_path, text, tmp_path / "none")]
    assert [each.returncode for each in said] == [said[0].returncode] * 3
    assert [each.stderr for each in said] == [
        f"gpumax: {tmp_path}: a directory; wanted a program\n",
        f"gpumax: {text}: not executable; wanted a program\n",
        f"gpumax: {tmp_path}/none: no such file; wanted a program\n",
    ]
