"""Reclaim against every set of victims: on small clusters the answer is the best by rule 6, and none is missed."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from board import MINUTE_MS, Sketch, after, queue
from brute import Answer, Brute
from brute_moves import detours
from gpumax.formats.snapshot import dump_snapshot, load_snapshot
from gpumax.loop.verify import verify
from gpumax.model.decision import Decision
from gpumax.policy.decide import decide
from thorough import examples

LETTERS = "bcdefg"
WHOLE = st.sampled_from(LETTERS)
SHARED = st.builds(
    lambda pair, left, right: f"[{pair[0]}{left}{pair[1]}{min(right, 10 - left)}]",
    st.permutations(LETTERS), st.integers(2, 8), st.integers(1, 8),
)  # fmt: skip
MAY_GO = st.sampled_from((None, None, None, "semi"))
CELLS = st.one_of(WHOLE, WHOLE, WHOLE, SHARED, st.just("."))


@st.composite
def contests(draw: st.DrawFn) -> Sketch:
    """One to three nodes held by workloads of two queues, and one workload of a third that waits."""
    width = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=3))
    nodes = "\n".join(f"n{number}: {''.join(cells)}" for number, cells in enumerate(rows))
    weights = st.sampled_from((0, 1, 2))
    sketch = Sketch(nodes).with_queues(
        queue("a", draw(st.integers(1, 6))),
        queue("p", draw(st.integers(0, 4)), weight=draw(weights)),
        queue("q", draw(st.integers(0, 4)), weight=draw(weights)),
    )
    for letter in LETTERS:
        count = nodes.replace("n", "").count(letter)
        if count:
            sketch.run(
                letter, draw(st.sampled_from("pq")), min=draw(st.integers(1, count)),
                priority=draw(st.sampled_from((40, 50, 50, 60, 100))), preemptible=draw(MAY_GO), started=draw(st.integers(0, 3)) * MINUTE_MS,
            )  # fmt: skip
    tasks = draw(st.integers(1, 3))
    return sketch.wait("A", "a", tasks=tasks, gpu=draw(st.sampled_from((1, 1, 2, 0.5, 0.3))))


def shown(sketch: Sketch, decision: Decision) -> str:
    """The picture before and after, for a test that fails."""
    snapshot = sketch.snapshot()
    return f"\n{sketch.nodes}\n\n{after(snapshot, decision)}\n{decision.evictions}\n{decision.holds}"


@pytest.mark.deep
@settings(max_examples=examples(60, 150), deadline=None)
@given(contests())
def test_the_victims_are_the_best_by_rule_6_and_nobody_waits_in_vain(sketch: Sketch) -> None:
    """What is evicted could go step by step, costs least by rule 6, and work is held only where no set of victims helps."""
    snapshot = sketch.snapshot()
    decision = decide(snapshot, ("allocate", "reclaim"))
    brute = Brute(snapshot, decision)
    if len(brute.units) > 10:
        return
    best = brute.answer()
    gone = {eviction.task for eviction in decision.evictions}
    if any(eviction.cause == "consolidate" for eviction in decision.evictions):
        # Work that may not be stopped moves out of the way only where no set of victims helps.
        assert best == Answer(None, free=False), shown(sketch, decision)
        return
    chosen = [unit for unit in brute.units if unit.tasks[0].name in gone]
    assert gone == {task.name for unit in chosen for task in unit.tasks}, shown(sketch, decision)
    assert bool(decision.places) == (best.free or best.cost is not None), shown(sketch, decision)
    if best.free or best.cost is None:
        assert not gone, shown(sketch, decision)
    else:
        assert set(chosen) in [set(legal) for legal in brute.legal()], shown(sketch, decision)
        assert brute.cost(chosen) == best.cost, shown(sketch, decision)


@pytest.mark.deep
@settings(max_examples=examples(60, 150), deadline=None)
@given(contests())
def test_work_that_may_not_be_stopped_moves_where_that_helps_whoever_takes_back(sketch: Sketch) -> None:
    """Who stops could go step by step, the others have new places; how often such an answer is missed, bench/moves.py measures."""
    snapshot = sketch.snapshot()
    decision = decide(snapshot, ("allocate", "reclaim"))
    assert verify(snapshot, decision) == (), shown(sketch, decision)
    brute = Brute(snapshot, decision)
    if len(brute.units) <= 6 and any(eviction.cause == "consolidate" for eviction in decision.evictions):
        assert next(detours(brute), None) is not None, shown(sketch, decision)


@pytest.mark.deep
@settings(max_examples=examples(25, 50), deadline=None)
@given(contests(), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_no_byte_of_the_answer(sketch: Sketch, chance: random.Random) -> None:
    """Nodes, queues, workloads and their tasks may stand in any order in the file."""
    document: Any = dump_snapshot(sketch.snapshot())
    straight = decide(load_snapshot(document))
    for rows in (document["nodes"], document["queues"], document["workloads"]):
        chance.shuffle(rows)
    for workload in document["workloads"]:
        chance.shuffle(workload["tasks"])
    assert decide(load_snapshot(document)) == straight
