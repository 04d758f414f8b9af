"""Each rule has a broken decision, drawn small, that the check must catch; and what is left of it when that is dropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from board import MINUTE_MS, NOW_MS, Sketch, gpus, queue
from gpumax.loop.verify import sound, verify
from gpumax.model.amounts import Amounts
from gpumax.model.decision import Decision, Eviction, Hold, Place
from gpumax.model.node import Taint
from gpumax.model.snapshot import Policy, Snapshot
from gpumax.model.workload import (
    Affinity,
    DeviceAsk,
    DeviceShare,
    Expression,
    Group,
    NodeTerm,
    Request,
    Task,
    Toleration,
)
from gpumax.policy.decide import decide
from gpumax.units import UNLIMITED


def answer(snapshot: Snapshot, places: Sequence[Place] = (), evictions: Sequence[Eviction] = ()) -> Decision:
    """A decision with these places and evictions, and whatever else its form demands."""
    owner = {task.name: workload.name for workload in snapshot.workloads for task in workload.tasks}
    placed = {owner[place.task] for place in places if place.task in owner}
    holds = tuple(
        Hold(workload.name, "NoRoom", "")
        for workload in snapshot.workloads
        if workload.name not in placed and any(task.state == "pending" for task in workload.tasks)
    )
    return Decision(tuple(places), tuple(evictions), holds, decide(snapshot).shares)


def rules(snapshot: Snapshot, places: Sequence[Place] = (), evictions: Sequence[Eviction] = ()) -> list[int]:
    """The rules that such a decision breaks, each once."""
    return sorted({found.rule for found in verify(snapshot, answer(snapshot, places, evictions))})


def on(task: str, node: str, *indexes: int, milli: int = 1000, after: Sequence[str] = ()) -> Place:
    """A place on devices of a node."""
    return Place(task, node, tuple(DeviceShare(index, milli) for index in indexes), tuple(after))


def evict(task: str, beneficiary: str, node: str | None = None, *indexes: int) -> Eviction:
    """A task that is reclaimed; moved where a node is given."""
    return Eviction(task, "reclaim", beneficiary, node, tuple(DeviceShare(index, 1000) for index in indexes))


def one_queue(nodes: str, quota: float = 8, limit: float | None = None) -> Sketch:
    return Sketch(nodes).with_queues(queue("q", quota, limit=limit))


def two_queues(nodes: str, a: float = 4, b: float = 0, min_runtime_ms: int | None = None) -> Sketch:
    other = queue("b", b, weight=b or 0, min_runtime_ms=min_runtime_ms)
    return Sketch(nodes).with_queues(queue("a", a), other)


# Form


def test_a_sound_decision_breaks_nothing() -> None:
    """The measure of all that follows."""
    snapshot = one_queue("n1: a.").run("a", "q").wait("w", "q").snapshot()
    assert rules(snapshot, [on("w-0", "n1", 1)]) == []


def test_unknown_tasks_and_nodes_are_found() -> None:
    """Names that the snapshot doesn't hold."""
    snapshot = one_queue("n1: ..").wait("w", "q").snapshot()
    assert rules(snapshot, [on("x-0", "n1", 0)]) == [0]
    assert rules(snapshot, [on("w-0", "n2", 0)]) == [0]
    assert rules(snapshot, [on("w-0", "n1", 0)], [evict("x-0", "w")]) == [0]


def test_only_pending_tasks_are_placed_and_only_active_ones_evicted() -> None:
    """What runs has its place; what has left can't be told to."""
    snapshot = one_queue("n1: ab..").run("a", "q").run("b", "q", state_="releasing").wait("w", "q").snapshot()
    assert rules(snapshot, [on("a-0", "n1", 2), on("w-0", "n1", 3)]) == [0]
    assert 0 in rules(snapshot, [on("w-0", "n1", 2)], [evict("b-0", "w")])


def test_a_task_has_one_row() -> None:
    """Twice placed, or twice evicted."""
    snapshot = two_queues("n1: b...").run("b", "b").wait("w", "a").snapshot()
    assert 0 in rules(snapshot, [on("w-0", "n1", 1), on("w-0", "n1", 2)])
    twice = answer(snapshot, [on("w-0", "n1", 0, after=["b-0"])], [evict("b-0", "w"), evict("b-0", "w")])
    assert verify(snapshot, twice) != ()


