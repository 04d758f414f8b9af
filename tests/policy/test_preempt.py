"""Preempt: inside one queue, work of higher priority takes the room of work of lower priority, and no more."""

from __future__ import annotations

import pytest

from board import MINUTE_MS, Sketch, check, gpus, queue
from gpumax.loop.verify import verify
from gpumax.model.snapshot import Policy
from gpumax.model.workload import Group, Task, Toleration
from gpumax.policy.decide import decide

pytestmark = pytest.mark.usefixtures("both_searches")


def one_queue(nodes: str, quota: float = 8, *, limit: float | None = None, preempt_ms: int | None = None, policy: Policy | None = None) -> Sketch:  # fmt: skip
    return Sketch(nodes, policy or Policy()).with_queues(
        queue("q", quota, limit=limit, preempt_ms=preempt_ms)
    )


def test_higher_priority_takes_the_room_of_lower_and_no_more() -> None:
    """One victim a GPU that is needed; the cause and for whom are said, and the place waits for who goes."""
    sketch = one_queue("n1: bbbbcccc").run("b", "q", min=1).run("c", "q", min=1, priority=75)
    decision = check(sketch.wait("A", "q", tasks=2, priority=75), "n1: bbAAcccc", evicted=2)
    assert {(eviction.cause, eviction.beneficiary) for eviction in decision.evictions} == {("preempt", "A")}
    assert decision.places[0].after == tuple(sorted(eviction.task for eviction in decision.evictions))


def test_equal_priority_is_not_preempted() -> None:
    """Strictly lower: whoever came later waits."""
    check(one_queue("n1: bbbb").run("b", "q", min=1).wait("A", "q"), "n1: bbbb", held="A", evicted=0)


def test_work_of_another_queue_is_not_preempted() -> None:
    """Priority counts inside a queue; between queues there are shares."""
    sketch = Sketch("n1: bbbb").with_queues(queue("q", 0), queue("p", 4)).run("b", "p", min=1)
    check(sketch.wait("A", "q", priority=90), "n1: bbbb", held="A", evicted=0)


def test_non_preemptible_work_stays_whatever_its_priority() -> None:
    """`preemptible: false` at priority 10 is safe from priority 90."""
    sketch = one_queue("n1: bc").run("b", "q", priority=10, preemptible=False).run("c", "q", priority=60)
    check(sketch.wait("A", "q", priority=90), "n1: bA", evicted=1)


def test_non_preemptible_work_may_preempt_within_quota() -> None:
    """It takes the room of lower work where its queue's quota for such work has room."""
    sketch = one_queue("n1: bbbb", quota=2).run("b", "q", min=1)
    check(sketch.wait("A", "q", tasks=2, priority=100), "n1: bbAA", evicted=2)


def test_non_preemptible_work_preempts_nobody_beyond_quota() -> None:
    """Whoever goes holds none of the quota for non-preemptible work, so that can't help."""
    sketch = one_queue("n1: bbbb", quota=2).run("b", "q", min=1)
    decision = check(sketch.wait("A", "q", tasks=3, priority=100), "n1: bbbb", held="A", evicted=0)
    assert decision.holds[0].code == "OverQuotaNonPreemptible"


def test_a_queue_at_its_limit_preempts_though_nodes_have_room() -> None:
    """The limit is measured with the victims gone."""
    sketch = one_queue("n1: bb..", limit=2).run("b", "q", min=1)
    check(sketch.wait("A", "q", priority=75), "n1: b.A.", evicted=1)


def test_a_limit_above_counts_too_and_siblings_do_not_give_way() -> None:
    """Only the own queue's work goes, where a parent is at its limit."""
    queues = (queue("top", 4, limit=4), queue("q", 2, parent="top"), queue("p", 2, parent="top"))
    sketch = Sketch("n1: bbcc....").with_queues(*queues).run("b", "q", min=1).run("c", "p", min=1)
    check(sketch.wait("A", "q", priority=75), "n1: b.ccA...", evicted=1)


