"""The rules that no decision breaks, where they meet: one board for each half-sentence that the pages of the passes leave out."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from board import MINUTE_MS, NOW_MS, Sketch, check, gpus, queue
from gpumax.loop.verify import verify
from gpumax.model.amounts import Amounts
from gpumax.model.node import Device, Taint
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Placement, Policy
from gpumax.model.workload import DeviceAsk, DeviceShare, Group, Request, Task, Toleration, TopologyWish
from gpumax.policy.decide import PASSES, decide
from gpumax.units import UNLIMITED


def ask(sketch: Sketch, letter: str, request: Request) -> Sketch:
    """Every task of a workload asks for this."""
    rows = sketch.workloads[letter].tasks
    return sketch.change(letter, tasks=tuple(replace(row, request=request) for row in rows))


def test_passes_run_in_one_order_however_they_are_named() -> None:
    """Work moves, though preempt is named before consolidate: who asks could have others stop."""
    sketch = Sketch("n1: b.\nn2: c.").with_queues(queue("q", 4)).run("b", "q").run("c", "q")
    snapshot = sketch.wait("A", "q", gpu=2, priority=75).snapshot()
    for passes in (tuple(PASSES), tuple(reversed(PASSES))):
        assert [(row.cause, row.restarts_on) for row in decide(snapshot, passes).evictions] == [
            ("consolidate", "n1")
        ]


# Limits and quotas


@pytest.mark.parametrize("limit", [Amounts(UNLIMITED, 1000, UNLIMITED), Amounts(UNLIMITED, UNLIMITED, 100)])
def test_a_limit_of_cores_or_memory_holds_like_one_of_gpus(limit: Amounts) -> None:
    """Room for both, and a limit for one."""
    sketch = Sketch("n1: ..").with_queues(replace(queue("q", 4), limit=limit))
    for letter in "AB":
        ask(sketch.wait(letter, "q"), letter, Request(gpu=(DeviceAsk(1),), cpu_milli=1000, memory_mib=100))
    (hold,) = check(sketch, "n1: A.", held="B").holds
    assert hold.code == "OverLimit"


def test_a_limit_is_reached_exactly() -> None:
    """The last tenth of a GPU is allowed."""
    sketch = Sketch("n1: [b5.5]").with_queues(queue("q", 4, limit=1)).run("b", "q")
    check(sketch.wait("A", "q", gpu=0.5), "n1: [A5b5]")


def test_non_preemptible_work_fits_the_quota_of_every_queue_above() -> None:
    """Its own queue has four GPUs of quota, the one above has one."""
    sketch = Sketch("n1: ....").with_queues(queue("top", 1), queue("q", 4, parent="top"))
    sketch.wait("A", "q", gpu=2, priority=100).wait("B", "q", priority=100)
    (hold,) = check(sketch, "n1: B...", held="A").holds
    assert hold.code == "OverQuotaNonPreemptible"
    assert "queue top" in hold.message


def test_preemptible_work_uses_none_of_the_quota_for_non_preemptible_work() -> None:
    """b holds all of the quota, and may be taken back; A fits."""
    sketch = Sketch("n1: bb.").with_queues(queue("q", 2)).run("b", "q").wait("A", "q", priority=100)
    check(sketch, "n1: bbA")


def test_non_preemptible_work_fits_the_quota_as_written_though_shares_are_cut() -> None:
    """a's share is cut to 2 GPUs of its 4; three are within its quota."""
    sketch = Sketch("n1: ....").with_queues(queue("a", 4), queue("c", 4))
    check(sketch.wait("A", "a", gpu=3, priority=100).wait("C", "c", gpu=4), "n1: AAA.", held="C")


def test_what_runs_leaves_less_of_memory_and_other_resources() -> None:
    """Room by count of GPUs, but not of what the second one asks besides."""
    for field, request in (
        ("memory_mib", Request(gpu=(DeviceAsk(1),), memory_mib=600)),
        ("extended", Request(gpu=(DeviceAsk(1),), extended={"nic": 1})),
    ):
        sketch = Sketch("n1: b..").with_queues(queue("q", 9)).run("b", "q").wait("A", "q")
        sketch.node("n1", **{field: {"nic": 1} if field == "extended" else 1000})
        check(ask(ask(sketch, "b", request), "A", request), "n1: b..", held="A")


