"""Holds: one reason each, exact shortfalls, nodes counted by reason; and explanations in sentences."""

from __future__ import annotations

from board import Sketch, gpus, queue
from gpumax.model.decision import HOLD_CODES, Hold
from gpumax.model.node import Device, Taint
from gpumax.model.snapshot import Policy
from gpumax.model.workload import DeviceAsk, Request, Task
from gpumax.policy.decide import decide
from gpumax.policy.explain import explain


def hold_of(sketch: Sketch) -> Hold:
    (hold,) = decide(sketch.snapshot()).holds
    assert hold.code in HOLD_CODES
    return hold


def test_the_nearest_node_and_what_it_lacks_are_named() -> None:
    sketch = Sketch("n1: bbb.\nn2: bb..").with_queues(queue("q", 9)).run("b", "q").wait("A", "q", gpu=4)
    hold = hold_of(sketch)
    assert (hold.code, hold.short, hold.nodes) == ("NoRoom", {"gpu": 2000}, {"NotEnoughGpu": 2})
    assert "n2 comes nearest and lacks 2 GPUs" in hold.message


def test_nodes_are_counted_by_their_first_reason() -> None:
    sketch = (
        Sketch("n1: b\nn2: .\nn3: .\nn4: .\nn5: .")
        .with_queues(queue("q", 9))
        .run("b", "q", preemptible=False)
        .wait("A", "q", pool="p")
    )
    sketch.node("n1", pool="p").node("n2", pool="p", ready=False).node("n3", pool="p", cordoned=True)
    sketch.node("n4", pool="p", taints=(Taint("k"),))
    assert hold_of(sketch).nodes == {
        "Cordoned": 1, "NotEnoughGpu": 1, "NotReady": 1, "TaintNotTolerated": 1, "WrongPool": 1,
    }  # fmt: skip


def test_a_missing_model_is_told_from_missing_gpus() -> None:
    sketch = Sketch("n1: ..").with_queues(queue("q", 9)).wait("A", "q")
    sketch.change("A", tasks=(Task(name="A-0", request=Request(gpu=(DeviceAsk(1, model="B200"),))),))
    hold = hold_of(sketch)
    assert (hold.code, hold.nodes) == ("NoNodeMatches", {"ModelMismatch": 1})


def test_a_fraction_lacks_what_the_best_gpu_lacks() -> None:
    sketch = (
        Sketch("n1: [b7][c6]").with_queues(queue("q", 9)).run("b", "q").run("c", "q").wait("A", "q", gpu=0.5)
    )
    assert hold_of(sketch).short == {"gpu": 100}


def test_more_than_any_node_has_can_never_start() -> None:
    hold = hold_of(Sketch("n1: ....").with_queues(queue("q", 99)).wait("A", "q", gpu=16))
    assert (hold.code, hold.short) == ("NoNodeMatches", {"gpu": 12_000})
    assert "even empty" in hold.message


def test_more_than_the_limit_can_never_start() -> None:
    hold = hold_of(Sketch("n1: ....").with_queues(queue("q", 9, limit=2)).wait("A", "q", gpu=3))
    assert hold.code == "OverLimit"
    assert "can never start" in hold.message


def test_cores_and_memory_are_short_in_their_own_units() -> None:
    sketch = Sketch("n1: ..").node("n1", cpu_milli=1000, memory_mib=100).with_queues(queue("q", 9))
    sketch.wait("A", "q").change(
        "A", tasks=(Task(name="A-0", request=Request(cpu_milli=1500, memory_mib=164)),)
    )
    assert hold_of(sketch).short == {"cpu": 500, "memory": 64}


def test_unknown_and_inner_queues_are_said() -> None:
    sketch = Sketch("n1: ..").with_queues(queue("x"), queue("a", parent="x")).wait("A", "nope").wait("B", "x")
    assert [hold.code for hold in decide(sketch.snapshot()).holds] == ["QueueNotFound", "QueueNotLeaf"]


def test_memory_that_no_gpu_has_matches_no_node() -> None:
    sketch = Sketch("n1: ..").with_queues(queue("q", 9)).wait("A", "q")
    sketch.change("A", tasks=(Task(name="A-0", request=gpus(1, memory_mib=100_000)),))
    assert hold_of(sketch).code == "NoNodeMatches"


def test_gpus_of_unknown_size_serve_no_request_by_memory() -> None:
    sketch = Sketch("n1:").with_queues(queue("q", 9)).node("n1", devices=(Device(0),)).wait("A", "q")
    sketch.change("A", tasks=(Task(name="A-0", request=gpus(1, memory_mib=10)),))
    assert hold_of(sketch).code == "NoNodeMatches"


def test_an_explanation_names_the_share_and_who_is_ahead() -> None:
    sketch = Sketch("n1: bbbb").with_queues(queue("a", 0), queue("b", 4)).run("b", "b", min=1)
    sketch.wait("A", "a", priority=60).wait("C", "a")
    snapshot = sketch.snapshot()
    found = explain(snapshot, decide(snapshot), "C")
    assert found is not None
    assert (found.state, found.ahead) == ("held", ("A",))
    text = " ".join(found.sentences)
    assert "NoRoom" in text
    assert "Queue a has a share of 0 GPUs" in text
    assert "Ahead of it: A." in text


def test_an_explanation_says_whom_it_waits_for_or_makes_way_for() -> None:
    sketch = (
        Sketch("n1: bbbb")
        .with_queues(queue("a", 2), queue("b", 2))
        .run("b", "b", min=1)
        .wait("A", "a", tasks=2)
    )
    snapshot = sketch.snapshot()
    decision = decide(snapshot)
    placed, victim = explain(snapshot, decision, "A"), explain(snapshot, decision, "b")
    assert placed is not None
    assert victim is not None
    assert "as soon as b-2 and b-3 have left" in placed.sentences[0]
    assert "make way for A (reclaim)" in victim.sentences[0]
    assert explain(snapshot, decision, "nobody") is None


def test_what_can_never_start_is_said_before_what_only_waits() -> None:
    sketch = Sketch("n1: bb..").with_queues(queue("q", 9, limit=4)).run("b", "q").wait("A", "q", gpu=4)
    assert hold_of(sketch).code == "OverLimit"
    sketch = Sketch("n1: bb..").with_queues(queue("q", 9, limit=5)).run("b", "q").wait("A", "q", gpu=5)
    assert hold_of(sketch).code == "NoNodeMatches"


def test_one_task_of_a_gang_that_no_node_can_take_is_named() -> None:
    sketch = (
        Sketch("n1: ....").with_queues(queue("q", 99)).wait("A", "q", gpu=1).wait("A", "q", tasks=1, gpu=6)
    )
    hold = hold_of(sketch)
    assert (hold.code, hold.short) == ("NoNodeMatches", {"gpu": 2000})
    assert "needs 6 GPUs" in hold.message


def test_the_alternative_that_lacks_least_counts() -> None:
    sketch = Sketch("n1: bbb.").with_queues(queue("q", 9)).run("b", "q").wait("A", "q")
    request = Request(gpu=(DeviceAsk(4), DeviceAsk(2)))
    sketch.change("A", tasks=(Task(name="A-0", request=request),))
    assert hold_of(sketch).short == {"gpu": 1000}


def test_a_bound_on_evictions_is_named() -> None:
    sketch = Sketch("n1: bb", Policy(max_evictions=1)).with_queues(queue("a", 2), queue("b", 0, weight=0))
    assert "max_evictions" in hold_of(sketch.run("b", "b").wait("A", "a", gpu=2)).message