def test_beyond_a_limit_that_victims_can_not_make_room_in_nobody_goes() -> None:
    """Nobody is evicted for work that then is held by a limit."""
    sketch = one_queue("n1: bc..", limit=2).run("b", "q").run("c", "q", priority=75)
    check(sketch.wait("A", "q", tasks=2, priority=75), "n1: bc..", held="A", evicted=0)


def test_the_lowest_priority_goes_first() -> None:
    """Rule 6: the highest priority among the victims is as low as can be."""
    sketch = one_queue("n1: bbcc").run("b", "q", min=1, priority=60).run("c", "q", min=1, priority=40)
    check(sketch.wait("A", "q", tasks=2, priority=75), "n1: bbAA", evicted=2)


def test_extras_go_before_a_minimum_of_equal_priority() -> None:
    """A gang loses what it can do without, last task first."""
    sketch = one_queue("n1: bbbbcc").run("b", "q", min=2).run("c", "q")
    decision = check(sketch.wait("A", "q", tasks=2, priority=75), "n1: bbAAcc", evicted=2)
    assert [eviction.task for eviction in decision.evictions] == ["b-3", "b-2"]


def test_a_gang_goes_whole() -> None:
    """Never below its minimum; what it leaves over is free for others."""
    sketch = one_queue("n1: bbbb").run("b", "q").wait("A", "q", priority=75)
    check(sketch.wait("C", "q", priority=60), "n1: AC..", evicted=4)


def test_the_youngest_goes_among_equals() -> None:
    """Least is lost."""
    sketch = one_queue("n1: bcd")
    for minute, letter in enumerate("bcd"):
        sketch.run(letter, "q", started=(2 - minute) * MINUTE_MS)
    check(sketch.wait("A", "q", priority=75), "n1: Acd", evicted=1)


def test_fewer_tasks_go_rather_than_more() -> None:
    """One task of two GPUs is less of a loss than two of one."""
    sketch = one_queue("n1: bc\nn2: dd").run("b", "q").run("c", "q").run("d", "q")
    check(sketch.wait("A", "q", gpu=2, priority=75), "n1: AA\nn2: dd", evicted=2)


def test_nobody_goes_for_work_that_then_does_not_fit() -> None:
    """Half of a gang's room is no room."""
    sketch = one_queue("n1: bbbb\nn2: cccc").run("b", "q", min=1).run("c", "q", priority=80)
    check(sketch.wait("A", "q", tasks=2, gpu=4, priority=75), "n1: bbbb\nn2: cccc", held="A", evicted=0)


def test_a_gang_preempts_whole() -> None:
    """All tasks of its minimum, on several nodes, at once."""
    sketch = one_queue("n1: bbbb\nn2: cccc").run("b", "q").run("c", "q", min=1)
    check(sketch.wait("A", "q", tasks=2, gpu=4, priority=75), "n1: AAAA\nn2: AAAA", evicted=8)


def test_extras_preempt_one_by_one() -> None:
    """As many as lower work gives, the rest waits without a hold: the workload runs."""
    sketch = one_queue("n1: bbcc").run("b", "q", min=1, priority=40).run("c", "q", priority=90)
    check(sketch.wait("A", "q", tasks=4, min=1, priority=75), "n1: AAcc", evicted=2)


def test_a_minimum_runtime_protects_minimums_but_not_extras() -> None:
    """The minimum that started half an hour ago has an hour; its extras have none."""
    sketch = one_queue("n1: bbbb", preempt_ms=60 * MINUTE_MS).run("b", "q", min=2)
    check(sketch.wait("A", "q", tasks=4, min=1, priority=75), "n1: bbAA", evicted=2)


def test_a_minimum_runtime_that_is_over_protects_nobody() -> None:
    """Twenty of thirty minutes."""
    sketch = one_queue("n1: bb", preempt_ms=20 * MINUTE_MS).run("b", "q")
    check(sketch.wait("A", "q", tasks=2, priority=75), "n1: AA", evicted=2)