# Reclaim


def test_the_asker_stays_within_the_share_of_every_queue_above() -> None:
    """x holds all that is its due: its own b makes way, not c, though c's queue is above its share as well."""
    queues = (queue("x", 2, weight=0), queue("y", 1, weight=0), queue("a", 1, parent="x"),
              queue("b", 1, parent="x", weight=0), queue("c", 1, parent="y"))  # fmt: skip
    sketch = Sketch("n1: bbcc").with_queues(*queues).run("b", "b", min=1).run("c", "c", min=1)
    check(sketch.wait("A", "a"), "n1: bAcc", evicted=1)


def test_a_queue_above_its_share_in_what_it_does_not_ask_for_still_takes_back() -> None:
    """a holds two cores of its one, and asks for GPUs alone; with cores asked for it gets nothing."""
    for cores, picture, held in ((0, "n1: abA", ""), (500, "n1: abb", "A")):
        narrow = Queue("a", quota=Amounts(2000, 1000, UNLIMITED), weight=Amounts(0, 0, 0))
        sketch = Sketch("n1: abb").with_queues(narrow, queue("b", 1, weight=0)).run("b", "b", min=1)
        ask(sketch.run("a", "a"), "a", Request(gpu=(DeviceAsk(1),), cpu_milli=2000))
        ask(sketch.wait("A", "a"), "A", Request(gpu=(DeviceAsk(1),), cpu_milli=cores))
        check(sketch, picture, held=held)


def backlog(quota: Amounts) -> Sketch:
    """a owns six of eight GPUs; b and c hold all of them, and together all three want more cores than there are."""
    sketch = Sketch("n1: bbbbcccc").node("n1", cpu_milli=96_000)
    sketch.with_queues(replace(queue("a", 6), quota=quota), queue("b", 1), queue("c", 1))
    sketch.run("b", "b", min=1).wait("b", "b", tasks=6, min=1).run("c", "c", min=1).wait(
        "c", "c", tasks=6, min=1
    )
    sketch.wait("A", "a", tasks=6)
    for letter in "Abc":
        ask(sketch, letter, Request(gpu=(DeviceAsk(1),), cpu_milli=8000))
    return sketch


def test_the_backlog_of_others_in_cores_keeps_nobody_from_taking_its_gpus_back() -> None:
    """Cores are unlimited for all: the quota of six GPUs is good for six."""
    sketch = backlog(Amounts(6000, UNLIMITED, UNLIMITED))
    decision = check(sketch, "n1: bAAAcAAA", held="bc", evicted=6)
    assert verify(sketch.snapshot(), decision) == ()


@pytest.mark.parametrize("cores", [0, 40_000])
def test_where_cores_have_a_quota_the_share_of_them_counts_for_who_takes_back(cores: int) -> None:
    """Six tasks ask for 48 cores."""
    decision = check(backlog(Amounts(6000, cores, UNLIMITED)), "n1: bbbbcccc", held="Abc")
    assert "cores" in decision.holds[0].message


def test_a_limit_of_cores_holds_for_who_takes_back() -> None:
    """The quota is unlimited, the limit is not."""
    cores = Request(gpu=(DeviceAsk(1),), cpu_milli=8000)
    narrow = replace(queue("a", 2), limit=Amounts(UNLIMITED, 8000, UNLIMITED))
    sketch = Sketch("n1: bb").with_queues(narrow, queue("b", 0)).run("b", "b", min=1)
    check(ask(sketch.wait("A", "a", tasks=2, min=1), "A", cores), "n1: bA", evicted=1)


def closed(sketch: Sketch, letter: str) -> Sketch:
    """n2 is for this workload alone."""
    sketch.node("n2", taints=(Taint("k"),))
    rows = sketch.workloads[letter].tasks
    return sketch.change(
        letter, tasks=tuple(replace(row, tolerations=(Toleration("k", "Exists"),)) for row in rows)
    )