def test_a_place_waits_for_nobody_who_stays() -> None:
    """`after` names tasks that are leaving."""
    snapshot = one_queue("n1: a.").run("a", "q").wait("w", "q").snapshot()
    assert rules(snapshot, [on("w-0", "n1", 1, after=["a-0"])]) == [0]


def test_everyone_who_waits_has_one_answer() -> None:
    """No answer, two answers, or an answer to nobody's question."""
    snapshot = one_queue("n1: a.").run("a", "q").wait("w", "q").snapshot()
    decision = answer(snapshot, [on("w-0", "n1", 1)])
    assert len(verify(snapshot, replace(decision, places=()))) == 1
    hold = Hold("w", "NoRoom", "")
    assert len(verify(snapshot, replace(decision, holds=(hold,)))) == 1
    assert len(verify(snapshot, replace(decision, places=(), holds=(hold, hold)))) == 1
    assert len(verify(snapshot, replace(decision, holds=(Hold("a", "NoRoom", ""),)))) == 1
    assert len(verify(snapshot, replace(decision, holds=(Hold("x", "NoRoom", ""),)))) == 1


def test_shares_are_no_more_than_there_is() -> None:
    """Their sum, each queue's due, and what they say of what is held."""
    snapshot = two_queues("n1: bb..").run("b", "b").wait("w", "a").snapshot()
    decision = answer(snapshot, [on("w-0", "n1", 2)])
    assert verify(snapshot, decision) == ()
    for queue_, fields in (
        ("b", {"share": 4000}),
        ("a", {"share": 0}),
        ("b", {"allocated": 0}),
        ("a", {"quota": 1}),
    ):
        shares = tuple(
            replace(row, **fields) if (row.queue, row.resource) == (queue_, "gpu") else row
            for row in decision.shares
        )
        assert verify(snapshot, replace(decision, shares=shares)) != (), (queue_, fields)
    assert verify(snapshot, replace(decision, shares=decision.shares[1:])) != ()


# Rule 1


def test_no_device_is_given_twice() -> None:
    """A device that is held, one that two get, and more than all of a shared one."""
    sketch = one_queue("n1: a[b5]..").run("a", "q").run("b", "q").wait("v", "q").wait("w", "q")
    snapshot = sketch.wait("x", "q", gpu=0.6).snapshot()
    assert rules(snapshot, [on("w-0", "n1", 0)]) == [1]
    assert rules(snapshot, [on("v-0", "n1", 2), on("w-0", "n1", 2)]) == [1]
    assert rules(snapshot, [on("x-0", "n1", 1, milli=600)]) == [1]
    assert rules(snapshot, [on("v-0", "n1", 2), on("x-0", "n1", 3, milli=600)]) == []


def test_room_that_is_not_free_yet_is_waited_for() -> None:
    """A leaving task holds its room; with `after` it is free, and only once."""
    sketch = one_queue("n1: r").run("r", "q", state_="releasing").wait("v", "q").wait("w", "q")
    snapshot = sketch.snapshot()
    assert rules(snapshot, [on("w-0", "n1", 0)]) == [1]
    assert rules(snapshot, [on("w-0", "n1", 0, after=["r-0"])]) == []
    assert rules(snapshot, [on(f"{name}-0", "n1", 0, after=["r-0"]) for name in "vw"]) == [1]


def test_the_wait_is_for_those_whose_room_it_is() -> None:
    """To wait for one task and take the room of another is to start too early."""
    sketch = one_queue("n1: rs").run("r", "q", state_="releasing").run("s", "q", state_="releasing")
    snapshot = sketch.wait("w", "q").snapshot()
    assert rules(snapshot, [on("w-0", "n1", 0, after=["s-0"])]) == [1]


