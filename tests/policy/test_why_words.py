"""`why` word by word: what a person reads, and the rows behind it. Each board has one story."""

from __future__ import annotations

from msgspec.structs import replace

from board import MINUTE_MS, NOW_MS, Sketch, gpus, queue, slices
from gpumax.model.amounts import Amounts
from gpumax.model.explanation import Explanation
from gpumax.model.node import Device
from gpumax.model.snapshot import Policy
from gpumax.model.workload import DeviceAsk, Request
from gpumax.policy.decide import decide
from gpumax.policy.explain import explain
from gpumax.units import UNLIMITED

GIB = 1024
ALONE = "Nobody is ahead of it."
NONE_LOWER = "Nobody was evicted for it: no work in q has a lower priority than its 50."
Tried = list[tuple[str, str, str | None, Amounts, float | None]]


def why(sketch: Sketch, name: str = "A") -> Explanation:
    snapshot = sketch.snapshot()
    found = explain(snapshot, decide(snapshot), name)
    assert found is not None
    return found


def said(sketch: Sketch, name: str = "A") -> list[str]:
    return list(why(sketch, name).sentences)


def tried(found: Explanation) -> Tried:
    """By pass and queue: why nobody went, what is held there, and for how many minutes more."""
    return [
        (row.pass_, row.reason, row.queue, row.held, row.until_ms and (row.until_ms - NOW_MS) / MINUTE_MS)
        for row in found.tried
    ]


def needs(found: Explanation) -> list[tuple[str, dict[str, dict[str, int]], dict[str, dict[str, int]]]]:
    return [(row.change, dict(row.queues), dict(row.nodes)) for row in found.needs]


def held(nodes: str, quota: float = 4, *others: str) -> Sketch:
    """Queue a, and queues of one letter without a quota, whose work is never evicted."""
    sketch = Sketch(nodes).with_queues(queue("a", quota), *(queue(name) for name in others or "b"))
    for name in others or "b":
        sketch.run(name, name, preemptible=False)
    return sketch


# Shares


def test_a_share_is_told_for_each_resource_that_is_short() -> None:
    """Cores and memory with their own sums; what is wanted and had is told for the first resource alone."""
    sketch = Sketch("n1: bbbb").node("n1", cpu_milli=16_000, memory_mib=64 * GIB)
    each = Request((DeviceAsk(1),), 3_000, 8 * GIB)
    for name in "ab":
        sketch.with_queues(
            replace(
                queue(name, 2), quota=Amounts(2_000, 4_000, 16 * GIB), weight=Amounts(1_000, 1_000, 1_000)
            )
        )
    sketch.run("b", "b", preemptible=False)
    sketch.change("b", tasks=tuple(replace(task, request=each) for task in sketch.workloads["b"].tasks))
    found = why(sketch.wait("A", "a", request=Request((DeviceAsk(2),), 9_000, 40 * GIB)))
    assert list(found.sentences) == [
        "It waits (NoRoom): needs 2 GPUs, 9 cores, 40Gi of memory; n1 comes nearest and lacks 2 GPUs, 5 cores and 8Gi of memory; "
        "the share of queue a is 8, so it can't have 9 cores while others want theirs.",
        "Queue a has a share of 2 GPUs: all that its work asks for.",
        "Queue a has a share of 8 cores: 4 of its quota and 4 cores of the 8 beyond quotas in the cluster, by weight.",
        "Queue a has a share of 32Gi of memory: 16Gi of its quota and 16Gi of memory of the 32Gi beyond quotas in the cluster, by weight.",
        "It would start with 2 more GPUs, 5 more cores and 8Gi more memory free on n1.",
        ALONE,
    ]  # fmt: skip
    assert [(row.resource, row.rule, row.share, row.quota, row.demand, row.total, row.guaranteed, row.left) for row in found.derived] == [
        ("gpu", "demand", 2_000, 2_000, 2_000, 4_000, 2_000, 0),
        ("cpu", "weight", 8_000, 4_000, 9_000, 16_000, 4_000, 8_000),
        ("memory", "weight", 32 * GIB, 16 * GIB, 40 * GIB, 64 * GIB, 16 * GIB, 32 * GIB),
    ]  # fmt: skip
    assert tried(found) == [("reclaim", "over_share", "a", Amounts(), None)]
    assert {row.queue for row in found.queue} == {"a"}


