"""Programs for another C library. Nothing of CUDA is there for them, but whoever starts them may be under the layer: it has to be in nobody's way."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from gpumax.native import library

PROGRAM = r"""
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static void *opens(void *name)
{
	return dlopen(name, RTLD_NOW);
}

int main(int count, char **words)
{
	void *found = NULL;
	pthread_t thread;
	int status;

	pthread_create(&thread, NULL, opens, count > 1 ? words[1] : NULL);
	pthread_join(thread, &found);
	if (!fork())
		_exit(!dlopen("libc.so", RTLD_NOW));
	wait(&status);
	printf("%s %d\n", found ? "found" : "missing", status);
	return 0;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("musl-gcc") is None:
        pytest.skip("this machine has no musl-gcc")
    if platform.machine() != "x86_64":
        pytest.skip("elsewhere than on x86-64 the layer needs glibc's loader")
    folder = tmp_path_factory.mktemp("musl")
    (folder / "program.c").write_text(PROGRAM)
    subprocess.run(["musl-gcc", folder / "program.c", "-o", folder / "program"], check=True)
    return folder / "program"


def under(program: Path, *words: str, **more: str) -> tuple[int, str, str]:
    settings = {"LD_PRELOAD": f"{library('cuda')} {library('ml')}", "GPUMAX_LIMIT": "64Mi"} | more
    done = subprocess.run(
        [program, *words], env=settings, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_a_program_for_musl_runs_as_if_there_were_no_layer(program: Path) -> None:
    assert under(program) == (0, "found 0\n", "")


@pytest.mark.parametrize("name", ["libcuda.so.1", "libnvidia-ml.so.1", "libmissing.so"])
def test_there_is_no_driver_for_it(name: str, program: Path) -> None:
    assert under(program, name) == (0, "missing 0\n", "")


def test_whoever_starts_one_is_under_the_layer(program: Path) -> None:
    """A shell for glibc that has its part starts a program for musl; neither ends the other."""
    code, out, errors = under(Path("/bin/sh"), "-c", f"{program}; echo $?")
    assert (code, out, errors) == (0, "found 0\n0\n", "")