def test_a_minimum_runtime_is_inherited_from_the_nearest_queue_above() -> None:
    """Unset at the queue, an hour above it, nothing at the top."""
    queues = (queue("top", preempt_ms=0), queue("mid", parent="top", preempt_ms=60 * MINUTE_MS),
              queue("q", 4, parent="mid"))  # fmt: skip
    sketch = Sketch("n1: bb").with_queues(*queues).run("b", "q")
    check(sketch.wait("A", "q", tasks=2, priority=75), "n1: bb", held="A", evicted=0)


def test_the_minimum_runtime_of_reclaim_is_no_concern_of_preempt() -> None:
    """Each cause has its own."""
    sketch = Sketch("n1: bb").with_queues(queue("q", 2, min_runtime_ms=60 * MINUTE_MS)).run("b", "q")
    check(sketch.wait("A", "q", tasks=2, priority=75), "n1: AA", evicted=2)


def test_victims_restart_elsewhere_where_they_fit() -> None:
    """Who is in the way of a large task is moved where a smaller hole is free."""
    sketch = one_queue("n1: bb\nn2: .").run("b", "q", min=1).wait("A", "q", gpu=2, priority=75)
    decision = check(sketch, "n1: AA\nn2: b", evicted=2)
    assert [eviction.restarts_on for eviction in decision.evictions].count("n2") == 1


def test_moved_work_still_counts_against_the_limit() -> None:
    """With the victim running elsewhere the queue would be over its limit: it stops."""
    sketch = one_queue("n1: bb\nn2: .", limit=2).run("b", "q", min=1)
    decision = check(sketch.wait("A", "q", gpu=2, priority=75), "n1: AA\nn2: .", evicted=2)
    assert {eviction.restarts_on for eviction in decision.evictions} == {None}


def test_an_extra_does_not_restart_without_its_gang() -> None:
    """The minimum has no room elsewhere, so its extra is not moved to the one free GPU either."""
    sketch = one_queue("n1: bbb\nn2: .").run("b", "q", min=2).wait("A", "q", gpu=3, priority=75)
    check(sketch, "n1: AAA\nn2: .", evicted=3)


def test_evictions_are_bounded() -> None:
    """max_evictions holds for all passes together."""
    sketch = one_queue("n1: bbbbbbbb", policy=Policy(max_evictions=2)).run("b", "q", min=1)
    check(sketch.wait("A", "q", tasks=4, min=1, priority=75), "n1: bbbbbbAA", evicted=2)


def test_reclaim_comes_first() -> None:
    """What a queue can take back from others it doesn't take from its own work."""
    sketch = Sketch("n1: bbcc").with_queues(queue("q", 3), queue("p", 1, weight=0))
    sketch.run("b", "q", min=1).run("c", "p", min=1).wait("A", "q", priority=75)
    decision = check(sketch, "n1: bbcA", evicted=1)
    assert decision.evictions[0].cause == "reclaim"


def test_beyond_its_share_a_queue_still_preempts_inside() -> None:
    """The two passes serve one workload: what is its queue's due from others, the rest from its own."""
    sketch = Sketch("n1: bbcccc").with_queues(queue("q", 3), queue("p", 3))
    sketch.run("b", "q", min=1).run("c", "p", min=1).wait("A", "q", tasks=3, min=1, priority=75)
    decision = check(sketch, "n1: AAcccA", evicted=3)
    assert sorted(eviction.cause for eviction in decision.evictions) == ["preempt", "preempt", "reclaim"]


def test_whoever_lost_its_minimum_gets_no_extras_in_the_same_decision() -> None:
    """Its waiting tasks start with its next run."""
    sketch = one_queue("n1: bbb").run("b", "q").wait("b", "q", tasks=1, min=3).wait("A", "q", priority=75)
    check(sketch, "n1: A..", held="b", evicted=3)