def test_two_that_wait_for_one_task_each_do_not_lean_on_the_same_free_room() -> None:
    """Each fits beside the other's victim; when both have left, one core is missing."""

    def ask(cores: int) -> Request:
        return Request(cpu_milli=cores * 1000)

    sketch = one_queue("n1: .").node("n1", cpu_milli=5000)
    sketch.wait("r", "q", tasks=1, gpu=0).wait("s", "q", gpu=0).wait("t", "q", gpu=0)
    sketch.wait("v", "q", gpu=0).wait("w", "q", gpu=0)
    for name, cores in (("r", 1), ("s", 1), ("t", 2)):
        row = Task(f"{name}-0", state="releasing", node="n1", request=ask(cores))
        sketch.change(name, tasks=(row,))
    for name in "vw":
        sketch.change(name, tasks=(Task(f"{name}-0", request=ask(2)),))
    snapshot = sketch.snapshot()
    places = [Place("v-0", "n1", after=("r-0",)), Place("w-0", "n1", after=("s-0",))]
    assert rules(snapshot, places) == [1]
    assert rules(snapshot, [places[0], Place("w-0", "n1", after=("s-0", "t-0"))]) == []


def test_no_node_is_above_its_cores_memory_tasks_or_other_resources() -> None:
    """Each by itself."""
    asks = {
        "cpu_milli": Request(cpu_milli=600),
        "memory_mib": Request(memory_mib=600),
        "tasks": Request(),
        "extended": Request(extended={"nic": 1}),
    }
    for field, ask in asks.items():
        sketch = one_queue("n1: .").node("n1", cpu_milli=1000, memory_mib=1000, tasks=2, extended={"nic": 2})
        if field == "tasks":
            sketch.node("n1", tasks=1)
        if field == "extended":
            sketch.node("n1", extended={"nic": 1})
        for name in "vw":
            sketch.wait(name, "q", gpu=0).change(name, tasks=(Task(f"{name}-0", request=ask),))
        snapshot = sketch.snapshot()
        assert rules(snapshot, [Place("v-0", "n1")]) == [], field
        assert rules(snapshot, [Place("v-0", "n1"), Place("w-0", "n1")]) == [1], field


def test_moved_work_needs_room_too() -> None:
    """To where it moves, beside all that is there."""
    sketch = two_queues("n1: bb\nn2: c").run("b", "b").run("c", "b").wait("w", "a", gpu=2)
    snapshot = sketch.snapshot()
    evictions = [evict("b-0", "w", "n2", 0), evict("b-1", "w")]
    assert 1 in rules(snapshot, [on("w-0", "n1", 0, 1, after=["b-0", "b-1"])], evictions)


def test_moved_work_may_take_the_room_of_those_who_leave() -> None:
    """c goes where b was, once b has left; not where e stays, nor where w starts."""
    sketch = two_queues("n1: bb\nn2: c.\nn3: e").run("b", "b").run("c", "b").run("e", "b")
    snapshot = sketch.wait("w", "a", gpu=2).snapshot()
    places, gone = [on("w-0", "n2", 0, 1, after=["c-0"])], [evict("b-0", "w"), evict("b-1", "w")]
    assert 1 not in rules(snapshot, places, [*gone, evict("c-0", "w", "n1", 0)])
    assert 1 in rules(snapshot, places, [*gone, evict("c-0", "w", "n3", 0)])
    assert 1 in rules(snapshot, places, [*gone, evict("c-0", "w", "n2", 0)])


# Rule 2


def test_a_gang_is_placed_whole() -> None:
    """Two of three is no gang; with what runs already it may be."""
    snapshot = one_queue("n1: ....").wait("w", "q", tasks=3).snapshot()
    assert rules(snapshot, [on("w-0", "n1", 0), on("w-1", "n1", 1)]) == [2]
    assert rules(snapshot, [on(f"w-{rank}", "n1", rank) for rank in range(3)]) == []
    elastic = one_queue("n1: a...").run("a", "q").wait("a", "q", tasks=2, min=2).snapshot()
    assert rules(elastic, [on("a-1", "n1", 1)]) == []


def test_every_group_has_its_minimum() -> None:
    """Enough tasks in all, but none of the second role."""
    groups = (Group("x", 1), Group("y", 1))
    sketch = one_queue("n1: ....").wait("w", "q", tasks=3, groups=groups)
    roles = ("x", "x", "y")
    rows = tuple(Task(f"w-{rank}", role, request=gpus(1)) for rank, role in enumerate(roles))
    snapshot = sketch.change("w", tasks=rows).snapshot()
    assert rules(snapshot, [on("w-0", "n1", 0), on("w-1", "n1", 1)]) == [2]
    assert rules(snapshot, [on("w-0", "n1", 0), on("w-2", "n1", 1)]) == []


