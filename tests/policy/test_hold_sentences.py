"""Every kind of hold in whole: the code, the sentence, which nodes fail for what, and what is short."""

from __future__ import annotations

from msgspec.structs import replace

from board import MINUTE_MS, Sketch, gpus, queue, slices
from gpumax.model.decision import Hold
from gpumax.model.node import Device, Taint
from gpumax.model.snapshot import Policy, Topology
from gpumax.model.workload import (
    DeviceAsk,
    Group,
    Request,
    Segments,
    Task,
    TopologyWish,
)
from gpumax.policy.decide import PASSES, decide

RACK = TopologyWish("default", "rack")
NEVER = ", so it can never start"


def hold(sketch: Sketch, name: str = "A", passes: tuple[str, ...] = tuple(PASSES)) -> Hold:
    return next(row for row in decide(sketch.snapshot(), passes).holds if row.workload == name)


def told(sketch: Sketch, name: str = "A") -> tuple[str, str, dict[str, int], dict[str, int]]:
    found = hold(sketch, name)
    return found.code, found.message, found.nodes, found.short


def held(nodes: str, **changes: object) -> Sketch:
    """Queue a, and b, whose work is never evicted."""
    sketch = Sketch(nodes).with_queues(queue("a", 9), queue("b"))
    return sketch.run("b", "b", preemptible=False, **changes) if "b" in nodes else sketch


def why_not(message: str) -> str:
    return f"{message}; within its share, but no others that may be evicted for it hold enough"


# One task, and a gang


def test_a_task_lacks_what_the_nearest_node_lacks() -> None:
    """Of the one alternative that lacks least."""
    sketch = held("n1: bbb.\nn2: bb..").wait("A", "a", request=Request((DeviceAsk(4), DeviceAsk(3))))
    assert told(sketch) == (
        "NoRoom", why_not("needs 4 GPUs or 3 GPUs; n2 comes nearest and lacks 1 GPU"), {"NotEnoughGpu": 2}, {"gpu": 1_000},
    )  # fmt: skip


def test_the_last_of_a_gang_is_told_apart_from_the_rest_of_it() -> None:
    """One that lacks is told with its node; several with how many fit."""
    sketch = held("n1: bb..\nn2: b.").wait("A", "a", tasks=4)
    assert told(sketch) == (
        "GangNoRoom", why_not("needs 4 x 1 GPU together; 3 fit now, for the last n1 comes nearest and lacks 1 GPU"),
        {"NotEnoughGpu": 2}, {"gpu": 1_000},
    )  # fmt: skip
    sketch = held("n1: bb..\nn2: b.").wait("A", "a", tasks=5)
    assert told(sketch) == (
        "GangNoRoom", why_not("needs 5 x 1 GPU together; 3 of 5 fit now, the rest lacks 2 GPUs"), {"NotEnoughGpu": 2}, {"gpu": 2_000},
    )  # fmt: skip


def test_what_one_lacks_is_counted_beside_no_other_that_waits() -> None:
    """Three tasks of A lack something; what they lack is not taken from what B is told."""
    sketch = held("n1: bb..\nn2: b.").wait("A", "a", tasks=6, priority=60).wait("B", "a", gpu=4)
    assert told(sketch)[3] == {"gpu": 3_000}
    assert told(sketch, "B")[1::2] == (
        why_not("needs 4 GPUs; n1 comes nearest and lacks 2 GPUs"),
        {"gpu": 2_000},
    )


def test_a_gang_of_two_kinds_is_told_with_both() -> None:
    """The larger ones first, as they are placed."""
    sketch = held("n1: b...\nn2: b").wait("A", "a", tasks=1, gpu=2).wait("A", "a", tasks=2)
    assert told(sketch)[1] == why_not(
        "needs 1 x 2 GPUs + 2 x 1 GPU together; 2 fit now, for the last n1 comes nearest and lacks 1 GPU"
    )


def test_each_may_fit_but_not_all_at_once() -> None:
    """Two whole GPUs as halves: the third half has none left in n1's two slots, and n2 has no slot at all."""
    sketch = held("n1: b.").node("n1", tasks=2).wait("A", "a", tasks=2, gpu=0.5)
    assert told(sketch) == (
        "GangNoRoom", why_not("needs 2 x 0.5 GPU together; 1 fit now, for the last n1 comes nearest and lacks 1 task slot"),
        {"TooManyTasks": 1}, {"tasks": 1},
    )  # fmt: skip


