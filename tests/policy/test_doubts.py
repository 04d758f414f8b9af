"""A snapshot that does not agree with itself is answered all the same, and what is odd about it is said."""

from __future__ import annotations

from msgspec.structs import replace

from board import MINUTE_MS, NOW_MS, Sketch, check, gpus, queue
from gpumax.model.workload import Group, Request, Task
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


def test_everything_that_a_node_gives_too_much_of_is_said_in_one_sentence() -> None:
    """Cores, memory, slots and others; of a second node that gives just what it has nothing."""
    sketch = Sketch("n1: bb\nn2: cc").with_queues(queue("q", 8)).run("b", "q").run("c", "q")
    for name in ("n1", "n2"):
        sketch.node(name, cpu_milli=4_000, memory_mib=4_096, tasks=2, extended={"nic": 2})
    each = Request(gpus(1).gpu, 2_000, 2_048, {"nic": 1})
    sketch.change("c", tasks=tuple(replace(row, request=each) for row in sketch.workloads["c"].tasks))
    more = Request(gpus(1).gpu, 2_500, 2_560, {"nic": 2})
    sketch.change("b", tasks=tuple(replace(row, request=more) for row in sketch.workloads["b"].tasks)).node(
        "n1", tasks=1
    )
    assert [row for row in decide(sketch.snapshot()).warnings if "node" in row] == [
        "what runs on node n1 holds 1 core, 1Gi of memory, 1 task slot and 2 nic more than there is; nothing that needs it is placed there",
    ]


def test_one_group_below_its_minimum_is_enough_to_be_named() -> None:
    """The other has more than it needs; of several gangs all are named, but not one of which a task is done, nor one that goes."""
    sketch = Sketch("n1: bbb").with_queues(queue("q", 8)).run("b", "q")
    rows = [replace(row, group="xyy"[at]) for at, row in enumerate(sketch.workloads["b"].tasks)]
    sketch.change("b", tasks=tuple(rows), groups=(Group("x", 2), Group("y", 1)))
    rest = "what is left of a gang holds its room until it is whole again or its grace has passed"
    assert decide(sketch.snapshot()).warnings == (f"b runs below its minimum: {rest}",)
    sketch = Sketch("n1: bbddccee").with_queues(queue("q", 8))
    for letter in "bdce":
        sketch.run(letter, "q", groups=(Group("", 3),))
    done = Task("c-9", state="succeeded")
    sketch.change("c", tasks=(*sketch.workloads["c"].tasks, done), groups=(Group("", 4),))
    sketch.change("e", stale_since_ms=NOW_MS - 10 * MINUTE_MS)
    assert decide(sketch.snapshot()).warnings == (f"b and d run below their minimum: {rest}",)