def test_a_gang_starts_together() -> None:
    """One place of the minimum waits, the other does not; an extra may wait alone."""
    sketch = one_queue("n1: r..").run("r", "q", state_="releasing")
    places = [on("w-0", "n1", 0, after=["r-0"]), on("w-1", "n1", 1)]
    assert rules(sketch.wait("w", "q", tasks=2).snapshot(), places) == [2]
    extra = [on("w-0", "n1", 1), on("w-1", "n1", 0, after=["r-0"])]
    assert rules(sketch.change("w", groups=(Group("", 1),)).snapshot(), extra) == []


def test_a_gang_is_not_left_below_its_minimum() -> None:
    """Part of a minimum goes with all of it; and moves with all of it."""
    snapshot = two_queues("n1: bb\nn2: .").run("b", "b").wait("w", "a").snapshot()
    place = [on("w-0", "n1", 0, after=["b-0"])]
    assert 2 in rules(snapshot, place, [evict("b-0", "w")])
    assert 2 in rules(snapshot, place, [evict("b-0", "w"), evict("b-1", "w", "n2", 0)])


def test_an_extra_is_not_moved_without_its_gang() -> None:
    """Its minimum stops: it would run alone."""
    snapshot = two_queues("n1: bbb\nn2: .").run("b", "b", min=2).wait("w", "a", gpu=3).snapshot()
    place = [on("w-0", "n1", 0, 1, 2, after=["b-0", "b-1", "b-2"])]
    stops = [evict("b-0", "w"), evict("b-1", "w")]
    assert 2 in rules(snapshot, place, [evict("b-2", "w", "n2", 0), *stops])
    assert rules(snapshot, place, [evict("b-2", "w"), *stops]) == []


# Rules 3 and 4


def test_no_queue_is_above_its_limit() -> None:
    """The queue's own, and one above it."""
    snapshot = one_queue("n1: a...", limit=2).run("a", "q").wait("w", "q", tasks=2, min=1).snapshot()
    assert rules(snapshot, [on("w-0", "n1", 1)]) == []
    assert rules(snapshot, [on("w-0", "n1", 1), on("w-1", "n1", 2)]) == [3]
    tree = Sketch("n1: a...").with_queues(queue("top", 4, limit=1), queue("q", 4, parent="top"))
    above = tree.run("a", "q").wait("w", "q").snapshot()
    assert rules(above, [on("w-0", "n1", 1)]) == [3]


def test_limits_are_for_cores_and_memory_too() -> None:
    """Each resource that is asked for."""
    narrow = replace(queue("q", 4), limit=Amounts(UNLIMITED, 500, UNLIMITED))
    sketch = Sketch("n1: .").with_queues(narrow).wait("w", "q", gpu=0)
    snapshot = sketch.change("w", tasks=(Task("w-0", request=Request(cpu_milli=600)),)).snapshot()
    assert rules(snapshot, [Place("w-0", "n1")]) == [3]


def test_non_preemptible_work_fits_quota_and_is_never_evicted() -> None:
    """Quota at the queue and above; as a victim it is out of question."""
    snapshot = (
        one_queue("n1: a..", quota=1).run("a", "q", priority=100).wait("w", "q", priority=100).snapshot()
    )
    assert rules(snapshot, [on("w-0", "n1", 1)]) == [4]
    fixed = two_queues("n1: b").run("b", "b", priority=100).wait("w", "a").snapshot()
    assert rules(fixed, [on("w-0", "n1", 0, after=["b-0"])], [evict("b-0", "w")]) == [4]


def test_the_minimum_of_semi_preemptible_work_fits_quota_and_extras_need_not() -> None:
    """Three tasks of four are its minimum: quota for two is too little, quota for three is enough."""
    places = [on(f"w-{number}", "n1", number) for number in range(4)]
    for quota, broken in ((2, [4]), (3, [])):
        sketch = one_queue("n1: ....", quota).wait("w", "q", tasks=4, min=3, preemptible="semi")
        assert rules(sketch.snapshot(), places) == broken


