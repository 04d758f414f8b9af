"""Reservations: who has waited for long gets the earliest room that is known to come; others go around it.

On every board b and c run, with half an hour behind them; G has waited for more than an hour.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from board import MINUTE_MS, NOW_MS, Sketch, check, gpus, queue
from gpumax.loop.verify import verify
from gpumax.model.decision import Decision, Hold
from gpumax.model.node import Taint
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Policy
from gpumax.policy.decide import decide

HOUR_MS = 60 * MINUTE_MS
LONG = -MINUTE_MS  # submitted so much before one hour ago


def one_queue(nodes: str, policy: Policy | None = None) -> Sketch:
    return Sketch(nodes, policy or Policy()).with_queues(queue("q", 64))


def hold(decision: Decision, name: str) -> Hold:
    return next(row for row in decision.holds if row.workload == name)


def in_minutes(decision: Decision, name: str) -> float | None:
    """The moment that a hold names, in minutes from now."""
    moment = hold(decision, name).forecast_ms
    return None if moment is None else (moment - NOW_MS) / MINUTE_MS


def starving(nodes: str = "n1: bb..", gpu: float = 4) -> Sketch:
    """G waits for all of n1; b leaves in half an hour."""
    sketch = one_queue(nodes).run("b", "q", max_duration_ms=HOUR_MS)
    return sketch.wait("G", "q", gpu=gpu, submitted=LONG)


def test_room_is_kept_for_whom_has_waited_for_long() -> None:
    decision = check(starving().wait("x", "q"), "n1: bb..", held="Gx")
    assert in_minutes(decision, "G") == 30
    assert "room is kept for it in 30m" in hold(decision, "G").message


def test_who_waits_because_of_that_is_told_for_whom_and_until_when() -> None:
    found = hold(decide(starving().wait("x", "q").snapshot()), "x")
    assert found.code == "Reserved"
    assert "kept for G" in found.message
    assert "a max_duration of at most 30m" in found.message


def test_an_extra_that_asks_the_same_before_it_does_not_answer_for_it() -> None:
    """No room is kept for extras; G, which comes right after one, has waited for long."""
    sketch = one_queue("n1: bba").run("b", "q", max_duration_ms=HOUR_MS).run("a", "q", min=1, priority=60)
    sketch.wait("a", "q", gpu=2, min=1, priority=60)
    decision = check(sketch.wait("G", "q", gpu=2, submitted=LONG), "n1: bba", held="Ga")
    assert hold(decision, "G").reserved


def test_who_is_gone_by_then_goes_first() -> None:
    """The end may coincide with the moment, not lie behind it."""
    sketch = starving().wait("x", "q", max_duration_ms=30 * MINUTE_MS)
    check(sketch.wait("y", "q", max_duration_ms=30 * MINUTE_MS + 1), "n1: bbx.", held="Gy")


def test_what_ends_at_once_goes_first_and_what_should_have_ended_is_waited_for_by_nobody() -> None:
    """A max_duration of 0: of x, which waits, and of b, which started half an hour ago."""
    check(starving().wait("x", "q", max_duration_ms=0), "n1: bbx.", held="G")
    check(starving().change("b", max_duration_ms=0).wait("x", "q"), "n1: bbx.", held="G")
    decision = check(starving().change("b", max_duration_ms=0, started_ms=NOW_MS), "n1: bb..", held="G")
    assert in_minutes(decision, "G") == 0


def test_room_that_it_does_not_need_is_for_everybody() -> None:
    check(starving("n1: bb..\nn2: ..").wait("x", "q", tasks=3, min=1), "n1: bb..\nn2: xx", held="G")


def test_who_has_not_waited_for_that_long_gets_no_reservation() -> None:
    """One hour exactly is not longer than one hour."""
    check(
        starving().change("G", submitted_ms=NOW_MS - HOUR_MS).wait("x", "q", submitted=1),
        "n1: bbx.",
        held="G",
    )


def test_reserve_after_says_how_long() -> None:
    sketch = starving().change("G", submitted_ms=NOW_MS - 5 * MINUTE_MS)
    sketch.wait("x", "q", submitted=HOUR_MS)
    sketch.policy = Policy(reserve_after_ms=4 * MINUTE_MS)
    check(sketch, "n1: bb..", held="Gx")


def test_nothing_is_kept_where_no_moment_is_known() -> None:
    """b may run for ever: n1 would stand idle for ever."""
    sketch = one_queue("n1: bb..").run("b", "q").wait("G", "q", gpu=4, submitted=LONG)
    check(sketch.wait("x", "q"), "n1: bbx.", held="G")


def test_work_past_its_max_duration_ends_nobody_knows_when() -> None:
    sketch = starving().change("b", max_duration_ms=20 * MINUTE_MS).wait("x", "q")
    check(sketch, "n1: bbx.", held="G")


def test_the_earliest_moment_counts() -> None:
    """n2 is free before n1."""
    sketch = one_queue("n1: b...\nn2: ccc.").run("b", "q", max_duration_ms=2 * HOUR_MS)
    sketch.run("c", "q", max_duration_ms=HOUR_MS).wait("G", "q", gpu=4, submitted=LONG).wait("x", "q")
    decision = check(sketch, "n1: bx..\nn2: ccc.", held="G")
    assert in_minutes(decision, "G") == 30


def test_all_who_are_in_the_way_have_to_have_ended() -> None:
    sketch = (
        one_queue("n1: bbcc")
        .run("b", "q", max_duration_ms=HOUR_MS)
        .run("c", "q", max_duration_ms=2 * HOUR_MS)
    )
    assert in_minutes(decide(sketch.wait("G", "q", gpu=4, submitted=LONG).snapshot()), "G") == 90


def test_a_gang_gets_room_for_all_of_its_minimum_at_once() -> None:
    sketch = one_queue("n1: bb\nn2: cc\nn3: ..").run("b", "q", max_duration_ms=HOUR_MS)
    sketch.run("c", "q", max_duration_ms=2 * HOUR_MS).wait("G", "q", tasks=3, gpu=2, submitted=LONG)
    decision = check(sketch.wait("x", "q"), "n1: bb\nn2: cc\nn3: ..", held="Gx")
    assert in_minutes(decision, "G") == 90


def test_only_the_head_of_a_queue_gets_one() -> None:
    """H has waited as long; G is first."""
    sketch = starving().wait("H", "q", gpu=3, submitted=LONG + 1)
    decision = decide(sketch.snapshot())
    assert (hold(decision, "H").code, in_minutes(decision, "G")) == ("NoRoom", 30)
    assert "is kept for it" not in hold(decision, "H").message


def test_a_head_that_has_just_come_keeps_nothing_for_those_behind() -> None:
    """G is not the head: A, of higher priority, is, and hasn't waited."""
    sketch = starving().change("b", priority=60).wait("A", "q", gpu=3, priority=60, submitted=HOUR_MS)
    check(sketch.wait("x", "q", submitted=HOUR_MS), "n1: bbx.", held="AG")


