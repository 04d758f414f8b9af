"""A program is neither ended nor held up by what the layer says, or by the page that its part is counted in."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import Any

import pytest

from interposer.under import Layer, ended, heard, layer, scripted

__all__ = ["layer", "scripted"]

SIGNALS = """
import os, resource, signal
for each in (signal.SIGPIPE, signal.SIGXFSZ): signal.signal(each, signal.SIG_DFL)
"""
"""Python ignores them; other programs are ended by them."""


def test_a_program_whose_stderr_nobody_has_open_lives(layer: Layer) -> None:
    got = layer.run(
        SIGNALS + "read, write = os.pipe(); os.dup2(write, 2); os.close(read); os.close(write)\n"
        "c = Cuda(); c.alloc(100); say([c.total() >> 30, list(map(int, signal.sigpending()))])",
        GPUMAX_LIMIT="nonsense",
    )
    assert got == [8, []]


def test_a_program_whose_stderr_nobody_reads_goes_on(layer: Layer) -> None:
    got = layer.run(
        SIGNALS + "read, write = os.pipe(); os.dup2(write, 2); os.set_blocking(write, False)\n"
        "try:\n    while True: os.write(write, bytes(4096))\n"
        "except BlockingIOError: os.set_blocking(write, True)\n"
        "c = Cuda(); c.alloc(100); say(c.total() >> 30)",
        GPUMAX_LIMIT="nonsense",
    )
    assert got == 8


def test_a_program_whose_stderr_may_not_grow_lives(layer: Layer) -> None:
    got = layer.run(
        SIGNALS + "import tempfile\n"
        "file = tempfile.TemporaryFile(); os.dup2(file.fileno(), 2)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))\n"
        "c = Cuda(); c.alloc(100); say(c.total() >> 30)",
        GPUMAX_LIMIT="nonsense",
    )
    assert got == 8


def test_a_program_that_may_not_write_files_keeps_its_limit_by_itself(layer: Layer) -> None:
    got, errors = layer.talk(
        SIGNALS + "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))\n"
        "c = Cuda(); c.alloc(40 * MIB); say(c.try_alloc(40 * MIB)[0])",
        GPUMAX_LIMIT="64Mi",
    )
    assert got == 2
    assert errors.count("\n") == 1
    assert "the limit holds for each of them by itself" in errors


OWN_SHM = [
    "unshare",
    "--map-root-user",
    "--mount",
    "sh",
    "-c",
    'mount -t tmpfs -o size="$0" none /dev/shm && exec "$@"',
]


def in_shm(layer: Layer, size: str, program: str, **settings: str) -> Any:
    """A program in whose /dev/shm there is room for so much."""
    if (
        not shutil.which("unshare")
        or subprocess.run([*OWN_SHM, "4k", "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("this machine lets nobody have a /dev/shm of its own")
    head = "import json\nfrom client import *\n"
    environment = layer.environment(settings)
    done = subprocess.run(
        [*OWN_SHM, size, "env", f"LD_PRELOAD={environment.pop('LD_PRELOAD')}", sys.executable, "-c", head + program],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout.strip(), done.stderr


def test_where_shared_memory_is_full_each_program_keeps_its_limit_by_itself(layer: Layer) -> None:
    """Others fill it, data loaders for one; a page that isn't there would end whoever writes to it."""
    got, errors = in_shm(
        layer, "4k", "c = Cuda(); c.alloc(40 * MIB); print(c.try_alloc(40 * MIB)[0])", GPUMAX_LIMIT="64Mi"
    )
    assert got == "2"
    assert "the limit holds for each of them by itself" in errors


OWN_NUMBERS = ["unshare", "--map-current-user", "--pid", "--fork", "--mount-proc", "--kill-child"]


def elsewhere(layer: Layer) -> subprocess.Popen[str]:
    """A process that holds 40 MiB of 64 where processes have numbers of their own, until it hears a line."""
    if (
        not shutil.which("unshare")
        or subprocess.run([*OWN_NUMBERS, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("this machine lets nobody have process numbers of its own")
    environment = layer.environment({"GPUMAX_LIMIT": "64Mi"})
    program = "import sys\nfrom client import *\nc = Cuda(); c.alloc(40 * MIB); print(1, flush=True); sys.stdin.readline()"
    process = subprocess.Popen(
        [*OWN_NUMBERS, "env", f"LD_PRELOAD={environment.pop('LD_PRELOAD')}", sys.executable, "-c", program],
        env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    layer.started.append(process)
    assert heard(process) == 1
    return process


def test_what_a_process_holds_counts_also_for_those_that_do_not_see_it(layer: Layer) -> None:
    """Containers of a pod may share memory, and number their processes each by itself: who isn't found may be there all the same."""
    other = elsewhere(layer)
    got = layer.run(
        "c = Cuda(); say([c.try_alloc(40 * MIB)[0], c.try_alloc(20 * MIB)[0]])", GPUMAX_LIMIT="64Mi"
    )
    ended(other)
    assert got == [2, 0]


def test_what_a_process_held_that_others_do_not_see_is_free_when_it_was_killed(layer: Layer) -> None:
    """As by a container that is started again: its processes are of other numbers than those before."""
    other = elsewhere(layer)
    other.kill()
    other.wait()
    got = layer.run("c = Cuda()\nwhile c.try_alloc(64 * MIB)[0]: pass\nsay(c.info()[0])", GPUMAX_LIMIT="64Mi")
    assert got == 0