def test_nothing_larger_slips_into_a_minimum_over_quota() -> None:
    """One GPU is safe and there is quota for it; what comes before it in the order of the gang is safe in its place."""
    sketch = one_queue("n1: aa..", quota=1).run("a", "q", min=1, preemptible="semi")
    for request, places, broken in ((gpus(2), (2, 3), [4]), (gpus(1), (2,), [])):
        first = Task("a-", request=request)
        changed = sketch.change("a", tasks=(first, *sketch.workloads["a"].tasks[-2:]))
        assert rules(changed.snapshot(), [on("a-", "n1", *places)]) == broken


def test_the_minimum_of_semi_preemptible_work_is_never_evicted() -> None:
    """Of two tasks the first is safe, the other is an extra."""
    sketch = two_queues("n1: bb", b=0).run("b", "b", min=1, preemptible="semi").wait("w", "a")
    for index, broken in ((0, [4]), (1, [])):
        victim = f"b-{index}"
        places = [on("w-0", "n1", index, after=[victim])]
        assert rules(sketch.snapshot(), places, [evict(victim, "w")]) == broken


# Rules 5 to 8


def test_reclaim_takes_from_above_the_share_alone() -> None:
    """b holds its share; then one more, and no more than that."""
    sketch = two_queues("n1: bbbb", a=2, b=2).run("b", "b", min=1).wait("w", "a", tasks=3, min=1)
    snapshot = sketch.snapshot()
    evictions = [evict(f"b-{rank}", "w") for rank in (3, 2, 1)]

    def take(count: int) -> list[int]:
        gone = [eviction.task for eviction in evictions[:count]]
        places = [on(f"w-{rank}", "n1", 3 - rank, after=gone) for rank in range(count)]
        return rules(snapshot, places, evictions[:count])

    assert take(2) == []
    assert take(3) == [5]


def test_who_reclaims_stays_within_its_share() -> None:
    """b is far above its share, but a has had its own."""
    sketch = Sketch("n1: aabbbb").with_queues(queue("a", 1, weight=0), queue("b", 0), queue("c", 0))
    snapshot = sketch.run("a", "a").run("b", "b", min=1).wait("w", "a").wait("x", "c", tasks=4).snapshot()
    assert 5 in rules(snapshot, [on("w-0", "n1", 2, after=["b-0"])], [evict("b-0", "w")])


def test_reclaim_takes_nothing_from_its_own_queue() -> None:
    """That would be preemption."""
    snapshot = two_queues("n1: a").run("a", "a").wait("w", "a").snapshot()
    assert 5 in rules(snapshot, [on("w-0", "n1", 0, after=["a-0"])], [evict("a-0", "w")])


def test_what_is_taken_is_of_use() -> None:
    """A task on a node that the asker doesn't touch; and evictions for somebody who isn't placed at all."""
    snapshot = two_queues("n1: b.\nn2: c").run("b", "b").run("c", "b").wait("w", "a").snapshot()
    assert rules(snapshot, [on("w-0", "n1", 1)], [evict("c-0", "w")]) == [6]
    assert rules(snapshot, [], [evict("c-0", "w")]) == [6]


def test_no_victim_can_be_spared() -> None:
    """One GPU is asked for and two are cleared."""
    snapshot = two_queues("n1: bc").run("b", "b").run("c", "b").wait("w", "a").snapshot()
    evictions = [evict("b-0", "w"), evict("c-0", "w")]
    assert rules(snapshot, [on("w-0", "n1", 0, after=["b-0"])], evictions) == [6]


def test_a_victim_that_is_in_a_queues_way_is_needed() -> None:
    """The node has room, the limit above has not."""
    tree = (queue("top", 2, limit=2), queue("a", 1, parent="top"), queue("b", 1, parent="top"))
    sketch = Sketch("n1: bb..").with_queues(*tree).run("b", "b", min=1).wait("w", "a")
    assert rules(sketch.snapshot(), [on("w-0", "n1", 2)], [evict("b-1", "w")]) == []