def test_whoever_is_before_it_is_not_held_up() -> None:
    """Higher priority is served first, whatever is kept for G."""
    check(starving().wait("x", "q", priority=60, submitted=HOUR_MS), "n1: bbx.", held="G")


def test_heads_of_several_queues_get_theirs_side_by_side() -> None:
    """Each for a node of its own; the third finds nothing that isn't kept."""
    sketch = Sketch("n1: b...\nn2: c...").with_queues(queue("p", 8), queue("q", 8), queue("r", 0))
    sketch.run("b", "p", max_duration_ms=HOUR_MS).run("c", "q", max_duration_ms=2 * HOUR_MS)
    sketch.wait("F", "p", gpu=4, submitted=LONG).wait("G", "q", gpu=4, submitted=LONG)
    sketch.wait("x", "r", gpu=0.5)
    decision = decide(sketch.snapshot(), ["allocate"])
    assert sorted((in_minutes(decision, "F"), in_minutes(decision, "G"))) == [30, 90]  # type: ignore[type-var]
    assert hold(decision, "x").code == "Reserved"


def test_a_limit_of_its_queue_is_kept_too() -> None:
    """Room there is; the queue may hold 4 GPUs, and b has two of them."""
    sketch = Sketch("n1: bb......").with_queues(queue("q", 4, limit=4)).run("b", "q", max_duration_ms=HOUR_MS)
    sketch.wait("G", "q", gpu=4, submitted=LONG).wait("x", "q").wait("y", "q", max_duration_ms=MINUTE_MS)
    decision = check(sketch, "n1: bby.....", held="Gx")
    assert hold(decision, "G").code == "OverLimit"
    assert hold(decision, "x").code in ("Reserved", "OverLimit")


