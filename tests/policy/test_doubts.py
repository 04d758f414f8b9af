"""A snapshot that does not agree with itself is answered all the same, and what is odd about it is said."""

from __future__ import annotations

from msgspec.structs import replace

from board import Sketch, check, gpus, queue
from gpumax.model.workload import Group, Request
from gpumax.policy.decide import decide


def test_a_node_that_gives_more_cores_than_it_has_takes_no_more_of_them() -> None:
    """What runs is counted as it stands: who needs cores goes elsewhere, who needs none may come."""
    sketch = Sketch("n1: b...\nn2: ....").with_queues(queue("q", 8)).node("n1", cpu_milli=1000).run("b", "q")
    (task,) = sketch.workloads["b"].tasks
    sketch = sketch.change("b", tasks=(replace(task, request=_with_cores(3000)),))
    decision = check(sketch.wait("A", "q", request=_with_cores(500)).wait("C", "q"), "n1: bC..\nn2: A...")
    assert decision.warnings == (
        "what runs on node n1 holds 2 cores more than there is; nothing that needs it is placed there",
    )


def test_gangs_that_run_below_their_minimum_are_named() -> None:
    """They hold their room; whether that is so for too long already, their grace says."""
    sketch = Sketch("n1: bbdd").with_queues(queue("q", 8))
    sketch = sketch.run("b", "q", groups=(Group("", 3),)).run("d", "q", groups=(Group("", 2),))
    (warning,) = decide(sketch.snapshot()).warnings
    assert warning.startswith("b runs below its minimum")


def test_a_gang_that_becomes_whole_in_the_decision_is_not_named() -> None:
    """Judged when the decision is carried out."""
    sketch = Sketch("n1: b...").with_queues(queue("q", 8)).run("b", "q", min=2)
    decision = check(sketch.wait("b", "q", min=2), "n1: bb..")
    assert not decision.warnings


def _with_cores(cpu_milli: int) -> Request:
    return Request(gpu=gpus(1).gpu, cpu_milli=cpu_milli)
