"""Consolidate: running work moves together so that waiting work fits; everything that moves finds a place."""

from __future__ import annotations

from board import MINUTE_MS, Sketch, after, check, gpus, picture, queue
from gpumax.loop.verify import verify
from gpumax.model.snapshot import Placement, Policy
from gpumax.model.workload import DeviceShare, Group, Task
from gpumax.policy.decide import decide


def one_queue(
    nodes: str, quota: float = 0, *, limit: float | None = None, policy: Policy | None = None
) -> Sketch:
    return Sketch(nodes, policy or Policy()).with_queues(queue("q", quota, limit=limit))


def test_scattered_room_is_brought_together() -> None:
    """Two half-empty nodes become a full and an empty one; one row says what moves, for whom, and where it goes on."""
    sketch = one_queue("n1: b.\nn2: c.").run("b", "q").run("c", "q").wait("A", "q", gpu=2)
    decision = check(sketch, "n1: bc\nn2: AA", evicted=1)
    (moved,) = decision.evictions
    assert (moved.task, moved.cause, moved.beneficiary, moved.restarts_on) == (
        "c-0",
        "consolidate",
        "A",
        "n1",
    )
    assert [share.index for share in moved.devices] == [1]
    assert [place.after for place in decision.places] == [("c-0",)]


def test_free_room_is_used_before_anybody_moves() -> None:
    """Allocate comes first."""
    check(one_queue("n1: b.\nn2: ..").run("b", "q").wait("A", "q", gpu=2), "n1: b.\nn2: AA", evicted=0)


def test_nobody_moves_where_not_everything_finds_a_place() -> None:
    """Two tasks would have to leave, and one GPU is free elsewhere."""
    sketch = one_queue("n1: bb..\nn2: cccc\nn3: .ddd").run("b", "q").run("c", "q").run("d", "q")
    check(sketch.wait("A", "q", gpu=4), "n1: bb..\nn2: cccc\nn3: .ddd", held="A", evicted=0)


def test_nobody_stops_for_what_is_asked_beyond_free_room() -> None:
    """Three GPUs are free, four are asked for: moving helps nobody."""
    sketch = one_queue("n1: bb..\nn2: ccc.").run("b", "q").run("c", "q")
    check(sketch.wait("A", "q", gpu=4), "n1: bb..\nn2: ccc.", held="A", evicted=0)


def test_moving_comes_before_taking_back() -> None:
    """The owner is within its share and could reclaim, but nobody has to stop."""
    sketch = Sketch("n1: b.\nn2: c.").with_queues(queue("a", 4), queue("b", 0, weight=0))
    sketch.run("b", "b").run("c", "b").wait("A", "a", gpu=2)
    decision = check(sketch, "n1: bc\nn2: AA", evicted=1)
    assert decision.evictions[0].cause == "consolidate"


def test_moving_comes_before_preempting() -> None:
    """Priority 90 waits; lower work moves instead of stopping."""
    sketch = one_queue("n1: b.\nn2: c.").run("b", "q").run("c", "q").wait("A", "q", gpu=2, priority=90)
    assert {row.cause for row in check(sketch, "n1: bc\nn2: AA").evictions} == {"consolidate"}


def test_work_of_any_queue_moves_for_work_beyond_its_share() -> None:
    """Shares say nothing where nobody loses: the asker's queue is above its share, the movers' is within its own."""
    sketch = Sketch("n1: ab.\nn2: ac.").with_queues(queue("q", 0, weight=0), queue("p", 4))
    sketch.run("a", "q", min=1, preemptible=False).run("b", "p").run("c", "p").wait("A", "q", gpu=2)
    decision = decide(sketch.snapshot())
    assert [(row.task, row.restarts_on) for row in decision.evictions] == [("c-0", "n1")]


def test_a_limit_forbids_it() -> None:
    """Whoever may not start needs no room."""
    sketch = one_queue("n1: b.\nn2: c.", limit=3).run("b", "q").run("c", "q").wait("A", "q", gpu=2)
    decision = check(sketch, "n1: b.\nn2: c.", held="A", evicted=0)
    assert decision.holds[0].code == "OverLimit"


def test_non_preemptible_work_is_served_within_its_quota() -> None:
    """Two GPUs of quota, two are asked for."""
    sketch = one_queue("n1: b.\nn2: c.", 2).run("b", "q").run("c", "q").wait("A", "q", gpu=2, priority=100)
    check(sketch, "n1: bc\nn2: AA", evicted=1)