def test_evictions_are_bounded() -> None:
    """As the policy's options say."""
    sketch = two_queues("n1: bb").run("b", "b", min=1).wait("w", "a", gpu=2)
    sketch.policy = Policy(max_evictions=1)
    evictions = [evict("b-1", "w"), evict("b-0", "w")]
    assert rules(sketch.snapshot(), [on("w-0", "n1", 0, 1, after=["b-0", "b-1"])], evictions) == [6]


def test_minimum_runtimes_are_respected() -> None:
    """A minimum that is too young stays; its extras may go."""
    sketch = (
        two_queues("n1: bb", min_runtime_ms=60 * MINUTE_MS)
        .run("b", "b", min=1)
        .wait("w", "a", tasks=2, min=1)
    )
    snapshot = sketch.snapshot()
    extra = [on("w-0", "n1", 1, after=["b-1"])]
    assert rules(snapshot, extra, [evict("b-1", "w")]) == []
    places = [on("w-0", "n1", 1, after=["b-0", "b-1"]), on("w-1", "n1", 0, after=["b-0", "b-1"])]
    assert rules(snapshot, places, [evict("b-1", "w"), evict("b-0", "w")]) == [7]


def test_preempt_needs_a_lower_priority_in_the_same_queue() -> None:
    """Equal is not lower, and another queue is another matter."""
    sketch = two_queues("n1: ab", a=2).run("a", "a").run("b", "b").wait("w", "a", priority=60)
    snapshot = sketch.snapshot()

    def preempt(index: int, victim: str) -> list[int]:
        return rules(snapshot, [on("w-0", "n1", index, after=[victim])], [Eviction(victim, "preempt", "w")])

    assert preempt(0, "a-0") == []
    assert preempt(1, "b-0") == [7]
    sketch.change("w", priority=50)
    snapshot = sketch.snapshot()
    assert preempt(0, "a-0") == [7]


def test_whoever_made_way_is_not_placed_in_the_same_decision() -> None:
    """A task that is evicted and placed has two rows."""
    snapshot = two_queues("n1: b.").run("b", "b").wait("w", "a").snapshot()
    places = [on("w-0", "n1", 0, after=["b-0"]), on("b-0", "n1", 1)]
    decision = answer(snapshot, places, [evict("b-0", "w")])
    assert 8 in {found.rule for found in verify(snapshot, decision)}


# Rule 9


def test_filters_hold() -> None:
    """Whatever a node or a task says about the other."""
    term = NodeTerm((Expression("zone", "In", ("a",)),))
    cases: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"ready": False}, {}),
        ({"cordoned": True}, {}),
        ({"taints": (Taint("k", "v"),)}, {"tolerations": (Toleration("k", "Equal", "w"),)}),
        ({"labels": {"zone": "b"}}, {"selector": {"zone": "a"}}),
        ({"labels": {"zone": "b"}}, {"affinity": Affinity((term,))}),
        ({"pool": "p"}, {"pool": "q"}),
    ]
    for node, wish in cases:
        snapshot = one_queue("n1: .").node("n1", **node).wait("w", "q", **wish).snapshot()
        assert rules(snapshot, [on("w-0", "n1", 0)]) == [9], (node, wish)
    sketch = one_queue("n1: .").node("n1", taints=(Taint("k", "v"),))
    snapshot = sketch.wait("w", "q", tolerations=(Toleration("k", "Exists"),)).snapshot()
    assert rules(snapshot, [on("w-0", "n1", 0)]) == []


def test_devices_are_those_asked_for() -> None:
    """Count, part, model, memory, health, and no device twice."""
    sketch = one_queue("n1: ..x").wait("w", "q", gpu=2)
    snapshot = sketch.snapshot()
    assert rules(snapshot, [on("w-0", "n1", 0)]) == [9]
    assert rules(snapshot, [on("w-0", "n1", 0, 2)]) == [9]
    assert 9 in rules(snapshot, [on("w-0", "n1", 0, 0)])
    assert 9 in rules(snapshot, [on("w-0", "n1", 0, 7)])
    assert 9 in rules(snapshot, [on("w-0", "n1", 0, 1, milli=500)])
    other = sketch.change("w", tasks=(Task("w-0", request=gpus(1, model="A100")),)).snapshot()
    assert rules(other, [on("w-0", "n1", 0)]) == [9]
    memory = sketch.change("w", tasks=(Task("w-0", request=Request(gpu=(DeviceAsk(1, 1000, 20 * 1024),))),))
    assert rules(memory.snapshot(), [on("w-0", "n1", 0, milli=250)]) == []
    assert rules(memory.snapshot(), [on("w-0", "n1", 0, milli=249)]) == [9]