def test_a_gang_that_all_nodes_together_cannot_hold_never_starts() -> None:
    """By what they lack when they are empty."""
    assert told(held("n1: ..\nn2: .").wait("A", "a", tasks=5)) == (
        "GangNoRoom", f"needs 5 x 1 GPU together; even empty, all nodes together lack 2 GPUs{NEVER}", {"NotEnoughGpu": 2}, {"gpu": 2_000},
    )  # fmt: skip
    assert told(held("n1: ...\nn2: ...").wait("A", "a", tasks=3, gpu=2)) == (
        "GangNoRoom", f"needs 3 x 2 GPUs together; even empty, all nodes together lack 1 GPU{NEVER}", {"NotEnoughGpu": 2}, {"gpu": 1_000},
    )  # fmt: skip


def test_room_that_no_pass_gave_out_is_told_as_such() -> None:
    """Reclaim alone looks only where somebody could go."""
    sketch = Sketch("n1: ..").with_queues(queue("a", 2)).wait("A", "a")
    assert hold(sketch, passes=("reclaim",)).message == why_not(
        "needs 1 GPU; there is room, but no pass that ran gave it out"
    )
    sketch = Sketch("n1: ..").with_queues(queue("a", 2)).wait("A", "a", tasks=2)
    assert hold(sketch, passes=("reclaim",)).message == why_not(
        "needs 2 x 1 GPU together; each fits by itself, but not all at once"
    )


def test_a_gang_that_is_not_whole_says_what_it_lacks() -> None:
    """By group, where groups have names."""
    assert told(held("n1: ..").wait("A", "a", groups=(Group("", 3),)))[:2] == (
        "GangIncomplete", "its minimum lacks 2 more tasks that are ready to be placed",
    )  # fmt: skip
    sketch = held("n1: ..").wait("A", "a", groups=(Group("x", 2), Group("y", 1)))
    assert told(sketch.change("A", tasks=(Task("A-0", "x", request=gpus(1)),)))[:2] == (
        "GangIncomplete", "its minimum lacks tasks that are ready to be placed: 1 of group x, 1 of group y",
    )  # fmt: skip


# What no node can take


def test_what_no_open_node_takes_is_told_by_reason() -> None:
    """And a cluster without nodes says so."""
    sketch = held("n1: .\nn2: .").node("n1", taints=(Taint("k"),)).node("n2", ready=False).wait("A", "a")
    assert told(sketch) == (
        "NoNodeMatches",
        "needs 1 GPU; no node may take it (NotReady on 1, TaintNotTolerated on 1), so it can't start while n2 (not ready) is out of service",
        {"NotReady": 1, "TaintNotTolerated": 1}, {},
    )  # fmt: skip
    assert told(held("").wait("A", "a")) == (
        "NoNodeMatches",
        "needs 1 GPU; no node may take it (there are no nodes)",
        {},
        {},
    )


def test_the_largest_node_may_be_too_small_in_everything() -> None:
    """Cores, memory, and others that it has, or hasn't."""
    sketch = held("n1: .").node("n1", cpu_milli=8_000, memory_mib=16_384, extended={"nic": 1})
    sketch.wait("A", "a", request=Request((DeviceAsk(1),), 9_000, 20_480, {"nic": 2, "port": 1}))
    assert told(sketch) == (
        "NoNodeMatches",
        "needs 1 GPU, 9 cores, 20Gi of memory, 2 nic, 1 port; even empty, the largest nodes lack 1 core, 4Gi of memory, 1 nic and 1 port"
        + NEVER,
        {"NotEnoughCpu": 1}, {"cpu": 1_000, "memory": 4_096, "nic": 1, "port": 1},
    )  # fmt: skip