def test_what_can_never_start_keeps_nothing() -> None:
    check(starving(gpu=5).wait("x", "q"), "n1: bbx.", held="G")


def test_extras_get_none() -> None:
    """g has its minimum; what it may have on top keeps nobody waiting."""
    sketch = one_queue("n1: bg..").run("b", "q", max_duration_ms=HOUR_MS).run("g", "q", min=1)
    sketch.wait("g", "q", gpu=3, min=1, submitted=LONG)
    check(sketch.wait("x", "q"), "n1: bgx.", held="g")


def test_who_takes_back_its_share_needs_no_reservation() -> None:
    """G is served by reclaim in the same decision, and x has what was kept for it."""
    sketch = Sketch("n1: bb..\nn2: cccc").with_queues(queue("p", 4), queue("q", 2), queue("r", 0))
    sketch.run("b", "q", max_duration_ms=HOUR_MS).run("c", "r", max_duration_ms=HOUR_MS, min=4)
    sketch.wait("G", "p", gpu=4, submitted=LONG).wait("x", "q", priority=40)
    check(sketch, "n1: bbx.\nn2: GGGG", held="", evicted=4)


def test_reclaim_does_not_take_what_is_kept_either() -> None:
    """x might have one of b's, within its share; but G is before it and would then wait for x."""
    sketch = Sketch("n1: bbbb").with_queues(queue("p", 4), queue("q", 0), queue("r", 1, priority=50))
    sketch.run("b", "q", max_duration_ms=HOUR_MS, priority=100, preemptible=False)
    sketch.wait("G", "p", gpu=4, submitted=LONG).wait("x", "r")
    decision = check(sketch, "n1: bbbb", held="Gx", evicted=0)
    assert in_minutes(decision, "G") == 30


def aside(c: Queue, gpus: int = 3, **fields: Any) -> Sketch:
    """G waits for GPUs of n3 and n4 and for what its queue may hold; x asks for two of one of n1 and n2."""
    sketch = Sketch("n1: b.\nn2: b.\nn3: cc\nn4: ...").with_queues(c, queue("r", 8)).run("b", "r", min=0)
    for name, place in (("n1", "x"), ("n2", "x"), ("n3", "g"), ("n4", "g")):
        sketch.node(name, labels={"of": place})
    sketch.run("c", "q", max_duration_ms=HOUR_MS, selector={"of": "g"}, **fields)
    sketch.wait("G", "q", tasks=gpus, submitted=LONG, selector={"of": "g"}, **fields)
    return sketch.wait("x", "q", gpu=2, selector={"of": "x"}, **fields)


def test_consolidate_leaves_of_a_limit_what_is_kept() -> None:
    """b could move for x; when c has ended, q could then hold no more than two beside x, and G needs three."""
    decision = check(aside(queue("q", 8, limit=4)), "n1: b.\nn2: b.\nn3: cc\nn4: ...", held="Gx", evicted=0)
    assert in_minutes(decision, "G") == 30
    assert hold(decision, "x").code == "Reserved"