def test_a_share_is_told_level_by_level_up_to_the_one_that_is_short() -> None:
    """a has what p has left; p has what o, of higher priority, leaves."""
    sketch = Sketch("n1: cccccc..").with_queues(
        queue("r", 8), queue("p", 4, parent="r"), queue("o", 2, parent="r", priority=200),
        queue("a", 1, parent="p"), queue("c", 3, parent="p"),
    )  # fmt: skip
    found = why(sketch.run("c", "c", preemptible=False).wait("A", "a", gpu=4).wait("x", "o", gpu=9))
    assert found.sentences[1:3] == (
        "Queue a has a share of 1 GPU: its quota of 1; beyond quotas queue p has nothing left.",
        "Queue p has a share of 4 GPUs: its quota of 4; the 2 beyond quotas went to queues of higher priority.",
    )
    assert [(row.queue, row.parent, row.rule, row.total, row.guaranteed, row.left) for row in found.derived] == [
        ("a", "p", "nothing_left", 4_000, 1_000, 0),
        ("p", "r", "priority", 8_000, 4_000, 2_000),
        ("r", None, "nothing_left", 8_000, 8_000, 0),
    ]  # fmt: skip


def test_what_others_of_higher_priority_got_is_counted_beyond_their_quota_alone() -> None:
    """b has two of its quota and one beyond; what a lacks is still dealt by weight."""
    sketch = Sketch("n1: bbb...").with_queues(
        queue("a", 1, weight=1), queue("b", 2, priority=200), queue("c", 1, weight=1)
    )
    sketch.run("b", "b", preemptible=False).wait("C", "c", gpu=5)
    found = why(sketch.wait("A", "a", tasks=5, min=5))
    assert [(row.rule, row.share, row.left) for row in found.derived] == [("weight", 2_000, 2_000)]


def test_what_queues_of_another_priority_used_is_not_said_to_count() -> None:
    """b comes first whatever it used; a and c have used nothing."""
    busy = replace(queue("b", 2, priority=200), usage=Amounts(500_000, 0, 0))
    sketch = Sketch("n1: bbb...").with_queues(queue("a", 1, weight=1), busy, queue("c", 1, weight=1))
    sketch.run("b", "b", preemptible=False).wait("C", "c", gpu=5)
    (row,) = why(sketch.wait("A", "a", tasks=5, min=5)).derived
    assert row.rule == "weight"


def test_one_reason_that_the_hold_names_is_not_counted_once_more() -> None:
    """All nodes are cordoned."""
    sketch = held("n1: .\nn2: .", 4).node("n1", cordoned=True).node("n2", cordoned=True).wait("A", "a")
    assert not any(sentence.startswith("Nodes that can't take it") for sentence in said(sketch))


# From whom nothing came


def test_at_most_three_say_why_they_gave_nothing_those_that_hold_most_first() -> None:
    """All of them stand in the rows."""
    sketch = Sketch("n1: bbcccdde").with_queues(queue("a", 3), *(queue(name, 1) for name in "bcde"))
    for name in "bcd":
        sketch.run(name, name, preemptible=False)
    found = why(sketch.run("e", "e").wait("A", "a", gpu=3))
    assert found.sentences[2] == (
        "Nobody was evicted for it: the 3 GPUs of c run non-preemptible work; the 2 GPUs of b run non-preemptible work; "
        "the 2 GPUs of d run non-preemptible work."
    )
    assert tried(found) == [
        ("reclaim", "non_preemptible", "c", Amounts(3_000), None), ("reclaim", "non_preemptible", "b", Amounts(2_000), None),
        ("reclaim", "non_preemptible", "d", Amounts(2_000), None), ("reclaim", "within_share", "e", Amounts(1_000), None),
    ]  # fmt: skip


