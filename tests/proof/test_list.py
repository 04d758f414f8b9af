"""`gpumax gpu list` without a server: what the driver and this user's own broker say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from proof.machine import environment, gpumax


@pytest.fixture
def machine(tmp_path: Path, runtime: Path) -> dict[str, str]:
    """One emulated device, and a place of its own for a broker."""
    found = environment(tmp_path / "lib", XDG_RUNTIME_DIR=str(runtime))
    return found | {"PATH": f"{Path(sys.executable).parent}:{found['PATH']}"}


def test_devices_are_listed_where_nobody_shares_them(machine: dict[str, str]) -> None:
    done = gpumax(machine, "gpu", "list", "-o", "json")
    assert done.returncode == 0, done.stderr
    [item] = json.loads(done.stdout)["items"]
    assert (item["index"], item["memory"], item["healthy"], item["shared"]) == (0, "1Gi", True, None)
    assert "1Gi" in gpumax(machine, "gpu", "list").stdout


def test_without_a_gpu_it_says_so(machine: dict[str, str]) -> None:
    done = gpumax(machine | {"LD_LIBRARY_PATH": "/nowhere"}, "gpu", "list")
    assert done.returncode == 0
    assert done.stderr.startswith("no GPU: NVIDIA's driver isn't there")


def test_who_has_a_part_is_listed_with_it(machine: dict[str, str]) -> None:
    """From within a part, so that there is somebody who has one; the program holds memory while it asks."""
    program = (
        "import subprocess, sys; from gpumax.proof.cuda import Cuda; Cuda().plain(100 << 20); "
        "sys.exit(subprocess.run(['gpumax', 'gpu', 'list', *sys.argv[1:]]).returncode)"
    )
    run = ("gpu", "run", "--gpu", "0.5", "--group", "mine", "--", sys.executable, "-c", program)
    done = gpumax(machine, *run, "-o", "json")
    assert done.returncode == 0, done.stderr
    [item] = json.loads(done.stdout)["items"]
    [resident] = item["shared"]["residents"]
    assert (resident["group"], resident["share"], resident["mode"]) == ("mine", 0.5, "fair")
    assert resident["resident"] >= 100 << 20
    assert item["shared"]["unfenced"] == []
    drawn = gpumax(machine, *run).stdout
    assert "[aaa" in drawn
    assert "a mine" in drawn