@pytest.mark.parametrize(
    ("nodes", "quota", "limit", "preemptible"),
    [("n1: bb..", 8, None, True), ("n1: bb......", 8, 4, True), ("n1: bb......", 4, None, False)],
    ids=["room", "limit", "quota"],
)
def test_what_is_kept_for_a_gang_is_left_to_it(
    nodes: str, quota: float, limit: float | None, *, preemptible: bool
) -> None:
    """G is told to start when b has ended; x and y come before it, and x will still be there."""
    sketch = one_queue(nodes, quota, limit).run(
        "b", "q", max_duration_ms=60 * MINUTE_MS, preemptible=preemptible
    )
    sketch.wait("G", "q", gpu=4, submitted=-MINUTE_MS, preemptible=preemptible)
    sketch.wait("x", "q", preemptible=preemptible)
    sketch.wait("y", "q", max_duration_ms=MINUTE_MS, preemptible=preemptible)
    snapshot = sketch.snapshot()
    decision = decide(snapshot)
    assert [place.task for place in decision.places] == ["y-0"]
    broken = replace(
        decision,
        places=(*decision.places, on("x-0", "n1", 3)),
        holds=tuple(hold for hold in decision.holds if hold.workload == "G"),
    )
    assert [(found.rule, found.workload) for found in verify(snapshot, broken)] == [(11, "x")]


# What is left


def test_the_guilty_are_dropped_with_all_that_depends_on_them() -> None:
    """w breaks a rule: its places and the evictions for it go, and so does v, which waited for its victim."""
    sketch = two_queues("n1: bc..", a=3).run("b", "b").run("c", "b", priority=100)
    snapshot = sketch.wait("u", "a").wait("v", "a").wait("w", "a").snapshot()
    places = [on("u-0", "n1", 2), on("w-0", "n1", 1, after=["c-0"]), on("v-0", "n1", 1, after=["c-0"])]
    decision = answer(snapshot, places, [evict("c-0", "w")])
    kept = sound(snapshot, decision, verify(snapshot, decision))
    assert kept.places == (places[0],)
    assert kept.evictions == ()


def test_a_decision_without_an_owner_of_its_fault_is_dropped_whole() -> None:
    """Shares that can't be: nothing that rests on them is carried out."""
    snapshot = one_queue("n1: .").wait("w", "q").snapshot()
    decision = replace(answer(snapshot, [on("w-0", "n1", 0)]), shares=())
    kept = sound(snapshot, decision, verify(snapshot, decision))
    assert (kept.places, kept.evictions) == ((), ())


def test_a_missing_answer_takes_nothing_from_others() -> None:
    """It is told, and that is all."""
    snapshot = one_queue("n1: .").wait("v", "q").wait("w", "q").snapshot()
    decision = replace(answer(snapshot, [on("v-0", "n1", 0)]), holds=())
    violations = verify(snapshot, decision)
    assert [found.workload for found in violations] == ["w"]
    assert sound(snapshot, decision, violations) == decision


def test_what_goes_for_nobody_is_a_gang_below_its_minimum_for_longer_than_its_grace() -> None:
    """Whole, after the grace, and only below the minimum."""
    sketch = one_queue("n1: bb").run("b", "q", min=3).change("b", stale_since_ms=NOW_MS - 2 * MINUTE_MS)
    rows = [Eviction("b-0", "stale", ""), Eviction("b-1", "stale", "")]
    assert rules(sketch.snapshot(), (), rows) == []
    assert 4 in rules(sketch.snapshot(), (), rows[:1])
    assert rules(sketch.change("b", groups=(Group("", 2),)).snapshot(), (), rows) == [4]
    assert rules(sketch.change("b", groups=(Group("", 3),), stale_since_ms=None).snapshot(), (), rows) == [4]
