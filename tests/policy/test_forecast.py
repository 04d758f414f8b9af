"""Forecasts: when waiting work will start, if nothing else comes.

On every board b and c run, with half an hour behind them. What is told of a few moments must not depend on whether every
one of them is decided anew (`QUICK`, where the cluster is small), or played on with free room alone (`AFAR`).
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from board import MINUTE_MS, NOW_MS, Sketch, check, queue
from gpumax.loop.verify import verify
from gpumax.model.decision import Hold
from gpumax.model.snapshot import Policy
from gpumax.model.workload import TopologyWish
from gpumax.policy.decide import PASSES, decide
from gpumax.policy.explain import explain
from gpumax.policy.forecast import NONE, QUICK, Effort
from steps import steps

HOUR_MS = 60 * MINUTE_MS
LONG = -MINUTE_MS  # submitted so much before one hour ago
AFAR = Effort(0, 64, 2_000)
both = pytest.mark.parametrize("effort", [QUICK, AFAR], ids=["decided", "played"])


def one_queue(nodes: str) -> Sketch:
    return Sketch(nodes, Policy(reserve_after_ms=24 * HOUR_MS)).with_queues(queue("q", 64))


def held(sketch: Sketch, effort: Effort = QUICK) -> dict[str, Hold]:
    return {hold.workload: hold for hold in decide(sketch.snapshot(), effort=effort).holds}


def told(sketch: Sketch, effort: Effort = QUICK) -> dict[str, float | None]:
    """By workload that is held, in how many minutes it starts."""
    return {
        name: None if hold.forecast_ms is None else (hold.forecast_ms - NOW_MS) / MINUTE_MS
        for name, hold in held(sketch, effort).items()
    }


@both
def test_it_starts_when_enough_running_work_has_ended(effort: Effort) -> None:
    """One GPU is free in half an hour, the second an hour later."""
    sketch = one_queue("n1: bc").run("b", "q", max_duration_ms=HOUR_MS)
    sketch.run("c", "q", max_duration_ms=2 * HOUR_MS).wait("x", "q", gpu=2)
    assert told(sketch, effort) == {"x": 90}


@both
def test_a_gang_that_is_not_whole_is_told_no_moment_and_is_ahead_of_nobody(effort: Effort) -> None:
    """Only two of three are ready: whatever ends, they don't start."""
    sketch = one_queue("n1: bb").run("b", "q", max_duration_ms=HOUR_MS)
    sketch.wait("x", "q", tasks=2, min=3, submitted=1).wait("y", "q", gpu=2, submitted=2)
    assert told(sketch, effort) == {"x": None, "y": 30}
    found = explain(sketch.snapshot(), decide(sketch.snapshot()), "y")
    assert found is not None
    assert found.ahead == ()


def test_who_was_told_a_moment_is_explained_without_looking_ahead_once_more() -> None:
    """Only where the decision told none."""
    sketch = one_queue("n1: bb").run("b", "q", max_duration_ms=HOUR_MS).wait("x", "q", gpu=2)
    snapshot = sketch.snapshot()
    for effort, looks in ((QUICK, 0), (NONE, 1)):
        decision = decide(snapshot, effort=effort)
        assert steps(lambda decision=decision: explain(snapshot, decision, "x"))["_forecast"] == looks  # type: ignore[misc]


@both
def test_who_is_behind_waits_for_those_ahead(effort: Effort) -> None:
    sketch = one_queue("n1: bb").run("b", "q", max_duration_ms=HOUR_MS)
    sketch.wait("x", "q", gpu=2, max_duration_ms=20 * MINUTE_MS, submitted=1).wait(
        "y", "q", gpu=2, submitted=2
    )
    assert told(sketch, effort) == {"x": 30, "y": 50}


@both
def test_nobody_knows_when_those_start_who_are_behind_work_without_a_max_duration(effort: Effort) -> None:
    sketch = one_queue("n1: bb").run("b", "q", max_duration_ms=HOUR_MS)
    sketch.wait("x", "q", gpu=2, submitted=1).wait("y", "q", gpu=2, submitted=2)
    assert told(sketch, effort) == {"x": 30, "y": None}


@both
def test_who_is_small_goes_first_where_the_large_one_has_no_room_yet(effort: Effort) -> None:
    """x needs both; y takes the one that is free first, and gives it back in time."""
    sketch = one_queue("n1: bc").run("b", "q", max_duration_ms=HOUR_MS)
    sketch.run("c", "q", max_duration_ms=2 * HOUR_MS).wait("x", "q", gpu=2, submitted=1)
    assert told(sketch.wait("y", "q", submitted=2, max_duration_ms=HOUR_MS), effort) == {"x": 90, "y": 30}


