"""The layer's thread for what takes long, compiled by itself with somebody else around it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from interposer.conftest import INTERPOSER, cc
from interposer.under import HERE


def test_a_turn_that_ends_while_the_program_seems_to_rest_is_not_kept_waiting(tmp_path: Path) -> None:
    """It looks for an hour here: what is to be drained is drained all the same, and the look comes to nothing."""
    made = subprocess.run(
        ["make", "-s", "-C", INTERPOSER, f"OUT={tmp_path}", tmp_path / "obj/generated/layer/slots.h"],
        env={**os.environ, "MAKEFLAGS": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    done = cc(
        "-std=c11", "-D_GNU_SOURCE", "-pthread", f"-I{INTERPOSER}", f"-I{INTERPOSER / 'include'}", f"-I{tmp_path / 'obj/generated/layer'}",
        HERE / "c/worker.c", "-o", tmp_path / "worker",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ran = subprocess.run([tmp_path / "worker"], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (0, "7 made way")