def test_work_within_its_queues_share_stays_though_nobody_else_could_make_way() -> None:
    """c's queue is far above its share, but stands where A may not run; b's holds what is its due."""
    sketch = Sketch("n1: bb\nn2: cc").with_queues(queue("a", 2), queue("b", 2), queue("c", 0, weight=0))
    sketch.run("b", "b", min=1).run("c", "c", min=1).wait("A", "a")
    check(closed(sketch, "c"), "n1: bb\nn2: cc", held="A", evicted=0)


def test_an_owner_within_its_share_keeps_its_work_though_the_queue_above_it_is_beyond_its_own() -> None:
    """y holds four of its two GPUs, all but one of them by its other child."""
    queues = (queue("x", 2), queue("y", 2), queue("a", 2, parent="x"), queue("b", 1, parent="y"),
              queue("c", 1, parent="y"))  # fmt: skip
    sketch = Sketch("n1: b\nn2: ccc").with_queues(*queues).run("b", "b").run("c", "c", min=1).wait("A", "a")
    check(closed(sketch, "c"), "n1: b\nn2: ccc", held="A", evicted=0)


def test_work_within_quota_takes_what_is_above_its_owners_quota_though_within_its_share() -> None:
    """b's queue has a share of 2 and a quota of 1. Who asks beyond its own quota gets nothing of that."""
    for quota, picture, held in ((1, "n1: bA\nn2: c", ""), (0, "n1: bb\nn2: c", "A")):
        queues = (queue("a", quota, weight=1), queue("b", 1), queue("c", 0, weight=0))
        sketch = Sketch("n1: bb\nn2: c").with_queues(*queues).run("b", "b", min=1).run("c", "c")
        check(closed(sketch.wait("A", "a"), "c"), picture, held=held)


def test_a_queue_at_its_share_takes_nothing_though_others_are_above_theirs() -> None:
    """One GPU is a's due, and it has it; what b holds above its own is nobody's."""
    sketch = Sketch("n1: abbb").with_queues(queue("a", 1, weight=0), queue("b", 1, weight=0))
    check(sketch.run("a", "a").run("b", "b", min=1).wait("A", "a"), "n1: abbb", held="A", evicted=0)


def test_each_step_of_a_reclaim_starts_above_the_share_of_the_giver() -> None:
    """With b gone the queue holds its share of 2: c stays, and so b does, too."""
    sketch = Sketch("n1: bc\nn2: d\nn3: .").with_queues(queue("a", 2), queue("b", 2))
    sketch.run("b", "b").run("c", "b").run("d", "b").wait("A", "a", gpu=2).node("n3", taints=(Taint("k"),))
    check(sketch, "n1: bc\nn2: d\nn3: .", held="A", evicted=0)


def test_a_gang_goes_whole_where_its_extras_are_not_enough() -> None:
    """Two roles of a minimum of one each: two tasks could go alone, three can't."""
    sketch = Sketch("n1: bbbb").with_queues(queue("a", 3), queue("b", 0, weight=0)).run("b", "b")
    rows = (replace(row, group="xy"[rank % 2]) for rank, row in enumerate(sketch.workloads["b"].tasks))
    sketch.change("b", tasks=tuple(rows), groups=(Group("x", 1), Group("y", 1)))
    check(sketch.wait("A", "a", tasks=3), "n1: AAA.", evicted=4)


def test_what_was_saved_is_not_lost() -> None:
    """b ran for longer, but has saved a minute ago; c five minutes ago."""
    sketch = Sketch("n1: bc").with_queues(queue("a", 1), queue("b", 0, weight=0))
    sketch.run("b", "b").run("c", "b", started=20 * MINUTE_MS)
    sketch.change("b", checkpointed_ms=NOW_MS - MINUTE_MS).change("c", checkpointed_ms=NOW_MS - 5 * MINUTE_MS)
    check(sketch.wait("A", "a"), "n1: Ac", evicted=1)


def test_less_device_time_is_lost_before_the_younger_goes() -> None:
    """b ran half an hour on one GPU, c twenty minutes on two: b goes, though it is the older."""
    sketch = Sketch("n1: bcc").with_queues(queue("a", 1), queue("b", 0, weight=0)).run("b", "b")
    sketch.run("c", "b", started=10 * MINUTE_MS)
    both = (DeviceShare(1, 1000), DeviceShare(2, 1000))
    row = Task("c-0", state="running", node="n1", request=gpus(2), devices=both)
    sketch.change("c", tasks=(row,), groups=(Group("", 1),))
    check(sketch.wait("A", "a"), "n1: Acc", evicted=1)