@both
@pytest.mark.parametrize("span", [None, 20 * MINUTE_MS])
def test_nobody_knows_when_work_ends_that_says_nothing_or_is_overdue(
    effort: Effort, span: int | None
) -> None:
    sketch = one_queue("n1: bc").run("b", "q", max_duration_ms=span).run("c", "q", max_duration_ms=HOUR_MS)
    assert told(sketch.wait("x", "q", gpu=2, max_duration_ms=MINUTE_MS), effort) == {"x": None}


@both
def test_what_can_never_start_is_told_nothing_and_is_in_nobodys_way(effort: Effort) -> None:
    sketch = one_queue("n1: bb").run("b", "q", max_duration_ms=HOUR_MS).wait("x", "q", gpu=3, submitted=1)
    assert told(sketch.wait("y", "q", gpu=2, submitted=2), effort) == {"x": None, "y": 30}


@both
def test_limits_are_free_again_when_work_ends(effort: Effort) -> None:
    sketch = Sketch("n1: b...").with_queues(queue("q", 1, limit=1)).run("b", "q", max_duration_ms=HOUR_MS)
    assert told(sketch.wait("x", "q"), effort) == {"x": 30}


@both
def test_queues_are_served_in_fair_order_at_each_moment(effort: Effort) -> None:
    """p holds nothing, so it comes first, and q with its older work after it."""
    sketch = Sketch("n1: bc", Policy(reserve_after_ms=24 * HOUR_MS)).with_queues(queue("p", 1), queue("q", 1))
    sketch.run("b", "q", max_duration_ms=HOUR_MS, preemptible=False)
    sketch.run("c", "q", max_duration_ms=2 * HOUR_MS, preemptible=False)
    sketch.wait("y", "q", submitted=1).wait("x", "p", submitted=2)
    assert told(sketch, effort) == {"x": 30, "y": 90}


@both
def test_what_is_placed_in_this_decision_ends_too(effort: Effort) -> None:
    sketch = one_queue("n1: .").wait("a", "q", max_duration_ms=10 * MINUTE_MS, submitted=1)
    assert told(sketch.wait("x", "q", submitted=2), effort) == {"x": 10}


@both
def test_a_run_takes_its_extras_with_it(effort: Effort) -> None:
    """a runs for ten more minutes, and waits for one more task: when it is over it wants none."""
    sketch = one_queue("n1: ab").run("a", "q", min=1, max_duration_ms=40 * MINUTE_MS)
    sketch.wait("a", "q", min=1).change("a", max_duration_ms=40 * MINUTE_MS)
    sketch.run("b", "q", max_duration_ms=HOUR_MS)
    assert told(sketch, effort) == {"a": None}


@both
def test_who_is_stopped_in_this_decision_waits_again(effort: Effort) -> None:
    """A takes n1 from b, for ten minutes; x is behind b."""
    sketch = one_queue("n1: bb").run("b", "q", min=2, max_duration_ms=HOUR_MS)
    sketch.wait("A", "q", gpu=2, priority=60, max_duration_ms=10 * MINUTE_MS)
    assert told(sketch.wait("x", "q", gpu=2, submitted=HOUR_MS), effort) == {"x": 70}


def test_room_can_be_taken_back_when_a_minimum_runtime_ends() -> None:
    """b has been safe for half an hour of the forty minutes; nobody knows when it ends by itself."""
    sketch = Sketch("n1: bb").with_queues(queue("p", 2), queue("q", min_runtime_ms=40 * MINUTE_MS))
    assert told(sketch.run("b", "q", min=2).wait("x", "p", gpu=2)) == {"x": 10}


def test_room_that_is_kept_is_told_as_before_and_others_are_told_of_the_time_after_it() -> None:
    """G has waited for long; x would outlive the moment at which G starts, and comes after it."""
    sketch = one_queue("n1: bb..").run("b", "q", max_duration_ms=HOUR_MS)
    sketch.policy = Policy()
    sketch.wait("G", "q", gpu=4, submitted=LONG, max_duration_ms=HOUR_MS).wait("x", "q")
    assert told(sketch) == {"G": 30, "x": 90}
    assert told(sketch, AFAR) == {"G": 30, "x": 90}
    assert (held(sketch)["G"].reserved, held(sketch)["x"].reserved) == (True, False)