def test_non_preemptible_work_beyond_its_quota_moves_nobody() -> None:
    """One GPU of quota, two are asked for."""
    sketch = one_queue("n1: b.\nn2: c.", 1).run("b", "q").run("c", "q").wait("A", "q", gpu=2, priority=100)
    check(sketch, "n1: b.\nn2: c.", held="A", evicted=0)


def test_non_preemptible_work_is_never_moved() -> None:
    """The other node is emptied, though its work is dearer."""
    sketch = one_queue("n1: b.\nn2: c.", 1).run("b", "q", priority=90).run("c", "q", priority=100)
    check(sketch.wait("A", "q", gpu=2), "n1: AA\nn2: cb", evicted=1)


def test_the_lowest_priority_moves() -> None:
    """Rule 6 says who, as for evictions."""
    sketch = one_queue("n1: b.\nn2: c.").run("b", "q", priority=40).run("c", "q", priority=60)
    check(sketch.wait("A", "q", gpu=2), "n1: AA\nn2: cb", evicted=1)


def test_an_extra_moves_before_a_minimum() -> None:
    """A gang loses no time where one of its extras can move."""
    sketch = one_queue("n1: b.\nn2: b.").run("b", "q", min=1)
    decision = check(sketch.wait("A", "q", gpu=2), "n1: bb\nn2: AA", evicted=1)
    assert decision.evictions[0].task == "b-1"


def test_as_few_tasks_as_possible_move() -> None:
    """One node needs two moves, the other one."""
    sketch = one_queue("n1: bc..\nn2: d...").run("b", "q").run("c", "q").run("d", "q")
    check(sketch.wait("A", "q", gpu=4), "n1: bcd.\nn2: AAAA", evicted=1)


def test_a_gang_moves_whole_with_all_its_tasks() -> None:
    """Both tasks of a minimum move, on two nodes, though only one is in the way."""
    sketch = one_queue("n1: b.\nn2: xb\nn3: ..").run("b", "q")
    decision = decide(sketch.wait("A", "q", tasks=2, gpu=2).snapshot())
    assert not decision.places
    assert not decision.evictions
    sketch = one_queue("n1: b.\nn2: xb\nn3: .x\nn4: .x").run("b", "q").wait("A", "q", gpu=2)
    check(sketch, "n1: AA\nn2: x.\nn3: bx\nn4: bx", evicted=2)


def test_a_gang_closes_ranks_on_room_that_it_leaves_itself() -> None:
    """Three GPUs are free, on two nodes: the gang restarts on one of them, where one of its tasks was before."""
    sketch = one_queue("n1: bb.\nn2: b..").run("b", "q").wait("A", "q", gpu=3)
    decision = check(sketch, "n1: AAA\nn2: bbb", evicted=3)
    assert {row.cause for row in decision.evictions} == {"consolidate"}
    assert verify(sketch.snapshot(), decision) == ()


def test_a_gang_closes_ranks_where_many_run() -> None:
    """On more nodes than every set of moves is looked at for."""
    sketch = one_queue("n1: bb.\nn2: b..\n" + "\n".join(f"m{number}: cccc" for number in range(40)))
    sketch.run("b", "q").run("c", "q").wait("A", "q", gpu=3)
    decision = decide(sketch.snapshot())
    assert {row.task for row in decision.evictions} == {"b-0", "b-1", "b-2"}
    assert verify(sketch.snapshot(), decision) == ()


def test_work_takes_the_place_of_work_that_moves_on() -> None:
    """A needs a node of three: b needs two together, which are free on n3 when c has gone to n2."""
    sketch = one_queue("n1: bb.\nn2: .\nn3: c.").run("b", "q").run("c", "q").wait("A", "q", gpu=3)
    large = Task("b-0", "", "running", "n1", (DeviceShare(0, 1000), DeviceShare(1, 1000)), request=gpus(2))
    sketch.change("b", tasks=(large,), groups=(Group("", 1),))
    decision = decide(sketch.snapshot())
    assert {row.task: row.restarts_on for row in decision.evictions} == {"b-0": "n3", "c-0": "n2"}
    assert [(place.task, place.node, place.after) for place in decision.places] == [("A-0", "n1", ("b-0",))]
    assert verify(sketch.snapshot(), decision) == ()


