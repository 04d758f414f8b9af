"""Consolidate against every set of moves, on small clusters."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from board import MINUTE_MS, Sketch, queue
from brute import units
from brute_moves import answers
from gpumax.loop.verify import verify
from gpumax.policy.decide import decide
from policy.test_victims_brute import MAY_GO, shown
from thorough import examples

LETTERS = "bcdef"
CELLS = st.sampled_from((*LETTERS, ".", ".", ".", "[b5.5]", "[c5.5]", "[d3.7]"))


@st.composite
def scattered(draw: st.DrawFn) -> Sketch:
    """Two or three nodes with work here and there, and a workload that waits."""
    width = draw(st.integers(2, 4))
    rows = draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=2, max_size=3))
    nodes = "\n".join(f"n{number}: {''.join(cells)}" for number, cells in enumerate(rows))
    sketch = Sketch(nodes).with_queues(queue("q", 4), queue("p", 0))
    for letter in LETTERS:
        count = nodes.replace("n", "").count(letter)
        if count:
            sketch.run(
                letter, draw(st.sampled_from("pq")), min=draw(st.integers(1, count)), priority=draw(st.sampled_from((40, 50, 50, 100))),
                preemptible=draw(MAY_GO), started=draw(st.integers(0, 3)) * MINUTE_MS,
            )  # fmt: skip
    return sketch.wait("A", "q", tasks=draw(st.integers(1, 2)), gpu=draw(st.sampled_from((1, 2, 2, 3, 0.6))))


@pytest.mark.deep
@settings(max_examples=examples(60, 150), deadline=None)
@given(scattered())
def test_work_moves_where_that_serves_and_nobody_loses(sketch: Sketch) -> None:
    """Everything that moves has a place, and some set of moves does serve; how often one is missed, bench/moves.py measures."""
    snapshot = sketch.snapshot()
    decision = decide(snapshot, ("allocate", "consolidate"))
    assert verify(snapshot, decision) == (), shown(sketch, decision)
    assert all(row.restarts_on for row in decision.evictions)
    if len(units(snapshot)) <= 7 and decision.evictions:
        assert next(answers(snapshot), None) is not None, shown(sketch, decision)