def test_one_gpu_runs_and_is_protected_in_the_singular() -> None:
    """Verbs agree with what is held."""
    sketch = Sketch("n1: bc").with_queues(
        queue("a", 2), queue("b", 0, min_runtime_ms=34 * MINUTE_MS), queue("c")
    )
    found = said(sketch.run("b", "b").run("c", "c", preemptible=False).wait("A", "a", gpu=2))
    assert found[2] == (
        "Nobody was evicted for it: 1 GPU of b is within its minimum runtime, for 4m more; the 1 GPU of c runs non-preemptible work."
    )


def test_a_guarantee_above_is_told_with_the_queue_below_it() -> None:
    """b is above its own share, but r, above it, is within its own."""
    sketch = Sketch("n1: bbbdddddd").with_queues(
        queue("a", 3, weight=1), queue("r", 4), queue("b", 1, parent="r", weight=0), queue("c", 3, parent="r"), queue("d", 0, weight=0)
    )  # fmt: skip
    found = why(sketch.run("b", "b").run("d", "d", preemptible=False).wait("A", "a", gpu=3))
    assert found.sentences[2] == (
        "Nobody was evicted for it: the 6 GPUs of d run non-preemptible work; "
        "r holds 3 GPUs within its share of 3 GPUs, and b is below it: there is nothing to take back."
    )
    assert [row[1:3] for row in tried(found)] == [("non_preemptible", "d"), ("within_share", "b")]


def test_what_is_beyond_a_share_may_be_in_the_wrong_place() -> None:
    """One GPU of b on each node; the other one never goes."""
    sketch = Sketch("n1: bc\nn2: bc").with_queues(queue("a", 2), queue("b", 0, weight=0), queue("c", 2))
    found = why(sketch.run("b", "b").run("c", "c", preemptible=False).wait("A", "a", gpu=2))
    assert found.sentences[2] == (
        "Nobody was evicted for it: what b holds beyond its share doesn't make enough room where it is needed; "
        "the 2 GPUs of c run non-preemptible work."
    )
    assert tried(found) == [
        ("reclaim", "not_enough", "b", Amounts(2_000), None), ("reclaim", "non_preemptible", "c", Amounts(2_000), None),
    ]  # fmt: skip


def test_work_of_lower_priority_may_be_in_the_wrong_place_too() -> None:
    """And what is not of lower priority isn't counted."""
    sketch = (
        Sketch("n1: bc\nn2: bc")
        .with_queues(queue("q", 4))
        .run("b", "q", priority=40)
        .run("c", "q", priority=60)
    )
    found = why(sketch.wait("A", "q", gpu=2, priority=60))
    assert found.sentences[2] == (
        "Nobody was evicted for it: work of lower priority in q doesn't make enough room where it is needed."
    )
    assert tried(found)[1:] == [("preempt", "not_enough", "q", Amounts(2_000), None)]


def test_a_minimum_runtime_of_its_own_queue_is_told() -> None:
    """The first of the two ends in ten minutes; the start is known to be then."""
    sketch = (
        Sketch("n1: bb")
        .with_queues(queue("q", 2, preempt_ms=40 * MINUTE_MS))
        .run("b", "q", min=2, priority=40)
    )
    found = why(sketch.wait("A", "q", gpu=2, priority=60))
    assert found.sentences[1:5] == (
        "It starts in about 10m if nothing else comes.",
        "Queue q has a share of 2 GPUs: its quota of 2; beyond quotas the cluster has nothing left.",
        "Nobody was evicted for it: 2 GPUs of q are within their minimum runtime, the first for 10m more.",
        "It would start in 10m, when enough work has ended its minimum runtime, or with 2 more GPUs free on n1.",
    )
    assert tried(found)[1:] == [("preempt", "min_runtime", "q", Amounts(2_000), 10)]


