"""A process that uses a shared GPU without its part is told of everywhere on the server: in list, board, events, metrics, doctor."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from interposer.emulated import BARE
from system.harness import eventually
from system.test_gpu_parts import Parts, escapes, parts

__all__ = ["parts"]


@pytest.fixture
def bare(parts: Parts) -> Iterator[subprocess.Popen[str]]:
    """Beside a task with half of the GPU, one of whose environment only the driver is left."""
    parts.submit("held")
    parts.said("held")
    folder = parts.machine.data / "emulated"
    [config] = folder.glob("devices-*.json")
    process = subprocess.Popen(
        ["env", "-i", f"GPUMAX_EMU={config}", f"LD_LIBRARY_PATH={folder}", sys.executable, "-c", BARE],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    yield process
    process.kill()
    process.communicate()


def test_it_is_told_of_until_it_ends(parts: Parts, bare: subprocess.Popen[str]) -> None:
    def listed() -> list[int]:
        [item] = json.loads(parts.machine.must("gpu", "list", "-o", "json"))["items"]
        return [each["pid"] for each in item["shared"]["unfenced"]]

    eventually(lambda: listed() == [bare.pid], "it is listed")
    line = f"UNFENCED: process {bare.pid} (python"
    assert line in parts.machine.must("gpu", "list")
    assert line in parts.machine.must("board")
    eventually(
        lambda: f"process {bare.pid} is unfenced" in parts.machine.must("events", "--limit", "100"), "an event tells"
    )  # fmt: skip
    assert f"unfenced: process {bare.pid}, which no part holds" in parts.machine.must("doctor")
    [item] = json.loads(parts.machine.must("gpu", "list", "-o", "json"))["items"]
    [resident] = item["shared"]["residents"]
    assert (resident["workload"], resident["resident"] >= 400 << 20) == ("held", True)
    bare.kill()
    eventually(lambda: listed() == [], "it's gone")
    assert "UNFENCED" not in parts.machine.must("board")


def test_whose_it_is_is_told_where_a_task_began_it(parts: Parts) -> None:
    """A script of a workload clears the environment: list, board, events and doctor name the workload."""
    escapes(parts, "escapes")

    def unfenced() -> list[tuple[int, str]]:
        [item] = json.loads(parts.machine.must("gpu", "list", "-o", "json"))["items"]
        return (
            [(each["pid"], each["workload"]) for each in item["shared"]["unfenced"]] if item["shared"] else []
        )

    eventually(lambda: [name for _, name in unfenced()] == ["escapes"], "it's listed as the workload's")
    [(pid, _)] = unfenced()
    for command in (("gpu", "list"), ("board",)):
        [line] = [each for each in parts.machine.must(*command).splitlines() if "UNFENCED" in each]
        assert f"UNFENCED: process {pid} (python" in line
        assert ") of escapes uses " in line
    eventually(
        lambda: any(
            f"process {pid} is unfenced" in each["message"] for each in parts.machine.events("escapes")
        ),
        "an event of the workload tells",
    )
    assert f"unfenced: process {pid} of escapes, which no part holds" in parts.machine.must("doctor")
