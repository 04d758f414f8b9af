"""The agent as a process, where nothing is as it should be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

AGENT = [sys.executable, "-m", "gpumax.apps.cli.main", "agent", "--node-name", "n1"]


def started(folder: str, *more: str) -> subprocess.Popen[str]:
    """An agent whose cluster isn't there."""
    folders = ["--kubelet-dir", folder, "--cdi-dir", str(Path(folder) / "cdi")]
    env = {**os.environ, "KUBECONFIG": str(Path(folder) / "nowhere")}
    return subprocess.Popen([*AGENT, *folders, *more], env=env, stderr=subprocess.PIPE, text=True)


def test_a_node_without_devices_is_waited_for_and_left_alone() -> None:
    """Its driver may come later: until then nothing is registered. It ends when it is told to."""
    with TemporaryDirectory(prefix="gpumax-") as folder, started(folder, "--devices", "none") as agent:
        assert agent.stderr is not None
        assert "node n1: without devices" in agent.stderr.readline()
        assert list(Path(folder).iterdir()) == []
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(30) == 0


def test_what_is_wrong_with_its_options_is_told_in_a_line() -> None:
    """And what would be right."""
    with TemporaryDirectory(prefix="gpumax-") as folder, started(folder, "--devices", "8 H100") as agent:
        _, said = agent.communicate(timeout=30)
    assert agent.returncode == 2
    assert said.startswith("gpumax: devices: found `8 H100`; wanted COUNTxMODEL:MEMORY, like 8xH100:80Gi")
    assert "Traceback" not in said
