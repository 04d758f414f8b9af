"""Small scenarios for tests: nodes, queues and arrivals in a few words; times in minutes."""

from __future__ import annotations

from typing import Any

from gpumax.model.amounts import Amounts
from gpumax.model.node import Device, Node
from gpumax.model.queue import Queue
from gpumax.model.study import Run, Saving, Scenario
from gpumax.model.trace import Arrival
from gpumax.study.replay import replay
from gpumax.units import MILLI, UNLIMITED

MINUTE_MS = 60_000
BEGIN_MS = 1_500_000_000_000


def nodes(number: int, gpus: int = 8) -> tuple[Node, ...]:
    """Nodes that are alike."""
    devices = tuple(Device(index, "P100", 16_384) for index in range(gpus))
    return tuple(
        Node(f"n{row}", cpu_milli=96_000, memory_mib=1 << 20, devices=devices) for row in range(number)
    )


def queue(name: str, quota: int, **fields: Any) -> Queue:
    """A queue measured in GPUs."""
    weight = Amounts((quota or 1) * MILLI, 1000, 1000)
    return Queue(name, quota=Amounts(quota * MILLI, UNLIMITED, UNLIMITED), weight=weight, **fields)


def work(name: str, at: float, minutes: float, gpus: int = 1, queue: str = "a", **fields: Any) -> Arrival:
    """A workload that comes `at` minutes after the beginning and runs for so many."""
    return Arrival(
        name, BEGIN_MS + round(at * MINUTE_MS), round(minutes * MINUTE_MS), gpus, queue=queue, **fields
    )


def scenario(*arrivals: Arrival, nodes: tuple[Node, ...] = nodes(2), **fields: Any) -> Scenario:
    """Two nodes of eight GPUs and two queues of eight, unless said otherwise; nothing is saved and restarts cost nothing."""
    rows = tuple(sorted(arrivals, key=lambda row: (row.submitted_ms, row.name)))
    usual: dict[str, Any] = {"queues": (queue("a", 8), queue("b", 8)), "checkpoint": Saving(0, 0)}
    return Scenario("test", nodes=nodes, arrivals=rows, **{**usual, **fields})


def minutes(run: Run) -> tuple[float, float]:
    """The longest wait and the longest completion of a run."""
    return run.wait_s.max / 60, run.completion_s.max / 60


def play(policy: str, *arrivals: Arrival, seed: int = 1, **fields: Any) -> Run:
    """Play these arrivals."""
    return replay(scenario(*arrivals, **fields), policy, seed)