def test_consolidate_leaves_of_a_quota_what_is_kept() -> None:
    """The same for work that is never evicted, and the quota that it has to fit."""
    decision = check(
        aside(queue("q", 4), preemptible=False), "n1: b.\nn2: b.\nn3: cc\nn4: ...", held="Gx", evicted=0
    )
    assert hold(decision, "x").code == "Reserved"


def test_consolidate_takes_of_a_limit_what_is_not_kept() -> None:
    """G waits for four GPUs, and q may hold two more."""
    check(aside(queue("q", 8, limit=6), gpus=4), "n1: bb\nn2: xx\nn3: cc\nn4: ...", held="G", evicted=1)


def test_what_those_hold_who_stop_is_not_kept_from_anybody() -> None:
    """When c and b have gone, p has room for G beside x; while b was there, c had to end first."""
    sketch = Sketch("n1: bb\nn2: cc...").with_queues(
        queue("p", 8, limit=6), queue("q", 8, parent="p"), queue("r", 0, parent="p")
    )
    sketch.node("n1", labels={"of": "x"}).node("n2", labels={"of": "g"})
    sketch.run("b", "r", priority=40, min=0, max_duration_ms=HOUR_MS).run("c", "q", max_duration_ms=HOUR_MS)
    sketch.wait("G", "q", tasks=4, submitted=LONG, selector={"of": "g"})
    sketch.wait("x", "r", gpu=2, priority=60, selector={"of": "x"})
    check(sketch, "n1: xx\nn2: cc...", held="G", evicted=2)


def test_who_makes_way_stops_where_moving_would_take_what_is_kept() -> None:
    """b could go on on n3, for which G waits; so it goes on nowhere, rather than x waits for what is its own."""
    sketch = Sketch("n1: bb\nn2: cc\nn3: ...").with_queues(queue("q", 8), queue("r", 0)).run("b", "r", min=0)
    for name, place in (("n1", "x"), ("n2", "g"), ("n3", "g")):
        sketch.node(name, labels={"of": place})
    sketch.run("c", "q", max_duration_ms=HOUR_MS)
    sketch.wait("G", "q", tasks=5, submitted=LONG, selector={"of": "g"})
    sketch.wait("x", "q", gpu=2, selector={"of": "x"})
    decision = check(sketch, "n1: xx\nn2: cc\nn3: ...", held="G", evicted=2)
    assert all(row.restarts_on is None for row in decision.evictions)


def test_filters_hold_at_the_moment_too() -> None:
    """n2 will be free first, but G does not bear its taint."""
    sketch = one_queue("n1: bb\nn2: cc").node("n2", taints=(Taint("k"),))
    sketch.run("b", "q", max_duration_ms=2 * HOUR_MS).run("c", "q", max_duration_ms=HOUR_MS)
    assert in_minutes(decide(sketch.wait("G", "q", gpu=2, submitted=LONG).snapshot()), "G") == 90


def test_the_time_of_a_run_that_just_started_counts_from_now() -> None:
    """x is placed in this decision, for twenty minutes; G could have n1 when b has ended, as before."""
    sketch = starving().wait("x", "q", tasks=2, priority=60, max_duration_ms=40 * MINUTE_MS)
    decision = check(sketch, "n1: bbxx", held="G")
    assert in_minutes(decision, "G") == 40


def test_parts_of_devices_are_kept_as_well() -> None:
    """G waits for two whole devices: half of one is no use to x if it stays."""
    sketch = (
        one_queue("n1: [b5].").run("b", "q", max_duration_ms=HOUR_MS).wait("G", "q", gpu=2, submitted=LONG)
    )
    check(sketch.wait("x", "q", gpu=0.5), "n1: [b5.5].", held="Gx")
    check(sketch.change("x", max_duration_ms=MINUTE_MS), "n1: [b5x5].", held="G")


