"""Preempt against every set of victims: on small clusters the answer is the best by rule 6, and none is missed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from board import MINUTE_MS, Sketch, queue
from brute import BruteInside
from gpumax.policy.decide import decide
from policy.test_victims_brute import CELLS, LETTERS, MAY_GO, shown
from thorough import examples


@st.composite
def contests(draw: st.DrawFn) -> Sketch:
    """One to three nodes held by workloads of one queue, in which one more waits."""
    width = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=3))
    nodes = "\n".join(f"n{number}: {''.join(cells)}" for number, cells in enumerate(rows))
    sketch = Sketch(nodes).with_queues(queue("q", 4, limit=draw(st.sampled_from((None, None, 4, 8)))))
    for letter in LETTERS:
        count = nodes.replace("n", "").count(letter)
        if count:
            sketch.run(
                letter, "q", min=draw(st.integers(1, count)), priority=draw(st.sampled_from((40, 50, 50, 60, 75, 100))),
                preemptible=draw(MAY_GO), started=draw(st.integers(0, 3)) * MINUTE_MS,
            )  # fmt: skip
    tasks = draw(st.integers(1, 3))
    return sketch.wait("A", "q", tasks=tasks, gpu=draw(st.sampled_from((1, 1, 2, 0.5, 0.3))), priority=75)


@pytest.mark.deep
@settings(max_examples=examples(60, 150), deadline=None)
@given(contests())
def test_the_victims_are_the_best_by_rule_6_and_nobody_waits_in_vain(sketch: Sketch) -> None:
    """Strictly lower priorities go, they cost least by rule 6, and work is held only where no set of victims helps."""
    snapshot = sketch.snapshot()
    decision = decide(snapshot, ("allocate", "preempt"))
    brute = BruteInside(snapshot, decision)
    if len(brute.units) > 9:
        return
    best = brute.answer()
    gone = {eviction.task for eviction in decision.evictions}
    chosen = [unit for unit in brute.units if unit.tasks[0].name in gone]
    assert gone == {task.name for unit in chosen for task in unit.tasks}, shown(sketch, decision)
    assert bool(decision.places) == (best.free or best.cost is not None), shown(sketch, decision)
    if best.cost is None:
        assert not gone, shown(sketch, decision)
    else:
        assert set(chosen) in [set(legal) for legal in brute.legal()], shown(sketch, decision)
        assert brute.cost(chosen) == best.cost, shown(sketch, decision)