def test_fractions_are_preempted_on_one_gpu() -> None:
    """Two halves of one device, not one of each."""
    sketch = one_queue("n1: [b5c5][d5e5]")
    for letter in "bcde":
        sketch.run(letter, "q", priority=60 if letter in "be" else 40)
    check(sketch.wait("A", "q", priority=75), "n1: [b5c5]A", evicted=2)


def test_work_without_gpus_preempts_for_a_task_slot() -> None:
    """Nodes that take no more tasks are room, too, for a task that asks for nothing else."""
    sketch = one_queue("n1: b").node("n1", tasks=1).run("b", "q")
    decision = decide(sketch.wait("A", "q", gpu=0, priority=75).snapshot())
    assert [eviction.task for eviction in decision.evictions] == ["b-0"]
    assert [place.task for place in decision.places] == ["A-0"]


def test_victims_are_on_nodes_that_may_take_the_preemptor() -> None:
    """A taint that it doesn't tolerate keeps it from the cheapest victim."""
    from gpumax.model.node import Taint

    sketch = one_queue("n1: b\nn2: c").node("n1", taints=(Taint("k", "v", "NoSchedule"),))
    sketch.run("b", "q", priority=10, tolerations=(Toleration("k", "Equal", "v"),)).run("c", "q")
    check(sketch.wait("A", "q", priority=75), "n1: b\nn2: A", evicted=1)


def test_groups_keep_their_minimums() -> None:
    """Extras of both roles may go, the minimum of neither by itself."""
    sketch = one_queue("n1: bbbb").run("b", "q")
    rows = tuple(
        t.__class__(t.name, "xy"[number % 2], t.state, t.node, t.devices, request=t.request)
        for number, t in enumerate(sketch.workloads["b"].tasks)
    )
    sketch.change("b", tasks=rows, groups=(Group("x", 1), Group("y", 1)))
    check(sketch.wait("A", "q", tasks=2, priority=75), "n1: bbAA", evicted=2)


def test_passes_can_be_named() -> None:
    """Without preempt the work waits."""
    sketch = one_queue("n1: b").run("b", "q").wait("A", "q", priority=75)
    assert not decide(sketch.snapshot(), ("allocate", "reclaim")).evictions
    assert decide(sketch.snapshot(), ("preempt",)).evictions


def test_tasks_of_a_gang_stay_only_if_there_is_room_for_all_of_them() -> None:
    """Each of three quarters would fit beside what was placed, the three together don't."""
    sketch = one_queue("n1: [b2c2c2c2.2]").run("b", "q", state_="releasing").run("c", "q")
    sketch.wait("A", "q", tasks=2, gpu=0.4, min=1, priority=75)
    check(sketch, "n1: [A8.2]", evicted=3)


def test_a_minimum_stays_where_room_that_others_left_was_given_to_its_extras() -> None:
    """d goes whole for A, and an extra of b takes the rest; C, whom only b's node can serve, may not have b's minimum go after that."""
    sketch = Sketch("n1: b\nn2: dd").with_queues(queue("q", 3), queue("d", 0))
    sketch.run("b", "q", priority=40).wait("b", "q", min=1, priority=40).run("d", "d").wait("A", "q")
    sketch.node("n1", labels={"only": "C"}).wait("C", "q", priority=75, selector={"only": "C"})
    decision = check(sketch, "n1: b\nn2: Ab", held="C", evicted=2)
    assert verify(sketch.snapshot(), decision) == ()


def test_extras_of_a_gang_that_others_made_way_for_start_wherever_there_was_room_anyway() -> None:
    """The third of A asks for less than the others and fits on n2, where nobody had to go."""
    sketch = one_queue("n1: bbbb\nn2: .").run("b", "q", priority=40)
    sketch.wait("A", "q", tasks=3, gpu=2, min=2, priority=60)
    first, second, third = sketch.workloads["A"].tasks
    check(sketch.change("A", tasks=(first, second, Task(third.name, request=gpus(1)))), "n1: AAAA\nn2: A")