def test_gpus_that_nobody_has_are_told_with_those_that_there_are() -> None:
    """Two models asked for, GPUs of no known model among those that there are; or of no known memory."""
    sketch = held("n1: .").node("n1", devices=(Device(0), Device(1, "L4", 100)))
    sketch.wait("A", "a", request=Request((DeviceAsk(1, model="B200"), DeviceAsk(1, model="A100"))))
    assert told(sketch) == (
        "NoNodeMatches", f"needs 1 B200 or 1 A100; there is no A100 or B200, only GPUs of unknown model and L4{NEVER}",
        {"ModelMismatch": 1}, {"gpu": 1_000},
    )  # fmt: skip
    sketch = held("n1: .").node("n1", devices=(Device(0),)).wait("A", "a", request=gpus(1, memory_mib=100))
    assert told(sketch)[1] == f"needs 100Mi of a GPU; the memory of the GPUs isn't known{NEVER}"


def test_a_closed_node_is_where_the_model_is() -> None:
    """`where it may run` is said only then; cut GPUs are none, and broken ones may be whole again."""
    sketch = held("n1: (.)\nn2: x\nn3: .").node("n3", cordoned=True).wait("A", "a")
    assert told(sketch)[1] == "needs 1 GPU; there is no healthy whole GPU where it may run" + (
        ", so it can't start while GPU 0 of n2 (unhealthy) and n3 (cordoned) are out of service"
    )
    begin = "needs 1 GPU; there is no healthy whole GPU"
    assert told(held("n1: (.)").wait("A", "a"))[1] == f"{begin}{NEVER}"
    for nodes, away in (
        ("n2: x", "GPU 0 of n2 (unhealthy) is"),
        ("n2: xx", "GPUs 0 and 1 of n2 (unhealthy) are"),
    ):
        told_ = told(held(f"n1: (.)\n{nodes}").wait("A", "a"))[1]
        assert told_ == f"{begin}, so it can't start while {away} out of service"


def test_broken_gpus_are_told_of_where_whole_ones_are_too_few() -> None:
    """Only where they would be enough."""
    begin = "needs 4 GPUs; even empty, the largest nodes lack"
    away = "so it can't start while GPU 3 of n1 (unhealthy) is out of service"
    assert told(held("n1: ...x").wait("A", "a", gpu=4))[1] == f"{begin} 1 GPU, {away}"
    assert told(held("n1: ..x").wait("A", "a", gpu=4))[1] == f"{begin} 2 GPUs{NEVER}"


def test_requests_are_told_as_they_were_written() -> None:
    """Parts of several GPUs, memory of several, models, slices, slots."""
    requests = {
        "2 x 0.5 GPU": Request((DeviceAsk(2, 500),)), "3 x 10Gi of L4": Request((DeviceAsk(3, 1_000, 10_240, "L4"),)),
        "0.25 L4": Request((DeviceAsk(1, 250, 0, "L4"),)), "2 L4, 0.5 cores": Request((DeviceAsk(2, 1_000, 0, "L4"),), 500),
        "2 2g.10gb slices, 1 nic": Request(slices={"2g.10gb": 2}, extended={"nic": 1}), "a task slot": Request(),
    }  # fmt: skip
    for words, request in requests.items():
        message = told(held("n1: .").node("n1", taints=(Taint("k"),)).wait("A", "a", request=request))[1]
        assert message == f"needs {words}; no node may take it (TaintNotTolerated on 1)"


# What has to stand together


def test_the_fullest_rack_is_told_with_what_is_free_there() -> None:
    """And on which node, where some of it is on another."""
    sketch = held("n1: b.\nn2: ..\nn3: b.\nn4: bb").stand(r1="n1 n2", r2="n3 n4").wait("A", "a", tasks=4)
    assert told(sketch.change("A", topology=RACK)) == (
        "Topology", why_not("needs 4 x 1 GPU on one rack; the fullest rack (r1) has 3 free, 1 of them on n1"),
        {"NotEnoughGpu": 3, "TopologyMismatch": 1}, {"gpu": 1_000},
    )  # fmt: skip
    sketch = held("n1: bb.\nn2: b..").stand(r1="n1 n2").wait("A", "a", tasks=2, gpu=2)
    assert told(sketch.change("A", topology=RACK))[1::2] == (
        why_not("needs 2 x 2 GPUs on one rack; the fullest rack (r1) has 3 free, 1 of them on n1"), {"gpu": 1_000},
    )  # fmt: skip


