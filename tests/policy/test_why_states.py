"""`why` about work that is placed, runs, leaves or is done: one sentence each, whole."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from board import MINUTE_MS, NOW_MS, Sketch, queue
from gpumax.model.workload import TaskState
from policy.test_why_words import held, needs, said, why


def one_queue(nodes: str) -> Sketch:
    return Sketch(nodes).with_queues(queue("q", 9))


def test_what_is_placed_is_told_with_its_nodes() -> None:
    """Three of them by name; one task goes, several go."""
    rows = "n1: ..\nn2: ..\nn3: ..\nn4: .."
    assert said(one_queue(rows).wait("A", "q", tasks=4, gpu=2)) == [
        "4 tasks of it go to n1, n2, n3 and 1 more now."
    ]
    assert said(one_queue(rows).wait("A", "q")) == ["1 task of it goes to n1 now."]


def test_what_waits_for_others_to_leave_is_told_for_whom() -> None:
    """One has left, several have."""
    sketch = one_queue("n1: bc").run("b", "q", state_="releasing").run("c", "q", state_="releasing")
    assert said(sketch.wait("A", "q")) == ["1 task of it goes to n1 as soon as b-0 has left."]
    assert said(sketch.wait("A", "q", tasks=1)) == [
        "2 tasks of it go to n1 as soon as b-0 and c-0 have left."
    ]


def test_what_makes_way_is_told_for_whom_and_why() -> None:
    """Several who take; stopped and moved apart, each with its number."""
    sketch = Sketch("n1: bbb").with_queues(queue("a", 3), queue("b", 0, weight=0)).run("b", "b", min=0)
    sketch.wait("A", "a", priority=60).wait("C", "a")
    assert said(sketch, "b") == ["2 of its tasks make way for A and C (reclaim)."]
    sketch = (
        Sketch("n1: bbb\nn2: ..").with_queues(queue("a", 3), queue("b", 0, weight=0)).run("b", "b", min=0)
    )
    assert said(sketch.wait("A", "a", gpu=3), "b") == [
        "2 of its tasks move to n2 for A (reclaim).", "1 of its tasks makes way for A (reclaim).",
    ]  # fmt: skip


def test_what_is_stale_is_told_that_it_is() -> None:
    """One goes, two go; for nobody."""
    for nodes, words in (("n1: A", "1 of its tasks goes"), ("n1: AA", "2 of its tasks go")):
        sketch = one_queue(nodes).run("A", "q", min=3, stale_since_ms=NOW_MS - 10 * MINUTE_MS)
        found = why(sketch)
        assert found.sentences == (f"{words}: it has been below its minimum for longer than its grace.",)
        assert found.state == "evicted"


def test_what_runs_is_told_for_how_long_and_how_much_of_it() -> None:
    """Its only task, all of several, some; and who is on the way out. A clock that is ahead makes no time negative."""
    assert said(one_queue("n1: A").run("A", "q")) == ["It has run for 30m."]
    assert said(one_queue("n1: A").run("A", "q", started=30 * MINUTE_MS - 1_000)) == ["It has run for 1s."]
    begun = ["It has just begun to run."]
    assert said(one_queue("n1: A").run("A", "q", started=30 * MINUTE_MS - 999)) == begun
    assert said(one_queue("n1: A").run("A", "q", started=31 * MINUTE_MS)) == begun
    sketch = one_queue("n1: AAAA").run("A", "q", min=1)
    rows = sketch.workloads["A"].tasks
    for leaving, words in ((1, "1 more is on the way out"), (2, "2 more are on the way out")):
        states = [
            replace(row, state="releasing" if at < leaving else "running") for at, row in enumerate(rows)
        ]
        sketch.change("A", tasks=tuple(states))
        assert said(sketch) == [f"It has run for 30m: {4 - leaving} of 4 tasks; {words}."]
    assert said(sketch.change("A", started_ms=None)) == ["It runs: 2 of 4 tasks; 2 more are on the way out."]


@pytest.mark.parametrize(
    ("state", "told", "words"),
    [
        ("gated", "gated", "It is not to be placed yet."),
        ("succeeded", "finished", "It is done: it holds nothing and waits for nothing."),
        ("failed", "finished", "It is done: it holds nothing and waits for nothing."),
    ],
)
def test_what_neither_runs_nor_waits_is_told_why(state: TaskState, told: str, words: str) -> None:
    """Gated work, and work that has come to an end."""
    sketch = one_queue("n1: .").wait("A", "q")
    sketch.change("A", tasks=tuple(replace(row, state=state) for row in sketch.workloads["A"].tasks))
    found = why(sketch)
    assert (found.state, found.sentences, found.hold, found.started_ms) == (told, (words,), None, None)


def test_the_last_task_that_leaves_has_yet_to_leave() -> None:
    """In the singular."""
    found = why(one_queue("n1: A").run("A", "q", state_="releasing"))
    assert found.sentences == ("It is on its way out: 1 task of it has yet to leave.",)


def test_of_closed_nodes_four_are_tried_alone() -> None:
    """The fifth would be enough alone, but all of them are told."""
    sketch = held("n1: b\nn2: .\nn3: .\nn4: .\nn5: .\nn6: ..")
    for name in ("n2", "n3", "n4", "n5", "n6"):
        sketch.node(name, cordoned=True)
    found = why(sketch.wait("A", "a", gpu=2))
    assert needs(found) == [("node", {}, {name: {} for name in ("n2", "n3", "n4", "n5", "n6")})]
    assert found.needs[0].message == "with n2, n3, n4 and 2 more ready and not cordoned"


def test_elastic_work_of_which_some_starts_is_told_of_that_alone() -> None:
    """What more of it waits is no hold."""
    found = why(one_queue("n1: .b").run("b", "q").wait("A", "q", tasks=3, min=1))
    assert (found.state, found.sentences, found.hold) == ("placed", ("1 task of it goes to n1 now.",), None)
