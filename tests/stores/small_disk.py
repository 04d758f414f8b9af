"""Disks of a test's own, where it may mount one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(where: Path, kib: int) -> Iterator[Path]:
    """A file system of so many KiB in memory; skips the test where mounting is not allowed."""
    where.mkdir()
    options = f"size={kib}k,mode=0700"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", where], capture_output=True)
    if done.returncode:
        pytest.skip(f"can't mount here: {done.stderr.decode().strip()}")
    try:
        yield where
    finally:
        # Lazily: a process that is about to end, such as a supervisor after its report, may have a file open there still.
        subprocess.run(["umount", "--lazy", where], check=True)


def make_read_only(where: Path) -> None:
    """Nothing can be written there any more."""
    subprocess.run(["mount", "-o", "remount,ro", where], check=True)