def test_of_those_who_lose_the_same_the_younger_goes() -> None:
    """Both have saved at the same moment; b started later, though c is the later name."""
    sketch = Sketch("n1: bc").with_queues(queue("a", 1), queue("b", 0, weight=0))
    sketch.run("b", "b", started=10 * MINUTE_MS).run("c", "b")
    for letter in "bc":
        sketch.change(letter, checkpointed_ms=NOW_MS - 5 * MINUTE_MS)
    check(sketch.wait("A", "a"), "n1: Ac", evicted=1)


def test_whose_queue_gives_comes_before_whose_priority_is_lower() -> None:
    """c's queue is twice as far above its share; b's work has the lower priority."""
    queues = (queue("a", 1, weight=0), queue("b", 1, weight=0), queue("c", 1, weight=0))
    sketch = Sketch("n1: bbccc").with_queues(*queues).run("b", "b", min=1, priority=10)
    check(sketch.run("c", "c", min=1).wait("A", "a"), "n1: bbccA", evicted=1)


def test_a_lower_priority_goes_before_an_extra_of_higher_priority() -> None:
    """A whole gang of priority 40 rather than an extra of 60."""
    sketch = Sketch("n1: bbcc").with_queues(queue("a", 1), queue("b", 0, weight=0))
    sketch.run("b", "b", min=1, priority=60).run("c", "b", priority=40)
    check(sketch.wait("A", "a"), "n1: bbA.", evicted=2)


def test_an_extra_goes_though_a_minimum_would_lose_less() -> None:
    """c has just started; b's extra has run for half an hour."""
    sketch = Sketch("n1: bbc").with_queues(queue("a", 1), queue("b", 0, weight=0))
    sketch.run("b", "b", min=1).run("c", "b", started=29 * MINUTE_MS)
    check(sketch.wait("A", "a"), "n1: bAc", evicted=1)


# Where


def test_work_without_gpus_keeps_off_nodes_with_gpus_before_it_is_packed() -> None:
    """n1 is the fuller node, but has GPUs."""
    for strategy in (Placement(), Placement(cpu="spread")):
        sketch = Sketch("n1: .\nn2:", Policy(strategy)).with_queues(queue("q", 4)).wait("A", "q", gpu=0)
        small, large = ("n1", "n2") if strategy == Placement() else ("n2", "n1")
        ask(sketch, "A", Request(cpu_milli=1000))
        sketch.node(small, cpu_milli=2000).node(large, cpu_milli=64_000)
        (place,) = decide(sketch.snapshot()).places
        assert place.node == "n2"


def test_gpus_and_cores_have_a_strategy_each() -> None:
    """GPUs are packed, and work without GPUs is spread, in one pool."""
    sketch = Sketch("n1: b..\nn2: ...\nn3:\nn4:", Policy(Placement(gpu="pack", cpu="spread")))
    sketch.with_queues(queue("q", 9)).run("b", "q").wait("c", "q").wait("A", "q").wait("B", "q")
    running = Task("c-0", state="running", node="n3", request=Request(cpu_milli=4000))
    ask(sketch.change("c", tasks=(running,)), "B", Request(cpu_milli=1000))
    assert {row.task: row.node for row in decide(sketch.snapshot()).places} == {"A-0": "n1", "B-0": "n4"}


def test_a_place_waits_for_nobody_on_a_device_that_has_room_anyway() -> None:
    """Cores are what A waits for, and c has them; b leaves its part of the same GPU unasked."""
    sketch = Sketch("n1: [b3.7]c").with_queues(queue("q", 9)).node("n1", cpu_milli=1000)
    sketch.run("b", "q", state_="releasing").run("c", "q", state_="releasing").wait("A", "q")
    ask(sketch, "c", Request(gpu=(DeviceAsk(1),), cpu_milli=1000))
    (place,) = decide(ask(sketch, "A", Request(gpu=(DeviceAsk(1, 500),), cpu_milli=500)).snapshot()).places
    assert (place.devices, place.after) == ((DeviceShare(0, 500),), ("c-0",))