def test_room_that_is_free_now_comes_before_room_that_others_leave() -> None:
    """c could take the place of b; there is a free one, too, where it need not wait."""
    sketch = one_queue("n1: b...\nn2: ccc.\nn3: xxx.\nn4: dddd").run("b", "q").run("c", "q", min=1)
    sketch.run("d", "q", preemptible=False).wait("A", "q", gpu=4)
    decision = check(sketch, "n1: AAAA\nn2: cccb\nn3: xxx.\nn4: dddd", evicted=1)
    assert {row.restarts_on for row in decision.evictions} == {"n2"}


def test_groups_move_together() -> None:
    """The leader goes where its workers go."""
    sketch = one_queue("n1: bb..\nn2: ..xx").run("b", "q", groups=(Group("", 2),))
    check(sketch.wait("A", "q", gpu=4), "n1: AAAA\nn2: bbxx", evicted=2)


def test_a_gang_of_large_tasks_is_served_whole() -> None:
    """Two of three nodes are emptied at once."""
    sketch = one_queue("n1: b...\nn2: c...\nn3: d...").run("b", "q").run("c", "q").run("d", "q")
    check(sketch.wait("A", "q", tasks=2, gpu=4), "n1: bcd.\nn2: AAAA\nn3: AAAA", evicted=2)


def test_fractions_move_onto_one_gpu() -> None:
    """On one node, too: two halves of two devices become one."""
    sketch = one_queue("n1: [b5.5][c5.5]").run("b", "q").run("c", "q").wait("A", "q")
    decision = check(sketch, "n1: [b5c5]A", evicted=1)
    assert decision.evictions[0].restarts_on == "n1"


def test_what_moves_goes_only_where_it_may() -> None:
    """Its selector keeps it from the node that has room."""
    sketch = one_queue("n1: b.\nn2: c.").node("n1", labels={"z": "a"}).run("b", "q", priority=80)
    sketch.run("c", "q", priority=80, selector={"z": "b"}).node("n2", labels={"z": "b"})
    check(sketch.wait("A", "q", gpu=2), "n1: AA\nn2: cb", evicted=1)


def test_nodes_of_a_spread_pool_are_left_alone() -> None:
    """Whoever wants work spread doesn't want it brought together."""
    policy = Policy(placement=Placement("spread"))
    sketch = one_queue("n1: b.\nn2: c.", policy=policy).run("b", "q").run("c", "q").wait("A", "q", gpu=2)
    check(sketch, "n1: b.\nn2: c.", held="A", evicted=0)


def test_a_pool_of_its_own_strategy_counts_by_itself() -> None:
    """Only n1 is spread: the work of n2 moves."""
    policy = Policy(pools={"s": Placement("spread")})
    sketch = (
        one_queue("n1: b.\nn2: c.", policy=policy)
        .node("n1", pool="s")
        .run("b", "q")
        .run("c", "q", priority=90)
    )
    check(sketch.wait("A", "q", gpu=2), "n1: bc\nn2: AA", evicted=1)


def test_work_of_the_own_queue_is_protected_by_its_minimum_runtime_of_preempt() -> None:
    """It ran for half an hour; an hour is given. That of reclaim says nothing here."""
    protected = (queue("q", preempt_ms=60 * MINUTE_MS), queue("q", min_runtime_ms=60 * MINUTE_MS))
    for own, moved in zip(protected, (0, 1), strict=True):
        sketch = Sketch("n1: b.\nn2: c.").with_queues(own)
        sketch.run("b", "q").run("c", "q").wait("A", "q", gpu=2)
        assert len(decide(sketch.snapshot()).evictions) == moved


def test_work_of_other_queues_is_protected_by_its_minimum_runtime_of_reclaim() -> None:
    """The other way round."""
    protected = (queue("p", 4, min_runtime_ms=60 * MINUTE_MS), queue("p", 4, preempt_ms=60 * MINUTE_MS))
    for other, moved in zip(protected, (0, 1), strict=True):
        sketch = Sketch("n1: b.\nn2: c.").with_queues(queue("q", 0, weight=0), other)
        sketch.run("b", "p").run("c", "p").wait("A", "q", gpu=2)
        assert len(decide(sketch.snapshot()).evictions) == moved