def test_a_budget_that_is_used_up_is_all_that_is_told_of_reclaim() -> None:
    """Three would have to go; two may."""
    sketch = (
        Sketch("n1: bbbb", Policy(max_evictions=2))
        .with_queues(queue("a", 4), queue("b", 0, weight=0))
        .run("b", "b")
    )
    found = why(sketch.wait("A", "a", gpu=3))
    assert found.sentences[0].endswith("; more would have to go for it than the 2 of max_evictions.")
    assert (
        found.sentences[2] == "Nobody was evicted for it: more would have to go than the 2 of max_evictions."
    )
    assert tried(found) == [("reclaim", "too_many_evictions", "", Amounts(), None)]


# What would help


def test_the_wait_is_as_long_as_the_second_of_four_is_protected() -> None:
    """Two GPUs are asked for; found by halves, and no later than needed."""
    runtimes = {"b": 34, "c": 40, "d": 50, "e": 60}
    sketch = Sketch("n1: bcde").with_queues(queue("a", 3))
    for name, minutes in runtimes.items():
        sketch.with_queues(queue(name, 0, min_runtime_ms=minutes * MINUTE_MS)).run(name, name)
    for asked, minutes in ((1, 4), (2, 10), (3, 20)):
        found = why(sketch.wait(str(asked), "a", gpu=asked), str(asked))
        del sketch.workloads[str(asked)]
        assert found.needs[0].message == f"in {minutes}m, when enough work has ended its minimum runtime"
        assert found.needs[0].at_ms == NOW_MS + minutes * MINUTE_MS
        assert found.sentences[1] == f"It starts in about {minutes}m if nothing else comes."
    protected = "; ".join(
        f"1 GPU of {name} is within its minimum runtime, for {wait} more"
        for name, wait in (("b", "4m"), ("c", "10m"), ("d", "20m"))
    )
    assert found.sentences[3] == f"Nobody was evicted for it: {protected}."


def test_part_of_a_second_is_waited_for_as_a_whole_one() -> None:
    """Never shorter than it takes."""
    sketch = Sketch("n1: b").with_queues(queue("a", 1), queue("b", 0, min_runtime_ms=30 * MINUTE_MS + 1_500))
    found = said(sketch.run("b", "b").wait("A", "a"))
    assert found[1] == "It starts within a minute if nothing else comes."
    assert found[3] == "Nobody was evicted for it: 1 GPU of b is within its minimum runtime, for 2s more."
    assert found[4].startswith("It would start in 2s, when enough work has ended its minimum runtime, or ")


def test_closed_nodes_that_are_needed_together_are_told_together() -> None:
    """One alone is not enough."""
    sketch = held("n1: b\nn2: .\nn3: .").node("n2", cordoned=True).node("n3", ready=False)
    found = why(sketch.wait("A", "a", tasks=2))
    assert needs(found) == [("node", {}, {"n2": {}, "n3": {}})]
    assert found.sentences[1:] == (
        "Nodes that can't take it: 1 Cordoned, 1 NotEnoughGpu, 1 NotReady.", "It would start with n2 and n3 ready and not cordoned.",
    )  # fmt: skip


def test_the_first_closed_node_that_is_enough_is_told() -> None:
    """The two before it are too small, the one behind it would do as well."""
    sketch = held("n1: b\nn2: .\nn3: .\nn4: ..\nn5: ..")
    for name in ("n2", "n3", "n4", "n5"):
        sketch.node(name, cordoned=True)
    assert needs(why(sketch.wait("A", "a", gpu=2))) == [("node", {}, {"n4": {}})]


def test_parts_and_memory_of_a_gpu_are_missed_in_parts() -> None:
    """0.3 of n1's one GPU is free; 40Gi are half of it."""
    for request in (gpus(0.5), gpus(1, memory_mib=40 * GIB)):
        found = why(held("n1: [b7]").wait("A", "a", request=request))
        assert needs(found) == [("room", {}, {"n1": {"gpu": 200}})]
        assert found.sentences[2:4] == (
            "Nobody was evicted for it: the 0.7 GPU of b runs non-preemptible work.", "It would start with 0.2 more GPU free on n1.",
        )  # fmt: skip


