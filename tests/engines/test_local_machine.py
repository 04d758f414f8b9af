"""How much of this machine the local engine says may be allocated, and that starting costs little."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from engine_kit import Machine
from gpumax.engines.local import cgroups
from gpumax.engines.local import machine as this_machine
from gpumax.engines.local.spawn import SOURCE

SLOW = {
    "typing",
    "re",
    "json",
    "signal",
    "subprocess",
    "enum",
    "threading",
    "pathlib",
    "site",
    "logging",
    "dataclasses",
}


def limit(monkeypatch: pytest.MonkeyPatch, home: Path, **files: str) -> None:
    """Put us into a cgroup that says this."""
    home.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (home / name.replace("_", ".")).write_text(f"{text}\n")
    monkeypatch.setattr(cgroups, "home", lambda: str(home))
    monkeypatch.setattr(this_machine, "V1", home / "none")


def test_node(machine: Machine) -> None:
    """One node of the name that it was given, with this machine's cores, memory and devices."""
    (node,) = machine.engine.observe().nodes
    assert node.name == "n1"
    assert node.labels == {"kubernetes.io/hostname": "n1"}
    assert 0 < node.cpu_milli <= len(os.sched_getaffinity(0)) * 1000
    assert 0 < node.memory_mib <= psutil.virtual_memory().total >> 20
    assert [(device.index, device.model) for device in node.devices] == [
        (index, "H100") for index in range(8)
    ]


def test_limits_of_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tightest limit of all cgroups that we are in counts."""
    limit(monkeypatch, tmp_path, cpu_max="50000 100000", memory_max=str(512 << 20))
    limit(monkeypatch, tmp_path / "below", cpu_max="max 100000", memory_max=str(256 << 20))
    assert this_machine.cpu_milli() == 500
    assert this_machine.memory_mib() == 256


def test_no_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without limits all of the machine counts."""
    limit(monkeypatch, tmp_path, cpu_max="max 100000", memory_max="max")
    assert this_machine.cpu_milli() == len(os.sched_getaffinity(0)) * 1000
    assert this_machine.memory_mib() == psutil.virtual_memory().total >> 20


@pytest.mark.parametrize(
    ("mounts", "own", "home"),
    [
        ("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", "0::/user.slice/s-1.scope\n", "/sys/fs/cgroup/user.slice/s-1.scope"),
        (
            "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n",
            "4:memory:/jobs/1\n1:cpu:/\n0::/\n",
            "/sys/fs/cgroup/unified",
        ),
        ("cgroup2 /mnt/a\\040b cgroup2 rw 0 0\n", "0::/x\n", "/mnt/a b/x"),
    ],
)  # fmt: skip
def test_where_cgroups_are(tmp_path: Path, mounts: str, own: str, home: str) -> None:
    """Version 2 is found where it is mounted, also beside version 1."""
    (tmp_path / "mounts").write_text(mounts)
    (tmp_path / "own").write_text(own)
    assert cgroups.home(str(tmp_path / "mounts"), str(tmp_path / "own")) == home


def test_no_cgroup_version_2(tmp_path: Path) -> None:
    """Where there is only version 1, that is said."""
    (tmp_path / "mounts").write_text("cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n")
    (tmp_path / "own").write_text("1:cpu:/\n")
    with pytest.raises(FileNotFoundError, match="version 2 is not mounted"):
        cgroups.home(str(tmp_path / "mounts"), str(tmp_path / "own"))


def test_what_a_supervisor_imports() -> None:
    """On the way to a task's first instruction stands nothing but a few small modules of the standard library."""
    code = "import sys; sys.path.append(sys.argv[1]); import gpumax.engines.local.supervisor; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, SOURCE], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "gpumax.engines.local.supervisor" in loaded
    assert loaded & SLOW == set()
    ours = {"kernel", "files", "tree", "cgroups", "program", "tasklog", "supervisor"}
    assert {name for name in loaded if name.count(".") == 3} == {
        f"gpumax.engines.local.{name}" for name in ours
    }