def test_moves_count_against_the_bound_on_evictions() -> None:
    """Two would have to move; one may."""
    sketch = one_queue("n1: bc..\nn2: dd..", policy=Policy(max_evictions=1)).run("b", "q").run("c", "q")
    sketch.run("d", "q", priority=100)
    check(sketch.wait("A", "q", gpu=4), "n1: bc..\nn2: dd..", held="A", evicted=0)


def test_whoever_moved_is_not_evicted_in_the_same_decision() -> None:
    """C may take everything back, but c has just been moved for A; a later decision has it go."""
    sketch = Sketch("n1: b.\nn2: c.").with_queues(queue("a", 4), queue("b", 0, weight=0))
    sketch.run("b", "b").run("c", "b").wait("A", "a", gpu=2).wait("C", "a", gpu=2, submitted=9)
    check(sketch, "n1: bc\nn2: AA", held="C", evicted=1)


def test_extras_are_served_one_by_one() -> None:
    """The second finds nobody who could still move."""
    sketch = one_queue("n1: b.\nn2: c.\nn3: xd").run("b", "q").run("c", "q").run("d", "q")
    check(sketch.wait("A", "q", tasks=3, gpu=2, min=1), "n1: bc\nn2: AA\nn3: xd", evicted=1)


def test_what_is_waited_for_is_not_moved_twice() -> None:
    """Decision after decision comes to rest: once A runs, nobody has a reason to move."""
    sketch = one_queue("n1: bc\nn2: AA").run("b", "q").run("c", "q").run("A", "q")
    check(sketch.wait("D", "q", gpu=2), "n1: bc\nn2: AA", held="D", evicted=0)


def test_the_pass_can_be_left_out() -> None:
    """Then the work waits."""
    sketch = one_queue("n1: b.\nn2: c.").run("b", "q").run("c", "q").wait("A", "q", gpu=2)
    assert not decide(sketch.snapshot(), ("allocate", "reclaim", "preempt")).places


def test_no_order_of_queues_moves_the_same_work_for_two() -> None:
    """Two wait for two GPUs each, one pair can be brought together."""
    sketch = Sketch("n1: b.\nn2: c.").with_queues(queue("q", 2), queue("p", 2), queue("r", 2))
    sketch.run("b", "r").run("c", "r").wait("A", "q", gpu=2).wait("D", "p", gpu=2)
    decision = decide(sketch.snapshot())
    assert len(decision.places) == 1
    assert len(decision.evictions) == 1
    assert len(decision.holds) == 1


def test_nobody_moves_for_its_own_extras() -> None:
    """What waits joins its gang where that runs; it doesn't have it move."""
    sketch = one_queue("n1: b.\nn2: b.").run("b", "q", min=1).wait("b", "q", gpu=2, min=1)
    check(sketch, "n1: b.\nn2: b.", held="b", evicted=0)


def test_who_waits_takes_the_nodes_that_others_leave_where_these_need_the_free_one() -> None:
    """Both halves fit on the free GPU together, and nowhere else."""
    sketch = one_queue("n1: [b5.5]\nn2: [b5.5]\nn3: .").run("b", "q")
    decision = check(sketch.wait("A", "q", tasks=2, gpu=0.6), "n1: [A6.4]\nn2: [A6.4]\nn3: b", evicted=2)
    assert {row.restarts_on for row in decision.evictions} == {"n3"}


def test_free_room_is_given_out_to_all_before_anybody_moves_for_the_first() -> None:
    """c might move for A, which is first; but C, behind it, has room without that, and takes it."""
    sketch = (
        one_queue("n1: b.\nn2: c.")
        .run("b", "q")
        .run("c", "q", preemptible=False)
        .wait("A", "q", gpu=2, priority=60)
    )
    check(sketch.wait("C", "q"), "n1: bC\nn2: c.", held="A", evicted=0)


def test_who_is_protected_from_its_own_queue_may_move_for_another() -> None:
    """b may not move for A, of its own queue, and does for C, which is served later."""
    sketch = Sketch("n1: b.\nn2: c.").with_queues(
        queue("p", 9), queue("q", 9, priority=200, preempt_ms=40 * MINUTE_MS)
    )
    sketch.run("b", "q").run("c", "q", preemptible=False).wait("A", "q", gpu=2).wait("C", "p", gpu=2)
    snapshot = sketch.snapshot()
    decision = decide(snapshot, ("allocate", "consolidate"))
    assert after(snapshot, decision) == picture("n1: CC\nn2: cb")
    assert [row.workload for row in decision.holds] == ["A"]