def test_a_rack_that_is_too_small_never_does() -> None:
    """The largest one is told, and the wrong place of nodes that could."""
    sketch = held("n1: ..\nn2: ..").stand(r1="n1", r2="n2").wait("A", "a", tasks=3).change("A", topology=RACK)
    assert told(sketch) == (
        "Topology", f"needs 3 x 1 GPU on one rack; even empty, the largest rack (r1) has 2 free{NEVER}",
        {"NotEnoughGpu": 1, "TopologyMismatch": 1}, {"gpu": 1_000},
    )  # fmt: skip


def test_what_joins_others_is_told_where_they_stand() -> None:
    """In one rack, in two, or in none."""
    sketch = held("n1: Ab\nn2: ..").stand(r1="n1", r2="n2").run("A", "a", min=1)
    sketch.wait("A", "a", min=1).change("A", topology=RACK)
    runs = "runs with 1 of 2 tasks; one more needs 1 GPU on one rack"
    assert told(sketch)[1] == why_not(f"{runs}; the rack where the rest of it runs (r1) has 0 free")
    sketch = held("n1: A.\nn2: A.").stand(r1="n1", r2="n2").run("A", "a", min=2)
    sketch.wait("A", "a", min=2).change("A", topology=RACK)
    assert told(sketch)[1:] == (
        "needs 1 GPU on one rack; what runs of it stands in r1, r2, so nothing can join it", {"TopologyMismatch": 2}, {},
    )  # fmt: skip
    sketch = (
        held("n1: A.\nn2: ..")
        .stand(r2="n2")
        .run("A", "a", min=1)
        .wait("A", "a", min=1)
        .change("A", topology=RACK)
    )
    assert (
        told(sketch)[1]
        == "needs 1 GPU on one rack; what runs of it stands in no rack, so nothing can join it"
    )


def test_nodes_without_labels_are_in_no_rack() -> None:
    """Not a matter of room."""
    sketch = held("n1: ..\nn2: ..").wait("A", "a", tasks=2, gpu=2).change("A", topology=RACK)
    sketch.topologies = (Topology("default", ("rack",)),)
    assert told(sketch)[1:] == (
        "needs 2 x 2 GPUs on one rack; no node has the labels of a rack",
        {"TopologyMismatch": 2},
        {},
    )


def test_segments_and_groups_are_told_by_themselves() -> None:
    """Which part of the gang it is that has no room."""
    sketch = held("n1: b.\nn2: .\nn3: .").stand(r1="n1", r2="n2", r3="n3").wait("A", "a", tasks=2)
    sketch.change("A", topology=TopologyWish("default", None, None, Segments(2, "rack")))
    assert told(sketch) == (
        "Topology", why_not("a segment of it needs 2 x 1 GPU on one rack; the fullest rack (r1) has 1 free"),
        {"TopologyMismatch": 2, "NotEnoughGpu": 1}, {"gpu": 1_000},
    )  # fmt: skip
    sketch = held("n1: b.\nn2: .").stand(r1="n1", r2="n2").wait("A", "a", tasks=2)
    rows = tuple(replace(task, group="x") for task in sketch.workloads["A"].tasks)
    sketch.change("A", groups=(Group("x", 2, None, RACK),), tasks=rows)
    assert told(sketch)[1] == why_not("group x needs 2 x 1 GPU on one rack; the fullest rack (r1) has 1 free")


