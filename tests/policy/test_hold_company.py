"""Holds of work that has to be near others, or away from them: in whole sentences."""

from __future__ import annotations

from board import Sketch
from gpumax.model.workload import Affinity, Company, Expression, TaskTerm
from neighbours import apart, near, term
from policy.test_hold_sentences import NEVER, held, told

DB, WEB = {"app": "db"}, {"app": "web"}


def by_host(sketch: Sketch) -> Sketch:
    for name, _ in sketch._lines():
        sketch.node(name, labels={"host": name, "zone": "z"})
    return sketch


def test_who_needs_others_is_told_where_they_are_not() -> None:
    """And which nodes have no room at all."""
    sketch = (
        by_host(held("n1: b\nn2: ."))
        .change("b", labels=DB, queue="a")
        .wait("A", "a", affinity=near(term("host", **DB)))
    )
    assert told(sketch) == (
        "TaskAffinity",
        "needs 1 GPU, near a task with app=db in its host; 1 node has room, but 1 is not near the tasks that it must be near",
        {"NotEnoughGpu": 1, "TaskAffinityMismatch": 1}, {},
    )  # fmt: skip


def test_who_keeps_away_from_others_is_told_where_they_are() -> None:
    """Alone, and as the last of a gang whose tasks keep apart."""
    sketch = (
        by_host(held("n1: b.\nn2: b."))
        .change("b", labels=DB, queue="a")
        .wait("A", "a", affinity=apart(term("host", **DB)))
    )
    away = "away from any task with app=db in its host"
    assert told(sketch) == (
        "TaskAffinity", f"needs 1 GPU, {away}; 2 nodes have room, but 2 are not away from those that it must be away from",
        {"TaskAntiAffinityMismatch": 2}, {},
    )  # fmt: skip
    sketch = by_host(held("n1: ..\nn2: b.")).change("b", labels=DB, queue="a")
    sketch.wait("A", "a", tasks=2, labels=DB, affinity=apart(term("host", **DB)))
    assert told(sketch)[1] == (
        f"needs 2 x 1 GPU together, {away}; 2 nodes have room for the last of its tasks, "
        "but 2 are not away from those that it must be away from"
    )


def test_who_is_kept_away_is_told_by_whom() -> None:
    """Somebody in the zone wants none like it near."""
    sketch = (
        by_host(held("n1: b.\nn2: .", affinity=apart(term("zone", **WEB))))
        .change("b", queue="a")
        .wait("A", "a", labels=WEB)
    )
    assert told(sketch) == (
        "TaskAffinity", "needs 1 GPU; 2 nodes have room, but 2 are kept from it by a task there", {"KeptAwayByTask": 2}, {},
    )  # fmt: skip


def test_several_reasons_are_told_with_their_numbers() -> None:
    """One node has its enemy, the other none of its friends."""
    sketch = (
        by_host(held("n1: b.\nn2: c."))
        .run("c", "a", preemptible=False, labels=WEB)
        .change("b", labels=DB, queue="a")
    )
    both = Affinity(near=Company((term("host", **DB),)), apart=Company((term("host", **DB),)))
    found = told(sketch.wait("A", "a", affinity=both))
    assert found[1:3] == (
        "needs 1 GPU, near a task with app=db in its host, away from any task with app=db in its host; 2 nodes have room, "
        "but 1 is not near the tasks that it must be near and 1 is not away from those that it must be away from",
        {"TaskAffinityMismatch": 1, "TaskAntiAffinityMismatch": 1},
    )  # fmt: skip


def test_labels_that_no_node_has_keep_it_for_ever() -> None:
    """So does a gang whose tasks can't be as far apart as they must."""
    assert told(held("n1: .\nn2: .").wait("A", "a", affinity=near(term("zone", **WEB)))) == (
        "NoNodeMatches", f"needs 1 GPU, near a task with app=web in its zone; no node that may take it has the label zone{NEVER}",
        {"TaskAffinityMismatch": 2}, {},
    )  # fmt: skip
    sketch = by_host(held("n1: ..\nn2: .."))
    assert told(sketch.wait("A", "a", tasks=3, labels=WEB, affinity=apart(term("host", **WEB)))) == (
        "TaskAffinity",
        "needs 3 x 1 GPU together, away from any task with app=web in its host; even on empty nodes they can't all be so far apart"
        + NEVER,
        {}, {},
    )  # fmt: skip


def test_terms_are_told_in_words() -> None:
    """Every operator, labels of its own, queues by name and by label."""
    wordy = TaskTerm(
        "zone",
        (Expression("app", "In", ("a", "b")), Expression("x", "NotIn", ("1",)), Expression("y", "Exists"), Expression("z", "DoesNotExist")),
        ("q", "p"), (Expression("team", "In", ("t",)),), ("job",), ("role",),
    )  # fmt: skip
    others = Affinity(
        near=Company((wordy,)),
        apart=Company((TaskTerm("host", queue_labels=()), TaskTerm("rack", queues=("q",)))),
    )
    assert told(by_host(held("n1: .")).wait("A", "a", affinity=others))[1] == (
        "needs 1 GPU, near a task with app=a or b, x other than 1, y, no z, the same job and another role of queue q, p or team=t in its zone, "
        "away from any task of any queue in its host, away from any task of queue q in its rack; 1 node has room, "
        "but 1 is not near the tasks that it must be near"
    )
