"""What holds say: true, short, and in the words of the person who waits."""

from __future__ import annotations

import pytest

from board import Sketch, gpus, queue
from gpumax.model.decision import Hold
from gpumax.model.node import Device, Taint
from gpumax.model.workload import Affinity, Expression, NodeTerm, Request, Task, TopologyWish
from gpumax.policy.decide import decide
from gpumax.policy.words import amount, amounts, listed, some


def hold_of(sketch: Sketch, name: str = "A") -> Hold:
    return next(hold for hold in decide(sketch.snapshot()).holds if hold.workload == name)


def asking(request: Request, nodes: str = "n1: ....") -> Sketch:
    sketch = Sketch(nodes).with_queues(queue("q", 99)).wait("A", "q")
    return sketch.change("A", tasks=(Task(name="A-0", request=request),))


def test_more_memory_than_any_gpu_has_names_the_largest_gpu() -> None:
    """Not a number of GPUs, which would not help."""
    hold = hold_of(asking(gpus(1, memory_mib=100 * 1024)))
    assert (hold.code, hold.short) == ("NoNodeMatches", {"gpu": 1000})
    assert hold.message == "needs 100Gi of a GPU; the largest GPU has 80Gi, so it can never start"


def test_a_model_that_is_not_there_is_told_with_those_that_are() -> None:
    """The next question is which ones there are."""
    sketch = asking(gpus(2, model="A100"))
    sketch.node("n1", devices=(Device(0, "H100", 81920), Device(1, "L4", 24576)))
    assert (
        hold_of(sketch).message == "needs 2 A100; there is no A100, only H100 and L4, so it can never start"
    )


def test_a_model_on_nodes_that_are_closed_to_the_task_is_not_called_absent() -> None:
    """`there is no A100` would be wrong where a taint keeps the task away."""
    sketch = asking(gpus(1, model="A100"), "n1: .\nn2: .")
    sketch.node("n2", devices=(Device(0, "A100", 40960),), taints=(Taint("team", "b"),))
    hold = hold_of(sketch)
    assert "there is no A100 where it may run, only H100" in hold.message
    assert hold.nodes == {"ModelMismatch": 1, "TaintNotTolerated": 1}


def test_the_largest_of_the_model_that_is_asked_for_counts() -> None:
    """A larger GPU of another model is no help."""
    sketch = asking(gpus(1, memory_mib=50_000, model="L4"))
    sketch.node("n1", devices=(Device(0, "H100", 81920), Device(1, "L4", 24 * 1024)))
    assert "the largest L4 has 24Gi" in hold_of(sketch).message


def test_a_cluster_without_gpus_says_so() -> None:
    """And not that its largest node lacks some."""
    assert "there is no healthy whole GPU" in hold_of(asking(gpus(1), "n1:")).message


def test_one_gpu_is_one_gpu() -> None:
    """Amounts agree with their nouns."""
    hold = hold_of(Sketch("n1: ....").with_queues(queue("q", 9, limit=0.5)).wait("A", "q"))
    assert hold.message.startswith("asks for 1 GPU; the limit of queue q is 0.5")


@pytest.mark.parametrize(
    ("resource", "value", "said"),
    [
        ("gpu", 0, "0 GPUs"), ("gpu", 500, "0.5 GPU"), ("gpu", 1000, "1 GPU"), ("gpu", 22_250, "22.25 GPUs"),
        ("cpu", 1000, "1 core"), ("cpu", 500, "0.5 cores"), ("memory", 80 * 1024, "80Gi of memory"), ("rdma/hca", 3, "3 rdma/hca"),
    ],
)  # fmt: skip
def test_amounts_carry_their_noun(resource: str, value: int, said: str) -> None:
    """The same words wherever an amount is said."""
    assert amount(resource, value) == said


def test_lists_are_read_aloud() -> None:
    """The last one after `and`, many cut short with how many more there are."""
    assert (listed([]), listed(["a"]), listed(["a", "b", "c"])) == ("", "a", "a, b and c")
    assert (some(["a", "b"]), some(list("abcde"))) == ("a and b", "a, b, c and 2 more")
    assert some(list("abc")) == "a, b and c"
    assert amounts({"gpu": 2000, "cpu": 500}) == "2 GPUs and 0.5 cores"