def test_of_two_models_that_are_there_the_first_is_taken() -> None:
    """Whichever node comes first, and whichever model."""
    for models, picture in ((("H100", "A100"), "n1: A\nn2: ."), (("A100", "H100"), "n1: .\nn2: A")):
        sketch = Sketch("n1: .\nn2: .").with_queues(queue("q", 9)).wait("A", "q")
        sketch.node("n2", devices=(Device(0, "A100", 81_920),))
        check(ask(sketch, "A", Request(gpu=tuple(DeviceAsk(1, model=model) for model in models))), picture)


def test_a_rack_without_a_zone_is_no_domain_to_stand_in() -> None:
    """n1 has room for all, but says of no wider level where it stands."""
    sketch = (
        Sketch("n1: ....\nn2: ..")
        .with_queues(queue("q", 9))
        .stand(a__r1="n2")
        .node("n1", labels={"rack": "r1"})
    )
    check(
        sketch.wait("A", "q", tasks=3, topology=TopologyWish("default", "rack")), "n1: ....\nn2: ..", held="A"
    )


# What requests count


def test_memory_counts_by_the_smallest_healthy_gpu_of_its_pool_until_it_is_placed() -> None:
    """Not by the smaller one that is unhealthy, nor by the smallest of another pool."""
    sketch = Sketch("n1: .\nn2: .").with_queues(queue("q", 4)).wait("A", "q", pool="p")
    healthy = (Device(0, "H100", 81_920), Device(1, "A100", 40_960), Device(2, "L4", 24_576, healthy=False))
    sketch.node("n1", pool="p", devices=healthy).node("n2", devices=(Device(0, "L4", 24_576),))
    ask(sketch, "A", gpus(1, memory_mib=20_480))
    (row,) = (row for row in decide(sketch.snapshot()).shares if row.resource == "gpu")
    assert row.demand == 500


def test_memory_counts_by_the_gpu_that_it_got_once_it_is_placed() -> None:
    """Half of the smallest GPU, a quarter of the one it gets: a limit of three quarters holds two."""
    sketch = Sketch("n1: .\nn2: c").with_queues(queue("q", 4, limit=0.75), queue("p", 1)).run("c", "p")
    sketch.node("n2", devices=(Device(0, "A100", 40_960),))
    for letter in "AB":
        ask(sketch.wait(letter, "q"), letter, gpus(1, memory_mib=20_480))
    decision = decide(sketch.snapshot())
    assert [share.milli for place in decision.places for share in place.devices] == [250, 250]


def test_devices_of_a_place_stand_in_the_order_of_their_index() -> None:
    """The fullest is chosen first, and named second."""
    sketch = Sketch("n1: [b3][c5]").with_queues(queue("q", 4)).run("b", "q").run("c", "q").wait("A", "q")
    (place,) = decide(ask(sketch, "A", Request(gpu=(DeviceAsk(2, 300),))).snapshot()).places
    assert place.devices == (DeviceShare(0, 300), DeviceShare(1, 300))


# States of tasks


def test_bound_work_holds_its_room_and_counts_like_running_work() -> None:
    """Not started yet, but its place is its own."""
    sketch = Sketch("n1: b.").with_queues(queue("q", 2, limit=1)).run("b", "q", state_="bound").wait("A", "q")
    decision = check(sketch, "n1: b.", held="A")
    assert decision.holds[0].code == "OverLimit"
    assert [(row.allocated, row.demand) for row in decision.shares if row.resource == "gpu"] == [(1000, 2000)]


def test_bound_work_is_taken_back_like_running_work() -> None:
    """It holds what is a's due."""
    sketch = Sketch("n1: bb").with_queues(queue("a", 1), queue("b", 1)).run("b", "b", min=1, state_="bound")
    check(sketch.wait("A", "a"), "n1: bA", evicted=1)


