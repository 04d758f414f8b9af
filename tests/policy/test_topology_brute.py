"""Topology against every assignment of tasks to nodes: on small clusters a gang that can be placed is placed."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from board import Sketch, after, gpus, queue
from brute import Answer, Brute
from gpumax.loop.verify import verify
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import Group, Segments, Task, TopologyWish, Workload
from gpumax.policy.decide import decide
from policy.test_victims_brute import contests, shown
from thorough import examples

LEVELS = ("zone", "rack")
WISHES = st.one_of(
    st.none(),
    st.builds(TopologyWish, st.just("default"), st.sampled_from((*LEVELS, None)), st.sampled_from((None, "rack"))),
    st.builds(
        TopologyWish, st.just("default"), st.sampled_from(("zone", None)), st.none(),
        st.builds(Segments, st.integers(1, 3), st.just("rack")),
    ),
)  # fmt: skip


@st.composite
def puzzles(draw: st.DrawFn) -> Sketch:
    """Up to six nodes in up to two zones of racks, partly in use, and a gang with wishes at every level."""
    count = draw(st.integers(2, 6))
    rows = [draw(st.lists(st.sampled_from("b...."), min_size=1, max_size=3)) for _ in range(count)]
    sketch = Sketch("\n".join(f"n{number}: {''.join(row)}" for number, row in enumerate(rows)))
    sketch.with_queues(queue("q", 64)).run("b", "q")
    racks: dict[str, list[str]] = {}
    for number in range(count):
        where = draw(st.sampled_from(("a__r1", "a__r2", "b__r1", "b__r3")))
        racks.setdefault(where, []).append(f"n{number}")
    sketch.stand(**{where: " ".join(names) for where, names in racks.items()})
    sizes = draw(st.lists(st.integers(1, 2), min_size=1, max_size=5))
    roles = draw(st.sampled_from((("",), ("x", "y"))))
    groups = [
        Group(role, sum(number % len(roles) == at for number in range(len(sizes))), None, draw(WISHES))
        for at, role in enumerate(roles)
    ]
    if draw(st.booleans()):
        groups = [Group(group.name, group.min, "top", group.topology) for group in groups]
        groups.append(Group("top", 0, None, draw(WISHES)))
    groups = [group for group in groups if group.min or group.name == "top"]
    tasks = tuple(
        Task(f"A-{number}", roles[number % len(roles)], request=gpus(size))
        for number, size in enumerate(sizes)
    )
    return sketch.wait("A", "q").change("A", tasks=tasks, groups=tuple(groups), topology=draw(WISHES))


def possible(snapshot: Snapshot) -> bool:
    """Whether any assignment keeps every bond, tried one by one."""
    workload = next(row for row in snapshot.workloads if row.name == "A")
    free = {node.name: len(node.devices) for node in snapshot.nodes}
    for other in snapshot.workloads:
        for task in other.tasks:
            if task.node is not None:
                free[task.node] -= 1
    labels = {node.name: (node.labels["zone"], node.labels["rack"]) for node in snapshot.nodes}
    bonds = list(_bonds(workload))
    for nodes in product(sorted(free), repeat=len(workload.tasks)):
        use = dict.fromkeys(free, 0)
        for task, node in zip(workload.tasks, nodes, strict=True):
            use[node] += task.request.gpu[0].devices
        at = {task.name: labels[node] for task, node in zip(workload.tasks, nodes, strict=True)}
        if all(use[node] <= free[node] for node in free) and all(
            len({at[name][:depth] for name in names}) == 1 for names, depth in bonds
        ):
            return True
    return False


def _bonds(workload: Workload) -> list[tuple[list[str], int]]:
    """Names of tasks that have to share their first labels, and how many of these."""
    groups = {group.name: group for group in workload.groups}
    found = []

    def bond(wish: TopologyWish | None, names: list[str]) -> None:
        if wish is not None and wish.required is not None and names:
            found.append((names, LEVELS.index(wish.required) + 1))

    def up(name: str | None) -> list[Group]:
        return [] if name is None else [groups[name], *up(groups[name].parent)]

    bond(workload.topology, [task.name for task in workload.tasks])
    for group in workload.groups:
        bond(group.topology, [task.name for task in workload.tasks if group in up(task.group)])
        mine = [task.name for task in workload.tasks if task.group == group.name]
        wishes = [*(outer.topology for outer in up(group.name)), workload.topology]
        cut = next((wish.segments for wish in wishes if wish is not None and wish.segments is not None), None)
        if cut is not None:
            found += [(mine[at : at + cut.size], 2) for at in range(0, len(mine), cut.size)]
    return found


@pytest.mark.deep
@settings(max_examples=examples(70, 200), deadline=None)
@given(puzzles())
def test_a_gang_is_placed_where_any_assignment_keeps_its_bonds(sketch: Sketch) -> None:
    """Required levels of the gang, of groups, of nested groups and of segments, with tasks of two sizes."""
    snapshot = sketch.snapshot()
    decision = decide(snapshot, ("allocate",))
    assert verify(snapshot, decision) == ()
    assert bool(decision.places) == possible(snapshot), (
        f"\n{sketch.nodes}\n\n{after(snapshot, decision)}\n{decision.holds}"
    )


@st.composite
def sieges(draw: st.DrawFn) -> Sketch:
    """A contest between queues in which who waits has to stand together."""
    sketch = draw(contests())
    names = [line.split(":")[0] for line in sketch.nodes.splitlines()]
    racks: dict[str, list[str]] = {}
    for name in names:
        racks.setdefault(draw(st.sampled_from(("a__r1", "a__r2", "b__r1"))), []).append(name)
    sketch.stand(**{where: " ".join(members) for where, members in racks.items()})
    cut = st.none() | st.builds(Segments, st.integers(1, 2), st.just("rack"))
    wish = st.builds(TopologyWish, st.just("default"), st.sampled_from((*LEVELS, None)), st.none(), cut)
    return sketch.change("A", topology=draw(wish))


@pytest.mark.deep
@settings(max_examples=examples(50, 150), deadline=None)
@given(sieges())
def test_the_victims_are_the_best_by_rule_6_over_all_domains(sketch: Sketch) -> None:
    """Room is made inside one domain, in the one where it costs least; nobody waits while any set of victims helps."""
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
