"""The example study: its trace comes from its script, and all of it can be used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from gpumax.formats.scenario import POLICIES
from gpumax.study.load import load_scenario

FOLDER = Path(__file__).parents[2] / "examples" / "study"


def test_the_script_writes_the_trace() -> None:
    """Byte for byte, from its seed."""
    made = subprocess.run([sys.executable, FOLDER / "make_trace.py"], capture_output=True, check=True).stdout
    assert made == (FOLDER / "trace.csv").read_bytes()


def test_the_scenario_is_as_it_is_described() -> None:
    """About 1,500 workloads of four tenants over ten days, sizes from 1 to 32, on 64 GPUs, nothing left out."""
    found = load_scenario(FOLDER / "scenario.yaml", on_bad_row="stop")
    assert 1450 <= len(found.arrivals) <= 1550
    assert [queue.name for queue in found.queues] == ["research", "speech", "teaching", "vision"]
    assert {arrival.queue for arrival in found.arrivals} == {queue.name for queue in found.queues}
    assert {arrival.devices for arrival in found.arrivals} == {1, 2, 4, 8, 16, 32}
    assert sum(len(node.devices) for node in found.nodes) == 64
    assert sum(queue.quota.gpu for queue in found.queues) == 64_000
    assert 9 < found.arrivals[-1].submitted_ms / 86_400_000 < 10
    assert found.policies == POLICIES["replay"]