def test_a_limit_above_is_told_with_the_share_below_it() -> None:
    """c2 asks for 4 where its part of p's 6 is 3: that c1 holds all six today is only half of the reason."""
    sketch = Sketch("n1: cccccc..").with_queues(
        queue("p", 6, limit=6), queue("c1", 4, parent="p"), queue("c2", 4, parent="p")
    )
    hold = hold_of(sketch.run("c", "c1").wait("A", "c2", tasks=4))
    assert (hold.code, hold.short) == ("OverLimit", {"gpu": 4000})
    assert hold.message == (
        "asks for 4 GPUs; queue p uses 6 of its limit of 6; "
        "the share of queue c2 is 3, so it can't have 4 GPUs while others want theirs"
    )


def test_elastic_work_that_runs_in_part_says_both() -> None:
    """That it runs, and what the next task waits for."""
    sketch = Sketch("n1: AAbb").with_queues(queue("q", 4), queue("b", 4)).run("b", "b")
    sketch.run("A", "q", min=2).wait("A", "q", tasks=2, min=2)
    hold = hold_of(sketch)
    assert hold.message.startswith("runs with 2 of 4 tasks; one more needs 1 GPU; n1 comes nearest")


def test_a_gang_that_lost_a_task_says_that_it_runs_below_its_minimum() -> None:
    """It needs that task back; the others still run."""
    sketch = Sketch("n1: AAb").with_queues(queue("q", 4), queue("b", 4)).run("b", "b")
    hold = hold_of(sketch.run("A", "q").wait("A", "q", tasks=1))
    assert hold.message.startswith("runs with 2 of 3 tasks, below its minimum; it needs 1 GPU")


def test_work_whose_run_ends_in_the_same_decision_says_for_whom() -> None:
    """Its waiting tasks are not placed although there is room: they start with the next run."""
    sketch = Sketch("n1: bbb").with_queues(queue("a", 2), queue("b", 0, weight=0))
    sketch.run("b", "b", min=3).wait("b", "b", tasks=1, min=3).wait("A", "a", gpu=2)
    decision = decide(sketch.snapshot())
    assert {eviction.task for eviction in decision.evictions} == {"b-0", "b-1", "b-2"}
    (hold,) = decision.holds
    assert hold.message == (
        "its run ends in this decision: 3 tasks of it make way for A (reclaim); it starts again as a whole when there is room"
    )


def test_what_waits_of_work_that_moves_is_told_to_follow() -> None:
    """b moves for A, and c stops; the extra of b has to stand in the rack where b does, and waits for the node that d holds."""
    sketch = Sketch("n1: bc\nn2: .\nn3: d").with_queues(queue("q", 9)).stand(r1="n1 n3", r2="n2")
    sketch.node("n3", labels={"rack": "r1", "only": "b"}).run("c", "q", priority=40).run(
        "d", "q", priority=100
    )
    sketch.run("b", "q").wait("b", "q", min=1, selector={"only": "b"})
    sketch.change("b", topology=TopologyWish("default", "rack"))
    decision = decide(sketch.wait("A", "q", gpu=2, priority=75).snapshot())
    assert {row.task: row.restarts_on for row in decision.evictions} == {"b-0": "n2", "c-0": None}
    words = {hold.workload: hold.message for hold in decision.holds}
    assert words["b"] == "it moves in this decision; what waits of it follows once it stands in its new place"


def test_a_node_that_is_down_may_come_back() -> None:
    """What only it could hold waits for it, and is not told that it can never start."""
    sketch = asking(gpus(2, model="A100"), "n1: ..\nn2: ..")
    sketch.node("n2", devices=(Device(0, "A100", 40960), Device(1, "A100", 40960)), ready=False)
    assert hold_of(sketch).message == (
        "needs 2 A100; there is no A100 where it may run, only H100, so it can't start while n2 (not ready) is out of service"
    )
    sketch.node("n2", ready=True, cordoned=True)
    assert hold_of(sketch).message.endswith("while n2 (cordoned) is out of service")
    assert hold_of(asking(gpus(4), "n1: ..\nn2: ....").node("n2", cordoned=True)).message == (
        "needs 4 GPUs; even empty, the largest nodes lack 2 GPUs, so it can't start while n2 (cordoned) is out of service"
    )
    only = asking(gpus(2), "n1: ..").node("n1", ready=False)
    assert hold_of(only).message == (
        "needs 2 GPUs; no node may take it (NotReady on 1), so it can't start while n1 (not ready) is out of service"
    )


