"""Allocate: free room in fair order, gangs whole, nobody moves."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from board import NOW_MS, Sketch, check, gpus, queue
from gpumax.errors import BadFile
from gpumax.model.node import Device, Taint
from gpumax.model.snapshot import Placement, Policy
from gpumax.model.workload import Affinity, DeviceAsk, Expression, Group, NodeTerm, Request, Task, Toleration
from gpumax.policy.decide import decide


def one_queue(nodes: str, policy: Policy | None = None) -> Sketch:
    return Sketch(nodes, policy or Policy()).with_queues(queue("q", 64))


def test_work_is_packed_on_the_node_with_the_least_room_that_fits() -> None:
    check(
        one_queue("n1: ....\nn2: bb..\nn3: bbb.").run("b", "q").wait("A", "q", gpu=2),
        "n1: ....\nn2: bbAA\nn3: bbb.",
    )


def test_spread_takes_the_emptiest_node() -> None:
    policy = Policy(placement=Placement(gpu="spread"))
    check(one_queue("n1: bb..\nn2: b...", policy).run("b", "q").wait("A", "q"), "n1: bb..\nn2: bA..")


def test_a_pool_overrides_the_placement() -> None:
    policy = Policy(pools={"wide": Placement(gpu="spread")})
    sketch = one_queue("n1: bb..\nn2: b...", policy).node("n1", pool="wide").node("n2", pool="wide")
    check(sketch.run("b", "q").wait("A", "q"), "n1: bb..\nn2: bA..")


def test_equal_nodes_are_taken_in_name_order() -> None:
    check(one_queue("n2: ..\nn1: ..").wait("A", "q"), "n1: A.\nn2: ..")


def test_a_gang_waits_whole_rather_than_start_in_part() -> None:
    sketch = (
        one_queue("n1: aaaa....\nn2: bbbbbb..").run("a", "q").run("b", "q").wait("C", "q", tasks=2, gpu=4)
    )
    decision = check(sketch, "n1: aaaa....\nn2: bbbbbb..", held="C")
    (hold,) = decision.holds
    assert (hold.code, hold.short) == ("GangNoRoom", {"gpu": 2000})
    assert "2 x 4 GPUs" in hold.message


def test_a_gang_that_fits_starts_whole() -> None:
    check(
        one_queue("n1: aaaa....\nn2: ....").run("a", "q").wait("C", "q", tasks=2, gpu=4),
        "n1: aaaaCCCC\nn2: CCCC",
    )


def test_large_tasks_of_a_gang_are_placed_before_small_ones_cut_their_hole() -> None:
    sketch = one_queue("n1: ....\nn2: .").wait("A", "q", tasks=1, gpu=1).wait("A", "q", tasks=1, gpu=4)
    check(sketch, "n1: AAAA\nn2: A")


def test_elastic_work_starts_with_its_minimum_and_grows_while_there_is_room() -> None:
    check(one_queue("n1: bb...").run("b", "q").wait("A", "q", tasks=8, min=2), "n1: bbAAA")


def test_elastic_work_waits_where_even_its_minimum_has_no_room() -> None:
    check(one_queue("n1: bb.").run("b", "q").wait("A", "q", tasks=8, min=2), "n1: bb.", held="A")


def test_minimums_come_before_extras() -> None:
    sketch = (
        one_queue("n1: ....")
        .wait("A", "q", tasks=4, min=1, submitted=1)
        .wait("B", "q", tasks=3, min=3, submitted=2)
    )
    check(sketch, "n1: ABBB")


def test_each_group_of_a_gang_reaches_its_minimum_or_none_starts() -> None:
    groups = (Group("leader", 1), Group("worker", 2))
    sketch = one_queue("n1: ..").wait("A", "q", tasks=3, groups=groups)
    rows = sketch.workloads["A"].tasks
    tasks = tuple(
        Task(name=task.name, group=group, request=task.request)
        for task, group in zip(rows, ("leader", "worker", "worker"), strict=True)
    )
    sketch.change("A", tasks=tasks)
    check(sketch, "n1: ..", held="A")
    sketch.nodes = "n1: ..."
    check(sketch, "n1: AAA")


def test_a_gang_with_too_few_tasks_ready_is_incomplete() -> None:
    sketch = one_queue("n1: ....").wait("A", "q", tasks=3)
    first, *others = sketch.workloads["A"].tasks
    sketch.change("A", tasks=(Task(name=first.name, state="gated", request=first.request), *others))
    (hold,) = check(sketch, "n1: ....", held="A").holds
    assert hold.code == "GangIncomplete"


def test_one_task_does_not_start_before_the_other_groups_are_there() -> None:
    sketch = one_queue("n1: ....").wait("A", "q", tasks=1, groups=(Group("a", 1), Group("b", 1)))
    (task,) = sketch.workloads["A"].tasks
    sketch.change("A", tasks=(Task(name=task.name, group="a", request=task.request),))
    (hold,) = check(sketch, "n1: ....", held="A").holds
    assert hold.code == "GangIncomplete"


def test_fractions_share_the_fullest_gpu_that_fits_on_any_node() -> None:
    sketch = one_queue("n1: [a3].\nn2: bbb[c5]\nn3: [d6]...")
    for letter in "abcd":
        sketch.run(letter, "q")
    check(sketch.wait("E", "q", gpu=0.4), "n1: [a3.7].\nn2: bbb[c5.5]\nn3: [E4d6]...")


def test_a_fraction_that_no_shared_gpu_fits_opens_a_new_one() -> None:
    check(one_queue("n1: [a7].").run("a", "q").wait("B", "q", gpu=0.4), "n1: [a7.3][B4.6]")


def test_parts_of_several_gpus_are_on_different_gpus() -> None:
    sketch = one_queue("n1: [a5]..").run("a", "q").wait("B", "q")
    sketch.change("B", tasks=(Task(name="B-0", request=Request(gpu=(DeviceAsk(2, 500),))),))
    check(sketch, "n1: [B5a5][B5.5].")


def test_memory_takes_the_matching_part_of_the_gpu_rounded_up() -> None:
    sketch = one_queue("n1: ..").wait("A", "q")
    sketch.change("A", tasks=(Task(name="A-0", request=gpus(1, memory_mib=20_000)),))
    (place,) = decide(sketch.snapshot()).places
    assert place.devices[0].milli == 245  # ceil(1000 * 20000 / 81920)


def test_unhealthy_gpus_take_nothing() -> None:
    check(one_queue("n1: xx.x").wait("A", "q").wait("B", "q", submitted=1), "n1: xxAx", held="B")


def test_the_model_that_is_asked_for_first_comes_first() -> None:
    request = Request(gpu=(DeviceAsk(2, model="A100"), DeviceAsk(1, model="H100")))
    sketch = one_queue("n1: ....").wait("A", "q")
    sketch.change("A", tasks=(Task(name="A-0", request=request),))
    check(sketch, "n1: A...")


def test_tasks_of_a_gang_may_get_different_models_where_one_alone_is_not_enough() -> None:
    request = Request(gpu=(DeviceAsk(1, model="H100"), DeviceAsk(1, model="A100")))
    sketch = (
        one_queue("n1: .\nn2: .").node("n2", devices=(Device(0, "A100", 40_960),)).wait("A", "q", tasks=2)
    )
    sketch.change("A", tasks=tuple(Task(name=f"A-{rank}", request=request) for rank in range(2)))
    check(sketch, "n1: A\nn2: A")


def test_a_task_that_few_nodes_can_take_finds_its_place_in_the_gang() -> None:
    sketch = (
        one_queue("n1: .b\nn2: ..").node("n1", labels={"zone": "a"}).run("b", "q").wait("A", "q", tasks=2)
    )
    free, bound = sketch.workloads["A"].tasks
    tied = Task(name=bound.name, request=bound.request, selector={"zone": "a"})
    check(sketch.change("A", tasks=(free, tied)), "n1: Ab\nn2: A.")


def test_cores_memory_and_task_slots_bound_a_node() -> None:
    for field, value in (("cpu_milli", 1500), ("memory_mib", 1500), ("tasks", 1)):
        sketch = one_queue("n1: ....").node("n1", **{field: value}).wait("A", "q").wait("B", "q", submitted=1)
        for letter in "AB":
            request = Request(gpu=(DeviceAsk(1),), cpu_milli=1000, memory_mib=1000)
            sketch.change(letter, tasks=(Task(name=f"{letter}-0", request=request),))
        check(sketch, "n1: A...", held="B")


def test_extended_resources_are_counted() -> None:
    sketch = (
        one_queue("n1: ....\nn2: ....")
        .node("n2", extended={"rdma/hca": 1})
        .wait("A", "q")
        .wait("B", "q", submitted=1)
    )
    for letter in "AB":
        request = Request(gpu=(DeviceAsk(1),), extended={"rdma/hca": 1})
        sketch.change(letter, tasks=(Task(name=f"{letter}-0", request=request),))
    (hold,) = check(sketch, "n1: ....\nn2: A...", held="B").holds
    assert hold.nodes == {"NotEnoughExtended": 2}


def test_work_without_gpus_prefers_nodes_without_gpus() -> None:
    sketch = one_queue("n1: ....\nn2:").wait("A", "q", gpu=0)
    (place,) = decide(sketch.snapshot()).places
    assert place.node == "n2"


@pytest.mark.parametrize("change", [{"ready": False}, {"cordoned": True}, {"taints": (Taint("k", "v"),)}])
def test_closed_nodes_take_nothing_new(change: dict[str, object]) -> None:
    check(
        one_queue("n1: bb..\nn2: ....").node("n1", **change).run("b", "q").wait("A", "q"),
        "n1: bb..\nn2: A...",
    )


@pytest.mark.parametrize(
    "toleration",
    [Toleration("k", "Equal", "v"), Toleration("k", "Exists"), Toleration("", "Exists"), Toleration("k", "Equal", "v", "NoSchedule")],
)  # fmt: skip
def test_tolerated_taints_do_not_matter(toleration: Toleration) -> None:
    sketch = one_queue("n1: ..").node("n1", taints=(Taint("k", "v"),))
    check(sketch.wait("A", "q", tolerations=(toleration,)), "n1: A.")


def test_preferred_taints_keep_away_only_while_there_is_room_elsewhere() -> None:
    sketch = (
        one_queue("n1: b.\nn2: .").node("n1", taints=(Taint("k", effect="PreferNoSchedule"),)).run("b", "q")
    )
    check(sketch.wait("A", "q").wait("C", "q", submitted=1), "n1: bC\nn2: A")


def test_the_selector_must_match() -> None:
    sketch = one_queue("n1: ..\nn2: ..").node("n2", labels={"zone": "a"})
    check(sketch.wait("A", "q", selector={"zone": "a"}), "n1: ..\nn2: A.")


@pytest.mark.parametrize(
    ("expression", "node"),
    [
        (Expression("zone", "In", ("a", "c")), "n1"),
        (Expression("zone", "NotIn", ("a",)), "n2"),
        (Expression("size", "Exists"), "n2"),
        (Expression("size", "DoesNotExist"), "n1"),
        (Expression("size", "Gt", ("3",)), "n2"),
        (Expression("size", "Lt", ("9",)), "n2"),
    ],
)
def test_required_node_affinity_is_as_kubernetes_has_it(expression: Expression, node: str) -> None:
    sketch = (
        one_queue("n1: ..\nn2: ..")
        .node("n1", labels={"zone": "a"})
        .node("n2", labels={"zone": "b", "size": "4"})
    )
    sketch.wait("A", "q", affinity=Affinity(required=(NodeTerm((expression,)),)))
    (place,) = decide(sketch.snapshot()).places
    assert place.node == node


def test_preferred_node_affinity_comes_before_packing() -> None:
    sketch = one_queue("n1: b.\nn2: ..").node("n2", labels={"zone": "b"}).run("b", "q")
    wish = ((10, NodeTerm((Expression("zone", "In", ("b",)),))),)
    check(sketch.wait("A", "q", affinity=Affinity(preferred=wish)), "n1: b.\nn2: A.")


def test_a_pool_keeps_its_work() -> None:
    sketch = one_queue("n1: b.\nn2: ..").node("n2", pool="p").run("b", "q")
    check(sketch.wait("A", "q", pool="p"), "n1: b.\nn2: A.")


def test_room_that_releasing_tasks_leave_is_given_with_after() -> None:
    sketch = one_queue("n1: bb").run("b", "q", state_="releasing").wait("A", "q")
    (place,) = decide(sketch.snapshot()).places
    assert (place.node, place.after) == ("n1", ("b-0",))


def test_to_start_now_beats_waiting_for_a_fuller_node() -> None:
    sketch = one_queue("n1: bb\nn2: ....").run("b", "q", state_="releasing").wait("A", "q")
    (place,) = decide(sketch.snapshot()).places
    assert (place.node, place.after) == ("n2", ())


def test_all_of_a_gang_waits_for_what_one_of_it_waits_for() -> None:
    sketch = one_queue("n1: b.").run("b", "q", state_="releasing").wait("A", "q", tasks=2)
    assert [place.after for place in decide(sketch.snapshot()).places] == [("b-0",), ("b-0",)]


def test_room_is_promised_once() -> None:
    sketch = one_queue("n1: b.").run("b", "q", state_="releasing")
    sketch.wait("A", "q", gpu=2, submitted=1).wait("C", "q", submitted=2)
    check(sketch, "n1: AA", held="C")


def test_the_queue_limit_holds_at_every_ancestor() -> None:
    sketch = Sketch("n1: ........").with_queues(queue("top", 8, limit=3), queue("q", 8, parent="top"))
    decision = check(
        sketch.wait("A", "q", gpu=2).wait("B", "q", gpu=2, submitted=1), "n1: AA......", held="B"
    )
    assert (decision.holds[0].code, decision.holds[0].short) == ("OverLimit", {"gpu": 1000})
    assert "queue top" in decision.holds[0].message


def test_non_preemptible_work_fits_the_quota() -> None:
    sketch = Sketch("n1: ....").with_queues(queue("q", 1))
    sketch.wait("A", "q", priority=100).wait("B", "q", priority=100, submitted=1).wait("C", "q", submitted=2)
    decision = check(sketch, "n1: AC..", held="B")
    assert decision.holds[0].code == "OverQuotaNonPreemptible"


def test_gated_tasks_ask_for_nothing() -> None:
    sketch = one_queue("n1: ..").wait("A", "q")
    sketch.change("A", tasks=(Task(name="A-0", state="gated", request=gpus(1)),))
    decision = check(sketch, "n1: ..")
    assert all(share.demand == 0 for share in decision.shares)


def test_running_tasks_without_devices_in_the_file_hold_the_lowest_that_fit() -> None:
    sketch = one_queue("n1: ..").run("b", "q").wait("A", "q")
    running = Task(name="b-0", state="running", node="n1", request=gpus(1))
    sketch.wait("b", "q", tasks=0)
    sketch.change("b", tasks=(running,), started_ms=NOW_MS)
    (place,) = decide(sketch.snapshot()).places
    assert place.devices[0].index == 1


def test_passes_can_be_left_out_and_unknown_ones_are_named() -> None:
    sketch = one_queue("n1: ..").wait("A", "q")
    assert (
        decide(sketch.snapshot(), passes=("reclaim",)).holds
        or decide(sketch.snapshot(), passes=("reclaim",)).places
    )
    assert not decide(sketch.snapshot(), passes=()).places
    with pytest.raises(BadFile, match="alocate"):
        decide(sketch.snapshot(), passes=("alocate",))


def test_no_nodes_at_all_is_answered() -> None:
    sketch = one_queue("").wait("A", "q")
    (hold,) = decide(sketch.snapshot()).holds
    assert hold.code == "NoNodeMatches"


def test_a_gang_larger_than_the_cluster_is_held_and_says_so() -> None:
    sketch = one_queue("n1: ....").wait("A", "q", tasks=10_000)
    (hold,) = decide(sketch.snapshot()).holds
    assert hold.code == "GangNoRoom"
    assert hold.short == {"gpu": 9_996_000}
    assert "can never start" in hold.message


def mixed(limit: float, nodes: str = "n1: ..\nn2: ..") -> Sketch:
    """Two nodes of different models; a workload that takes one H100, or two A100."""
    sketch = Sketch(nodes).with_queues(queue("q", 1, limit=limit)).wait("A", "q")
    for node, model in {"n1": "H100", "n2": "A100"}.items():
        sketch.node(node, devices=tuple(Device(index, model, 80 * 1024) for index in range(2)))
    request = Request(gpu=(DeviceAsk(1, model="H100"), DeviceAsk(2, model="A100")))
    rows = tuple(replace(task, request=request) for task in sketch.workloads["A"].tasks)
    return sketch.change("A", tasks=rows)


def test_an_alternative_that_its_queue_allows_is_taken_though_a_larger_one_is_over_the_limit() -> None:
    """Each alternative counts with its own size."""
    check(mixed(limit=1), "n1: A.\nn2: ..")


def test_an_alternative_beyond_the_limit_is_not_taken_though_a_smaller_one_was_asked_first() -> None:
    """The first alternative would be allowed, but has no room; the second has room, but is too large for the limit."""
    sketch = (
        mixed(limit=1, nodes="n1: bb\nn2: ..")
        .with_queues(queue("other", 4))
        .run("b", "other", preemptible=False)
    )
    check(sketch, "n1: bb\nn2: ..", held="A")
    check(
        mixed(limit=2, nodes="n1: bb\nn2: ..")
        .with_queues(queue("other", 4))
        .run("b", "other", preemptible=False),
        "n1: bb\nn2: AA",
    )


def test_what_asks_for_memory_may_need_the_larger_device_that_a_part_would_take() -> None:
    """60Gi fit the device of 80Gi alone, and beside 0.3 of it no more; 0.3 have room on the smaller one."""
    large, small = Device(0, "H100", 80 * 1024), Device(1, "A100", 40 * 1024)
    sketch = (
        Sketch("n1: ..").with_queues(queue("q", 8)).node("n1", devices=(large, small)).wait("A", "q", gpu=0.3)
    )
    (part,) = sketch.workloads["A"].tasks
    tasks = (part, replace(part, name="A-1", request=gpus(1, memory_mib=60 * 1024)))
    decision = decide(sketch.change("A", tasks=tasks, groups=(Group("", 2),)).snapshot())
    assert {place.task: place.devices[0].index for place in decision.places} == {"A-0": 1, "A-1": 0}