@pytest.mark.parametrize("state", ["succeeded", "failed"])
def test_work_that_is_done_holds_nothing_and_asks_for_nothing(state: str) -> None:
    """Whatever its row still says of a node."""
    sketch = Sketch("n1: .").with_queues(queue("q", 2)).wait("b", "q").wait("A", "q")
    done = Task("b-0", state=state, node="n1", devices=(DeviceShare(0, 1000),), request=gpus(1))  # type: ignore[arg-type]
    decision = check(sketch.change("b", tasks=(done,)), "n1: A")
    assert [(row.allocated, row.demand) for row in decision.shares if row.resource == "gpu"] == [(0, 1000)]


def test_leaving_work_holds_its_room_until_it_is_gone() -> None:
    """Without free room A waits for it by name; it counts in its queue no more."""
    sketch = (
        Sketch("n1: b").with_queues(queue("q", 2, limit=1)).run("b", "q", state_="releasing").wait("A", "q")
    )
    (place,) = decide(sketch.snapshot()).places
    assert place.after == ("b-0",)


def test_work_of_which_nothing_is_pending_needs_no_answer() -> None:
    """It runs, is gated, or is done; even in a queue that does not exist."""
    sketch = Sketch("n1: b.").with_queues(queue("q", 2)).run("b", "q").wait("g", "nowhere")
    (row,) = sketch.workloads["g"].tasks
    decision = check(sketch.change("g", tasks=(replace(row, state="gated"),)), "n1: b.")
    assert (decision.places, decision.holds) == ((), ())


def test_nobody_is_spared_whose_going_somebody_else_counted_on() -> None:
    """B takes r's two cores back, and C has s go, so that its queue holds no more than its limit of four: r's would fit again beside B."""
    tight = Queue(
        "a", quota=Amounts(0, 0, 0), limit=Amounts(UNLIMITED, 4000, UNLIMITED), weight=Amounts(0, 0, 0)
    )
    sketch = Sketch("n1:\nn2:").with_queues(tight, Queue("b", quota=Amounts(0, 2000, 0)))
    for name in ("n1", "n2"):
        sketch.node(name, cpu_milli=4000, labels={"on": name})
    for letter, priority in (("r", 40), ("s", 50)):
        row = Task(
            f"{letter}-0", state="running", node="n1", request=Request(cpu_milli=2000), selector={"on": "n1"}
        )
        sketch.wait(letter, "a", priority=priority).change(
            letter, tasks=(row,), started_ms=NOW_MS - MINUTE_MS
        )
    ask(sketch.wait("B", "b", selector={"on": "n1"}), "B", Request(cpu_milli=2000))
    ask(sketch.wait("C", "a", priority=75, selector={"on": "n2"}), "C", Request(cpu_milli=4000))
    decision = decide(sketch.snapshot())
    assert {place.task for place in decision.places} == {"B-0", "C-0"}
    assert {(row.task, row.cause) for row in decision.evictions} == {("r-0", "reclaim"), ("s-0", "preempt")}
    assert verify(sketch.snapshot(), decision) == ()


def test_nobody_is_spared_beside_whom_its_own_queue_could_not_have_taken_back() -> None:
    """W takes c's cores back, and A, of c's queue, b's GPU: c's cores are free again then, but with c its queue is above its share."""
    sketch = (
        Sketch("n1: b")
        .node("n1", cpu_milli=5000)
        .with_queues(
            Queue("p", quota=Amounts(1000, 1000, 0), weight=Amounts(0, 0, 0)),
            Queue("q", quota=Amounts(0, 4000, 0), weight=Amounts(0, 0, 0)),
        )
    )
    ask(sketch.run("b", "q"), "b", Request(gpu=(DeviceAsk(1),), cpu_milli=2000))
    row = Task("c-0", state="running", node="n1", request=Request(cpu_milli=2000))
    sketch.wait("c", "p").change("c", tasks=(row,), started_ms=NOW_MS - MINUTE_MS)
    ask(sketch.wait("W", "q"), "W", Request(cpu_milli=2000))
    ask(sketch.wait("A", "p"), "A", Request(gpu=(DeviceAsk(1),), cpu_milli=1000))
    decision = decide(sketch.snapshot())
    assert {place.task for place in decision.places} == {"A-0", "W-0"}
    assert {row.task for row in decision.evictions} == {"b-0", "c-0"}
    assert verify(sketch.snapshot(), decision) == ()
