"""Affinity between tasks against every assignment: on small clusters what can be placed is placed, with the best victims."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from board import Sketch, after, gpus, queue
from brute import Answer, Brute
from gpumax.loop.verify import verify
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import Affinity, Company, Group, Task
from gpumax.policy.decide import decide
from neighbours import Neighbours, Stands, anyones, term
from policy.test_victims_brute import contests, shown
from thorough import examples

KEYS = st.sampled_from(("host", "host", "zone", "zone", "rack"))
APPS: tuple[dict[str, str], ...] = ({}, {"app": "x"}, {"app": "y"})
TERMS = st.builds(
    lambda key, app, anywhere: (anyones if anywhere else term)(key, **app),
    KEYS,
    st.sampled_from(APPS[1:]),
    st.booleans(),
)
REQUIRED = st.lists(TERMS, max_size=2).map(lambda terms: Company(tuple(terms)))
WISHES = st.none() | st.builds(Affinity, near=REQUIRED) | st.builds(Affinity, apart=REQUIRED) | st.builds(Affinity, near=REQUIRED, apart=REQUIRED)  # fmt: skip


def stand(draw: st.DrawFn, sketch: Sketch) -> Sketch:
    """Label the nodes; one in six has no zone."""
    for line in sketch.nodes.splitlines():
        name = line.split(":")[0]
        zone = draw(
            st.sampled_from(({"zone": "a"}, {"zone": "a"}, {"zone": "b"}, {"zone": "b"}, {"zone": "c"}, {}))
        )
        sketch.node(name, labels={"host": name, "rack": draw(st.sampled_from("rs")), **zone})
    return sketch


@st.composite
def puzzles(draw: st.DrawFn) -> Sketch:
    """Up to five nodes with work on them, and a gang of which each task may have wishes of its own."""
    rows = [
        draw(st.lists(st.sampled_from("bc...."), min_size=1, max_size=3))
        for _ in range(draw(st.integers(2, 5)))
    ]
    sketch = Sketch("\n".join(f"n{number}: {''.join(row)}" for number, row in enumerate(rows)))
    sketch.with_queues(queue("q", 64), queue("p", 64))
    for letter in "bc":
        affinity = draw(st.sampled_from((None, None, Affinity(apart=draw(REQUIRED)))))
        labels = draw(st.sampled_from(APPS))
        sketch.run(letter, draw(st.sampled_from("pq")), labels=labels, affinity=affinity)
    roles = draw(
        st.lists(st.tuples(st.integers(1, 2), st.sampled_from(APPS), WISHES), min_size=1, max_size=3)
    )
    numbers = draw(st.lists(st.integers(0, len(roles) - 1), min_size=1, max_size=4))
    tasks = tuple(
        Task(f"A-{at}", request=gpus(roles[number][0]), labels=roles[number][1], affinity=roles[number][2])
        for at, number in enumerate(numbers)
    )
    sketch.wait("A", "q").change("A", tasks=tasks, groups=(Group("", len(tasks)),))
    return stand(draw, sketch)


def possible(snapshot: Snapshot) -> bool:
    """Whether any assignment is fine, tried one by one."""
    free = {node.name: len(node.devices) for node in snapshot.nodes}
    there = []
    for workload in snapshot.workloads:
        for task in workload.tasks:
            if task.node is not None:
                free[task.node] -= 1
                there.append(Stands(task, workload, task.node))
    asker = next(row for row in snapshot.workloads if row.name == "A")
    neighbours = Neighbours(snapshot)
    for nodes in product(sorted(free), repeat=len(asker.tasks)):
        use = dict.fromkeys(free, 0)
        for task, node in zip(asker.tasks, nodes, strict=True):
            use[node] += task.request.gpu[0].devices
        coming = [Stands(task, asker, node) for task, node in zip(asker.tasks, nodes, strict=True)]
        if all(use[node] <= free[node] for node in free) and neighbours.fine(there, coming):
            return True
    return False


@pytest.mark.deep
@settings(max_examples=examples(100, 300), deadline=None)
@given(puzzles())
def test_a_gang_is_placed_where_any_assignment_is_fine(sketch: Sketch) -> None:
    """Near and away, by several labels, of the own queue and of others; running work keeps away, too."""
    snapshot = sketch.snapshot()
    decision = decide(snapshot, ("allocate",))
    assert verify(snapshot, decision) == ()
    assert bool(decision.places) == possible(snapshot), (
        f"\n{sketch.nodes}\n\n{after(snapshot, decision)}\n{decision.holds}\n{snapshot}"
    )


@st.composite
def sieges(draw: st.DrawFn) -> Sketch:
    """A contest between queues in which work has to be near other work, or away from it."""
    sketch = draw(contests())
    for letter in sketch.workloads:
        wish = draw(
            WISHES if letter == "A" else st.sampled_from((None, None, Affinity(apart=draw(REQUIRED))))
        )
        tasks = tuple(
            Task(
                task.name,
                task.group,
                task.state,
                task.node,
                task.devices,
                affinity=wish,
                request=task.request,
            )
            for task in sketch.workloads[letter].tasks
        )
        sketch.change(letter, labels=draw(st.sampled_from(APPS)), tasks=tasks)
    return stand(draw, sketch)


@pytest.mark.deep
@settings(max_examples=examples(60, 200), deadline=None)
@given(sieges())
def test_the_victims_are_the_best_by_rule_6_wherever_they_keep_others_away(sketch: Sketch) -> None:
    """Who keeps it away goes, wherever it stands, and nobody whom it needs; nobody waits while any set of victims helps."""
    snapshot = sketch.snapshot()
    decision = decide(snapshot, ("allocate", "reclaim"))
    assert verify(snapshot, decision) == ()
    best = Brute(snapshot, decision)
    if len(best.units) > 10:
        return
    answer = best.answer()
    if any(eviction.cause == "consolidate" for eviction in decision.evictions):
        # Work that may not be stopped moves out of the way only where no set of victims helps.
        assert answer == Answer(None, free=False), shown(sketch, decision)
        return
    placed = any(place.task.startswith("A") for place in decision.places)
    gone = {eviction.task for eviction in decision.evictions}
    assert placed == (answer.free or answer.cost is not None), shown(sketch, decision)
    if answer.cost is not None:
        taken = [unit for unit in best.units if any(task.name in gone for task in unit.tasks)]
        assert best.cost(taken) == answer.cost, f"{answer.cost} {shown(sketch, decision)}"