def test_a_gang_that_must_stand_together_is_told_of_the_room_that_is_kept_for_it() -> None:
    sketch = one_queue("n1: b.\nn2: ..").stand(r1="n1", r2="n2").run("b", "q", max_duration_ms=HOUR_MS)
    sketch.policy = Policy()
    sketch.wait("G", "q", tasks=2, gpu=2, submitted=LONG, topology=TopologyWish("default", "rack"))
    assert held(sketch)["G"].code == "Topology"  # never: a rack has one such node
    sketch.stand(r1="n1 n2")
    decision = check(sketch.wait("x", "q"), "n1: b.\nn2: ..", held="Gx")
    found = next(hold for hold in decision.holds if hold.workload == "G")
    assert (found.code, found.reserved, found.forecast_ms) == ("Topology", True, NOW_MS + 30 * MINUTE_MS)
    assert "room is kept for it in 30m" in found.message


def test_no_decision_looks_ahead_without_end() -> None:
    """Only the first of those who wait is looked at here, and of the first nothing where there is no effort left."""
    sketch = one_queue("n1: b").run("b", "q", max_duration_ms=HOUR_MS)
    for number, name in enumerate("xyz"):
        sketch.wait(name, "q", max_duration_ms=HOUR_MS, submitted=number)
    assert told(sketch, AFAR._replace(gangs=1)) == {"x": 30, "y": None, "z": None}
    assert told(sketch, AFAR._replace(looks=2)) == {"x": 30, "y": None, "z": None}
    assert told(sketch, NONE) == {"x": None, "y": None, "z": None}
    assert told(sketch) == {"x": 30, "y": 90, "z": 150}


def test_who_asks_about_one_is_told_of_more_than_decisions_look_at() -> None:
    """The decision at hand says nothing of x; the explanation looks for itself."""
    sketch = one_queue("n1: b").run("b", "q", max_duration_ms=42 * MINUTE_MS + 1).wait("x", "q")
    snapshot = sketch.snapshot()
    found = explain(snapshot, decide(snapshot, effort=NONE), "x")
    assert found is not None
    assert found.hold is not None
    assert found.hold.forecast_ms == NOW_MS + 12 * MINUTE_MS + 1
    assert "It starts in about 13m if nothing else comes." in found.sentences


def test_a_forecast_is_no_promise() -> None:
    """x starts in ten minutes because it may take b's room then. Nobody keeps that room free, and no rule is broken by that."""
    sketch = Sketch("n1: bb").with_queues(queue("p", 2), queue("q", min_runtime_ms=40 * MINUTE_MS))
    sketch.run("b", "q", min=2, max_duration_ms=9 * HOUR_MS).wait(
        "x", "p", gpu=2, submitted=LONG - 8 * HOUR_MS
    )
    sketch.policy = Policy(reserve_after_ms=24 * HOUR_MS)
    snapshot = sketch.snapshot()
    assert told(sketch) == {"x": 10}
    assert verify(replace(snapshot, policy=Policy()), decide(snapshot)) == ()


def test_looking_ahead_changes_nothing_but_forecasts() -> None:
    sketch = one_queue("n1: bb..\nn2: c...").run("b", "q", max_duration_ms=HOUR_MS).run("c", "q")
    sketch.wait("x", "q", gpu=4, tasks=2).wait("y", "q", gpu=3, max_duration_ms=HOUR_MS).wait(
        "z", "q", tasks=3
    )
    snapshot = sketch.snapshot()
    ahead, not_ahead = decide(snapshot, PASSES), decide(snapshot, PASSES, effort=NONE)
    assert (ahead.places, ahead.evictions) == (not_ahead.places, not_ahead.evictions)
    assert [(h.workload, h.message) for h in ahead.holds] == [
        (h.workload, h.message) for h in not_ahead.holds
    ]


@both
def test_work_that_moves_begins_its_time_anew(effort: Effort) -> None:
    """b moves to n2 for A and is over in an hour, as c is; then x has room for two there."""
    sketch = one_queue("n1: b.\nn2: c.").run("b", "q", max_duration_ms=HOUR_MS)
    sketch.run("c", "q", preemptible=False, max_duration_ms=HOUR_MS + HOUR_MS // 2)
    decision = decide(
        sketch.wait("A", "q", gpu=2, priority=60).wait("x", "q", gpu=2).snapshot(), effort=effort
    )
    assert [row.restarts_on for row in decision.evictions] == ["n2"]
    assert {hold.workload: hold.forecast_ms for hold in decision.holds} == {"x": NOW_MS + HOUR_MS}
