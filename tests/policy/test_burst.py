"""Limits above requests: placement counts what is asked for, and nothing else."""

from __future__ import annotations

from msgspec.structs import replace

from board import Sketch, check, queue
from gpumax.model.workload import DeviceLimit


def burst(nodes: str = "n1: .", quota: float = 4) -> Sketch:
    """Half a GPU each, up to all of it."""
    sketch = Sketch(nodes).with_queues(queue("q", quota))
    for letter in "AB":
        sketch.wait(letter, "q", gpu=0.5)
        (task,) = sketch.workloads[letter].tasks
        limited = replace(task, request=replace(task.request, limit=DeviceLimit(1000, 80 * 1024)))
        sketch.change(letter, tasks=(limited,))
    return sketch


def test_limits_may_exceed_a_gpu_together() -> None:
    check(burst(), "n1: [A5B5]")


def test_requests_never_do() -> None:
    check(burst().wait("C", "q", gpu=0.5), "n1: [A5B5]", held="C")


def test_a_queue_counts_the_request_and_not_the_limit() -> None:
    decision = check(burst(quota=1).change("B", preemptible=False), "n1: [A5B5]")
    assert [row.demand for row in decision.shares if row.resource == "gpu"] == [1000]