def test_a_node_that_is_down_is_told_only_where_it_would_help() -> None:
    """Too small, of another model, closed to it anyway: then nothing that comes back changes anything."""
    sketch = asking(gpus(4), "n1: ..\nn2: ...\nn3: ....")
    sketch.node("n2", ready=False).node("n3", ready=False, taints=(Taint("team", "b"),))
    assert hold_of(sketch).message.endswith("lack 2 GPUs, so it can never start")


def test_a_gang_waits_for_nodes_that_are_down_where_all_of_it_would_fit() -> None:
    """Together with them, and with no fewer; also where it has to stand together."""

    def gang(tasks: int, nodes: str) -> Sketch:
        return Sketch(nodes).with_queues(queue("q", 99)).wait("A", "q", tasks=tasks, gpu=2)

    sketch = gang(3, "n1: ..\nn2: ..\nn3: ..").node("n2", ready=False).node("n3", cordoned=True)
    assert hold_of(sketch).message.endswith(
        "lack 4 GPUs, so it can't start while n2 (not ready) and n3 (cordoned) are out of service"
    )
    sketch = gang(4, "n1: ..\nn2: ..\nn3: ..").node("n2", ready=False).node("n3", cordoned=True)
    assert hold_of(sketch).message.endswith(", so it can never start")
    together = TopologyWish("default", required="rack")
    sketch = gang(2, "n1: ..\nn2: ..\nn3: ..").stand(r1="n1 n2", r2="n3").node("n2", ready=False)
    sketch.change("A", topology=together)
    assert hold_of(sketch).message.endswith("so it can't start while n2 (not ready) is out of service")
    sketch = gang(2, "n1: ..\nn2: ..\nn3: ..").stand(r1="n1", r2="n2", r3="n3").node("n2", ready=False)
    sketch.change("A", topology=together)
    assert hold_of(sketch).message.endswith("so it can never start")


def test_a_label_that_no_node_has_is_told_with_those_that_there_are() -> None:
    """A misspelt model on a cluster is a label to the scheduler; `AffinityMismatch on 2` helps nobody."""
    model = "nvidia.com/gpu.product"

    def wanting(*terms: NodeTerm) -> Sketch:
        sketch = Sketch("n1: .\nn2: .\nn3:").with_queues(queue("q", 99)).wait("A", "q")
        sketch.node("n1", labels={model: "H100"}).node("n2", labels={model: "L4"}, ready=False)
        task = Task(name="A-0", request=gpus(1), affinity=Affinity(required=terms))
        return sketch.change("A", tasks=(task,))

    def term(*values: str, key: str = model) -> NodeTerm:
        return NodeTerm(labels=(Expression(key, "In", values),))

    told = f"needs 1 GPU; no node has {model} Z999, only H100 and L4, so it can never start"
    assert hold_of(wanting(term("Z999"))).message == told
    assert f"no node has {model} Y or Z, only H100" in hold_of(wanting(term("Z"), term("Y"))).message
    assert "no node has zone a, nor any other zone" in hold_of(wanting(term("a", key="zone"))).message
    # One of several ways is open, or a node that is down has it: then no label is to blame.
    assert "no node may take it" in hold_of(wanting(term("Z"), term("a", key="zone"))).message
    down = hold_of(wanting(term("L4"))).message
    assert "no node may take it (AffinityMismatch on 2, NotReady on 1), so it can't start while n2" in down


def test_a_selector_that_no_node_has_is_told() -> None:
    """As an affinity is."""
    sketch = asking(gpus(1), "n1: .").node("n1", labels={"zone": "b"})
    sketch.change("A", tasks=(Task(name="A-0", request=gpus(1), selector={"zone": "a"}),))
    assert hold_of(sketch).message == "needs 1 GPU; no node has zone a, only b, so it can never start"
