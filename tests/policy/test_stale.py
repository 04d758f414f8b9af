"""Stale: a gang that stays below its minimum for longer than its grace gives everything back."""

from __future__ import annotations

from board import MINUTE_MS, NOW_MS, Sketch, check, queue
from gpumax.loop.verify import verify
from gpumax.model.snapshot import Policy
from gpumax.model.workload import Group, Task
from gpumax.policy.decide import decide


def gang(
    nodes: str, since_ms: int | None = 2 * MINUTE_MS, *, policy: Policy | None = None, **changes: int
) -> Sketch:
    """A workload b, of which the picture shows too few tasks, for so long."""
    sketch = Sketch(nodes, policy or Policy()).with_queues(queue("q", 4))
    sketch.run("b", "q", min=3, **changes)
    return sketch.change("b", stale_since_ms=None if since_ms is None else NOW_MS - since_ms)


def test_what_is_left_of_a_gang_goes_after_its_grace() -> None:
    """A minute, unless the policy says otherwise; for nobody, and nowhere else."""
    decision = check(gang("n1: bb.."), "n1: ....", evicted=2)
    assert {(row.cause, row.beneficiary, row.restarts_on) for row in decision.evictions} == {
        ("stale", "", None)
    }


def test_a_gang_within_its_grace_stays() -> None:
    """Fifty-nine seconds are not a minute; sixty are."""
    check(gang("n1: bb..", 59_000), "n1: bb..", evicted=0)
    check(gang("n1: bb..", 60_000), "n1: ....", evicted=2)


def test_the_grace_is_an_option_of_the_policy() -> None:
    """Five minutes are given, two have passed."""
    check(gang("n1: bb..", policy=Policy(stale_grace_ms=5 * MINUTE_MS)), "n1: bb..", evicted=0)


def test_unset_means_since_now() -> None:
    """Whoever doesn't say since when has the whole grace before it."""
    check(gang("n1: bb..", None), "n1: bb..", evicted=0)
    check(gang("n1: bb..", None, policy=Policy(stale_grace_ms=0)), "n1: ....", evicted=2)


def test_a_gang_at_its_minimum_stays_whatever_its_file_says() -> None:
    """The minimum counts, not the mark."""
    check(gang("n1: bbb."), "n1: bbb.", evicted=0)


def test_non_preemptible_work_goes_too() -> None:
    """The one pass that may: it holds room and gets nothing done."""
    check(gang("n1: bb..", priority=100), "n1: ....", evicted=2)


def test_work_that_was_just_placed_is_not_below_its_minimum() -> None:
    """Judged after the other passes."""
    sketch = (
        gang("n1: bb..").wait("b", "q", tasks=1, min=3).change("b", stale_since_ms=NOW_MS - 2 * MINUTE_MS)
    )
    check(sketch, "n1: bbb.", evicted=0)


def test_room_that_is_still_held_counts_for_what_waits_for_it() -> None:
    """The missing task is placed on room that another is leaving."""
    sketch = gang("n1: bbc").run("c", "q", state_="releasing").wait("b", "q", tasks=1, min=3)
    decision = decide(sketch.change("b", stale_since_ms=NOW_MS - 2 * MINUTE_MS).snapshot())
    assert [place.task for place in decision.places] == ["b-2"]
    assert not decision.evictions


def test_a_gang_of_which_a_task_has_succeeded_stays() -> None:
    """It is ending, not broken."""
    sketch = gang("n1: bb..")
    rows = (*sketch.workloads["b"].tasks, Task("b-2", state="succeeded"))
    check(sketch.change("b", tasks=rows, groups=(Group("", 4),)), "n1: bb..", evicted=0)


def test_one_group_below_its_minimum_is_enough() -> None:
    """Three workers without their leader."""
    sketch = gang("n1: bbb.")
    check(sketch.change("b", groups=(Group("", 2), Group("leader", 1))), "n1: ....", evicted=3)


def test_the_bound_on_evictions_holds() -> None:
    """A gang goes whole or stays for now."""
    check(gang("n1: bb..", policy=Policy(max_evictions=1)), "n1: bb..", evicted=0)


def test_the_room_is_given_out_by_the_next_decision() -> None:
    """Whoever waits for it is held in this one."""
    sketch = gang("n1: bb").wait("A", "q", priority=10)
    check(sketch, "n1: ..", held="A", evicted=2)


def test_what_went_before_the_stale_is_not_counted_as_evicted_in_vain() -> None:
    """c makes room for A, and then what is left of b goes from the same node, or from the same queue with its limit."""
    for limit, nodes in ((None, "n1: bbc"), (3, "n1: bbc.")):
        sketch = gang(nodes, priority=60)
        sketch.queues[0] = queue("q", 4, limit=limit)
        sketch.run("c", "q", priority=40).wait("A", "q", priority=75)
        decision = decide(sketch.snapshot())
        assert {row.task: row.cause for row in decision.evictions} == {
            "c-0": "preempt", "b-0": "stale", "b-1": "stale",
        }  # fmt: skip
        assert verify(sketch.snapshot(), decision) == ()