def test_room_is_missed_on_a_node_of_the_model() -> None:
    """One more L4 would be no help."""
    sketch = held("n1: b\nn2: .").node("n2", devices=(Device(0, "L4", 24 * GIB),))
    found = why(sketch.wait("A", "a", request=gpus(1, model="H100")))
    assert needs(found) == [("room", {}, {"n1": {"gpu": 1_000}})]
    assert found.sentences[1] == "Nodes that can't take it: 1 ModelMismatch, 1 NotEnoughGpu."


def test_everything_that_a_node_lacks_is_told_at_once() -> None:
    """GPUs, cores, memory and others; and the slots for tasks."""
    sketch = held("n1: b").node("n1", cpu_milli=8_000, memory_mib=16 * GIB, extended={"nic": 2})
    each = Request((DeviceAsk(1),), 3_000, 8 * GIB, {"nic": 1})
    sketch.change("b", tasks=tuple(replace(task, request=each) for task in sketch.workloads["b"].tasks))
    found = why(sketch.wait("A", "a", request=Request((DeviceAsk(1),), 6_000, 10 * GIB, {"nic": 2})))
    assert needs(found) == [("room", {}, {"n1": {"gpu": 1_000, "cpu": 1_000, "memory": 2 * GIB, "nic": 1}})]
    assert (
        found.sentences[-2]
        == "It would start with 1 more GPU, 1 more core, 2Gi more memory and 1 more nic free on n1."
    )
    found = why(held("n1: b.").node("n1", tasks=1).wait("A", "a"))
    assert needs(found) == [("room", {}, {"n1": {"tasks": 1}})]
    assert found.sentences[-2] == "It would start with 1 more task slot free on n1."


def test_room_that_is_missed_on_many_nodes_is_told_of_three() -> None:
    """And of how many others; the rows hold all."""
    found = why(held("\n".join(f"n{at}: b." for at in range(1, 6)), 12).wait("A", "a", tasks=4, gpu=2))
    assert needs(found) == [("room", {}, {f"n{at}": {"gpu": 1_000} for at in range(1, 5)})]
    assert found.needs[0].message == (
        "with 1 more GPU free on n1, 1 more GPU free on n2, 1 more GPU free on n3 and more on 1 other node"
    )


def test_slices_are_missed_by_profile() -> None:
    """In the plural where it is more than one. Which GPU is cut how is nobody's to change but by hand: no need is told."""
    found = why(held("n1: (b3b3)").wait("A", "a", request=slices(2, 1, 1)))
    assert found.sentences[0] == (
        "It waits (NoRoom): needs 2 1g.5gb slices, 1 2g.10gb slice; n1 comes nearest and lacks 2 1g.5gb slices and 1 2g.10gb slice."
    )
    assert (found.sentences[1:3], found.needs) == ((
        "Queue a has a share of 0.572 GPU: all that its work asks for.",
        "Nobody was evicted for it: the 0.858 GPU of b runs non-preemptible work.",
    ), ())  # fmt: skip


def test_quotas_and_limits_are_raised_wherever_they_are_too_small() -> None:
    """By what is lacking, each, in every resource that is asked for."""
    sketch = (
        Sketch("n1: ....")
        .with_queues(queue("p", 1), queue("a", 1, parent="p"))
        .wait("A", "a", gpu=3, priority=100)
    )
    found = why(sketch)
    assert needs(found) == [("quota", {"a": {"gpu": 2_000}, "p": {"gpu": 2_000}}, {})]
    assert found.sentences == (
        "It waits (OverQuotaNonPreemptible): asks for 3 GPUs; the quota for non-preemptible work of queue a is 1, so it can't start as things are.",
        "It would start with the quota of a raised by 2 GPUs and the quota of p raised by 2 GPUs.",
    )
    sketch = (
        Sketch("n1: b.")
        .with_queues(replace(queue("q", 4), limit=Amounts(UNLIMITED, 4_000, 8 * GIB)))
        .run("b", "q")
    )
    sketch.wait("B", "q", request=Request(cpu_milli=3_000, memory_mib=4 * GIB), priority=60)
    found = why(sketch.wait("A", "q", request=Request(cpu_milli=3_000, memory_mib=5_000)))
    assert needs(found) == [("limit", {"q": {"cpu": 2_000, "memory": 904}}, {})]
    assert found.sentences == (
        "It waits (OverLimit): asks for 3 cores; queue q uses 3 of its limit of 4.",
        "Queue q has a share of 4 cores: as much as its limit allows.",
        "Queue q has a share of 8Gi of memory: as much as its limit allows.",
        "It would start with the limit of q raised by 2 cores and 904Mi of memory.",
        ALONE,
    )