def test_in_a_rack_cores_memory_and_slices_are_short_on_a_node() -> None:
    """n2 is out of reach, n1 has too little of it."""
    whole = Request((DeviceAsk(1),), 2_500)
    sketch = (
        held("n1: ..\nn2: ....")
        .stand(r1="n1", r2="n2")
        .node("n1", cpu_milli=4_000)
        .node("n2", cpu_milli=4_000)
    )
    assert told(sketch.wait("A", "a", tasks=2, request=whole).change("A", topology=RACK)) == (
        "Topology", f"needs 2 x 1 GPU, 2.5 cores on one rack; even empty, the largest rack (r2) has 4 free; n2 comes nearest and lacks 1 core{NEVER}",
        {"NotEnoughCpu": 1, "TopologyMismatch": 1}, {"cpu": 1_000},
    )  # fmt: skip
    sketch = (
        held("n1: ..\nn2: ..").stand(r1="n1", r2="n2").node("n1", cpu_milli=6_000).node("n2", cpu_milli=4_000)
    )
    assert told(sketch.wait("A", "a", tasks=3, request=Request(cpu_milli=2_500)).change("A", topology=RACK)) == (
        "Topology", f"needs 3 x 2.5 cores on one rack; even empty, the largest rack (r1) has 6 free{NEVER}",
        {"NotEnoughCpu": 1, "TopologyMismatch": 1}, {"cpu": 1_500},
    )  # fmt: skip
    sketch = held("n1: (b4)\nn2: (b3b3)").stand(r1="n1", r2="n2").wait("A", "a", tasks=2, request=slices(3))
    assert told(sketch.change("A", topology=RACK)) == (
        "Topology", why_not("needs 2 x 1 3g.20gb slice on one rack; in the fullest rack (r1), n1 comes nearest and lacks 1 3g.20gb slice"),
        {"NotEnoughSlices": 2}, {"3g.20gb": 1},
    )  # fmt: skip


def test_parts_that_fit_one_by_one_may_not_fit_at_once() -> None:
    """Two groups of two, and one rack with room for two."""
    sketch = held("n1: ..\nn2: .\nn3: .").stand(r1="n1", r2="n2", r3="n3").wait("A", "a", tasks=4)
    rows = tuple(replace(task, group="xxyy"[at]) for at, task in enumerate(sketch.workloads["A"].tasks))
    sketch.change("A", groups=(Group("x", 2, None, RACK), Group("y", 2, None, RACK)), tasks=rows)
    assert told(sketch)[:2] == (
        "Topology", f"needs 4 x 1 GPU; what has to stand together fits part by part, but not all at once, not even on empty nodes{NEVER}",
    )  # fmt: skip


# Queues and budgets


def test_the_steps_of_a_decision_may_be_used_up_before_its_turn() -> None:
    """A is looked at first, and a whole attempt is always made; B's turn doesn't come."""
    sketch = Sketch("n1: bc\nn2: bc", Policy(search_steps=1)).with_queues(
        queue("a", 4), queue("b", 0, weight=0), queue("c", 2)
    )
    sketch.run("b", "b").run("c", "c", preemptible=False).wait("A", "a", gpu=2, priority=60).wait(
        "B", "a", priority=40
    )
    assert hold(sketch, "B").message == (
        "needs 1 GPU; n1 comes nearest and lacks 1 GPU; this decision's search_steps were used up before its turn; a later one goes on"
    )


def test_those_who_ask_the_same_are_held_for_the_same_reason() -> None:
    """The second isn't looked at again, and is told what the first is."""
    sketch = Sketch("n1: bb", Policy(max_evictions=1)).with_queues(queue("a", 4), queue("b", 0, weight=0))
    sketch.run("b", "b").wait("A", "a", gpu=2).wait("B", "a", gpu=2)
    said = "needs 2 GPUs; n1 comes nearest and lacks 2 GPUs; more would have to go for it than the 1 of max_evictions"
    assert [hold(sketch, name).message for name in "AB"] == [said, said]


def test_a_share_that_is_held_takes_nothing_back() -> None:
    """By the first queue on the way up that holds its own."""
    sketch = Sketch("n1: ccbb").with_queues(
        queue("p", 2), queue("a", 1, parent="p"), queue("c", 1, parent="p"), queue("b", 2)
    )
    found = hold(sketch.run("c", "c", preemptible=False).run("b", "b").wait("A", "a"))
    assert (
        found.message
        == "needs 1 GPU; n1 comes nearest and lacks 1 GPU; queue p holds 2 of its share of 2 GPUs and takes nothing back beyond that"
    )


def test_room_that_is_kept_is_told_to_whoever_has_to_wait() -> None:
    """With the time that is left, to the second."""
    sketch = Sketch("n1: bb..").with_queues(queue("q", 9)).run("b", "q", max_duration_ms=60 * MINUTE_MS)
    found = hold(sketch.wait("G", "q", gpu=4, submitted=-MINUTE_MS), "G")
    assert (found.reserved, found.message.rpartition("; ")[2]) == (
        True,
        "room is kept for it in 30m, when running work has ended",
    )