@pytest.mark.parametrize("most_parts", [128, -1], ids=["exact", "bounded"])
def test_extras_that_wait_with_their_minimum_are_counted_for_as_long_as_they_may_last(
    most_parts: int,
) -> None:
    """A would be over before G starts; but its minimum waits for b, nobody knows how long, and so would an extra beside w."""
    sketch = (
        Sketch("n1: bb\nn2: ccc[w5.5]").with_queues(queue("q", 64), queue("r", 64)).run("b", "q", priority=20)
    )
    for letter in "cw":
        sketch.run(letter, "q", preemptible=False, max_duration_ms=35 * MINUTE_MS)
    sketch.wait("G", "r", gpu=4, submitted=LONG, preemptible=False)
    sketch.wait("A", "q", tasks=3, min=2, priority=60, max_duration_ms=4 * MINUTE_MS)
    first, second, third = sketch.workloads["A"].tasks
    sketch.change("A", tasks=(first, second, replace(third, request=gpus(0.5))))
    with patch("gpumax.policy.take.MOST_PARTS", most_parts):
        decision = check(sketch, "n1: AA\nn2: ccc[w5.5]", held="G")
    assert not verify(sketch.snapshot(), decision)


def lent(quota: int, *, own: int = 0) -> Sketch:
    """r holds all of n1, and d; G of r waits for the end of b and c. x of t asks for a GPU of n1."""
    sketch = Sketch("n1: bbcc\nn2: d").with_queues(queue("r", own), queue("t", quota))
    sketch.node("n2", taints=(Taint("k"),))
    sketch.run("b", "r", max_duration_ms=HOUR_MS).run("c", "r", max_duration_ms=2 * HOUR_MS)
    sketch.run("d", "r", max_duration_ms=HOUR_MS)
    return sketch.wait("G", "r", gpu=4, submitted=LONG).wait("x", "t")


def test_room_kept_for_work_beyond_a_quota_keeps_nobody_from_what_is_its_own() -> None:
    """x is within its quota: it takes back what r holds beyond its own, though G starts later for that."""
    snapshot = lent(1).snapshot()
    decision = decide(snapshot)
    assert [place.task for place in decision.places] == ["x-0"]
    assert {row.cause for row in decision.evictions} == {"reclaim"}
    assert not verify(snapshot, decision)


def test_what_is_its_own_is_told_below_the_queue_that_both_have_in_common() -> None:
    """The queue above r and t has no quota at all: that is nothing between the two of them."""
    sketch = lent(1).with_queues(queue("above"))
    sketch.queues = [replace(row, parent="above") if row.name in "rt" else row for row in sketch.queues]
    assert [place.task for place in decide(sketch.snapshot()).places] == ["x-0"]


def test_who_is_beyond_its_own_quota_goes_around_what_is_kept() -> None:
    """With no quota x has no more right than G, and has waited for less long."""
    check(lent(0), "n1: bbcc\nn2: d", held="Gx")
    assert hold(decide(lent(0).snapshot()), "x").code == "Reserved"


def test_room_kept_for_work_within_its_quota_is_kept_from_everybody() -> None:
    """r is beyond its quota now, and will be within it with G, which has waited for longer than x."""
    check(lent(1, own=4), "n1: bbcc\nn2: d", held="Gx")
    assert hold(decide(lent(1, own=4).snapshot()), "x").code == "Reserved"


def test_one_decision_keeps_room_for_four() -> None:
    """Six heads have waited for long, each for a node of its own; those who are first in turn get theirs."""
    sketch = Sketch("\n".join(f"n{at}: b.." for at in range(6))).with_queues(queue("q", 64))
    sketch.run("b", "q", max_duration_ms=HOUR_MS)
    for at in range(6):
        sketch.with_queues(queue(f"p{at}", 3))
        sketch.wait("FGHIJK"[at], f"p{at}", gpu=3, submitted=LONG)
    holds = decide(sketch.snapshot(), ["allocate"]).holds
    assert [hold.workload for hold in holds if hold.reserved] == list("FGHI")