def test_a_quota_that_would_let_it_take_back_is_told_before_room() -> None:
    """a may hold one GPU, and asks for three of those that b holds without a quota."""
    sketch = Sketch("n1: bbbb").with_queues(queue("a", 1, weight=0), queue("b", 0, weight=1)).run("b", "b")
    found = why(sketch.wait("A", "a", gpu=3))
    assert needs(found) == [("quota", {"a": {"gpu": 2_000}}, {}), ("room", {}, {"n1": {"gpu": 3_000}})]
    assert found.sentences[1:] == (
        "Queue a has a share of 1 GPU: its quota of 1; its weight is 0, so it gets nothing beyond.",
        "It would start with the quota of a raised by 2 GPUs, or with 3 more GPUs free on n1.",
        ALONE,
    )


def test_the_quota_for_non_preemptible_work_counts_what_is_used_of_it() -> None:
    """b uses two of three."""
    sketch = Sketch("n1: bb..").with_queues(queue("q", 3)).run("b", "q", priority=100)
    found = why(sketch.wait("A", "q", gpu=2, priority=100))
    assert needs(found) == [("quota", {"q": {"gpu": 1_000}}, {})]
    assert found.sentences[0] == (
        "It waits (OverQuotaNonPreemptible): asks for 2 GPUs; queue q uses 2 of its quota for non-preemptible work of 3."
    )
    assert tried(found) == [
        ("reclaim", "over_share", "q", Amounts(), None), ("preempt", "none_lower", "q", Amounts(2_000), None),
    ]  # fmt: skip


# Who is ahead, and when it starts


def test_of_those_ahead_five_are_named() -> None:
    """In the order in which they are served."""
    sketch = held("n1: bb", 9)
    for number, name in enumerate("HGFEDC"):
        sketch.wait(name, "a", priority=90 - number)
    found = why(sketch.wait("A", "a"))
    assert found.ahead == tuple("HGFEDC")
    assert found.sentences[-1] == "Ahead of it: H, G, F, E, D and 1 more."


def test_when_it_starts_is_told_where_it_is_known() -> None:
    """b ends in half an hour; one for whom room is kept is told in its reason, and once."""
    sketch = Sketch("n1: bb..").with_queues(queue("q", 9)).run("b", "q", max_duration_ms=60 * MINUTE_MS)
    assert said(sketch.wait("A", "q", gpu=4))[1] == "It starts in about 30m if nothing else comes."
    found = said(sketch.change("A", submitted_ms=NOW_MS - 61 * MINUTE_MS))
    assert found[0].endswith("; room is kept for it in 30m, when running work has ended.")
    assert not any(sentence.startswith("It starts") for sentence in found)


def test_who_waits_for_room_that_is_kept_is_told_how_to_start_before() -> None:
    """A bound on its time that is short enough; one that it has is named."""
    sketch = Sketch("n1: bb..").with_queues(queue("q", 9)).run("b", "q", max_duration_ms=60 * MINUTE_MS)
    sketch.wait("G", "q", gpu=4, submitted=-MINUTE_MS).wait("A", "q")
    begin = "It waits (Reserved): needs 1 GPU, which would fit, but is kept for G, which has waited for longer and starts in 30m; "
    assert said(sketch) == [
        begin + "with a max_duration of at most 30m it could start before.",
        "Queue q has a share of 4 GPUs: the cluster has 4 to divide and quotas below it exceed that, so its quota of 9 is cut.",
        NONE_LOWER,
        "Ahead of it: G.",
    ]
    sketch.change("A", max_duration_ms=45 * MINUTE_MS)
    assert (
        said(sketch)[0]
        == begin + "its max_duration is 45m; with max_duration of at most 30m it could start before."
    )
