"""Where room is made, against every node by itself: of all nodes the one on which it costs least by rule 6, however it is searched for."""

from __future__ import annotations

from random import Random
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from board import queue
from brute import Unit
from brute_mixed import Mixed
from crowds import crowd, only_on
from gpumax.loop.verify import verify
from gpumax.model.decision import Decision
from gpumax.model.slices import milli_of
from gpumax.model.snapshot import Snapshot, Topology
from gpumax.model.workload import Request, Task, TopologyWish
from gpumax.policy.decide import decide
from gpumax.units import UNLIMITED

Cost = tuple[float, int, int, int, int, int]
RECLAIM, PREEMPT = ("allocate", "reclaim"), ("allocate", "preempt")


def _gone(snapshot: Snapshot, decision: Decision) -> list[Unit]:
    names = {row.task for row in decision.evictions}
    found = []
    for workload in snapshot.workloads:
        least = workload.groups[0].min
        found += [
            Unit(workload, (task,), core=False) for task in workload.tasks[least:] if task.name in names
        ]
        if workload.tasks[0].name in names:
            found.append(Unit(workload, workload.tasks[:least], core=True))
    assert names == {task.name for unit in found for task in unit.tasks}
    return found


def cost(snapshot: Snapshot, decision: Decision) -> Cost:
    """Rule 6 for who goes, whether it goes on elsewhere or not."""
    gone = _gone(snapshot, decision)
    return (
        _lowest(snapshot, decision, gone) if decision.evictions[0].cause == "reclaim" else 0.0,
        max(unit.workload.priority for unit in gone),
        sum(len(unit.tasks) for unit in gone if unit.core),
        sum(len(unit.tasks) for unit in gone),
        sum(_lost(snapshot, unit) for unit in gone),
        -min(unit.workload.started_ms or 0 for unit in gone),
    )


def _lowest(snapshot: Snapshot, decision: Decision, gone: list[Unit]) -> float:
    """How low the queue ends that ends lowest relative to its share, in the first resource that is asked for."""
    asks = [task.request for row in snapshot.workloads if row.name == "A" for task in row.tasks]
    resource = next(name for name in ("gpu", "cpu", "memory") if any(_asks(ask, name) for ask in asks))
    shares = {row.queue: row for row in decision.shares if row.resource == resource}
    ends = []
    for name in {unit.workload.queue for unit in gone}:
        given = [_held(task, resource) for unit in gone if unit.workload.queue == name for task in unit.tasks]
        held = shares[name].allocated - sum(given)
        ends.append(held / shares[name].share if shares[name].share else 1e9)
    return -min(ends)


def _asks(request: Request, resource: str) -> bool:
    return bool(request.gpu or request.slices) if resource == "gpu" else _amount(request, resource) > 0


def _amount(request: Request, resource: str) -> int:
    return request.cpu_milli if resource == "cpu" else request.memory_mib


def _held(task: Task, resource: str) -> int:
    if resource == "gpu":
        return sum(share.milli or milli_of(share.slices) for share in task.devices)
    return _amount(task.request, resource)


def _lost(snapshot: Snapshot, unit: Unit) -> int:
    since = max(unit.workload.started_ms or 0, unit.workload.checkpointed_ms or 0)
    return sum(_held(task, "gpu") for task in unit.tasks) * (snapshot.now_ms - since)


@pytest.mark.parametrize("most_parts", [128, -1], ids=["exact", "bounded"])
@pytest.mark.parametrize("passes", [RECLAIM, PREEMPT], ids=lambda passes: str(passes[1]))
def test_room_is_made_on_the_node_where_it_costs_least(passes: tuple[str, ...], most_parts: int) -> None:
    """Whatever is short there: devices, parts, slices, cores, memory, slots or others. Told one node after the other, none is cheaper."""
    with patch("gpumax.policy.take.MOST_PARTS", most_parts):
        for number in range(120):
            snapshot = crowd(number, "a" if passes is RECLAIM else "q")
            decision = decide(snapshot, passes)
            alone = {node.name: decide(only_on(snapshot, node.name), passes) for node in snapshot.nodes}
            _cheapest(number, snapshot, decision, alone)


def _cheapest(number: int, snapshot: Snapshot, decision: Decision, alone: dict[str, Decision]) -> None:
    assert verify(snapshot, decision) == (), number
    found = {name: row for name, row in alone.items() if row.places and row.places[0].task == "A-0"}
    if not any(place.task == "A-0" for place in decision.places):
        assert not found, number
        return
    node = decision.places[0].node
    assert found[node].evictions == decision.evictions, number
    if not decision.evictions or any(row.cause == "consolidate" for row in decision.evictions):
        return
    costs = {
        name: cost(snapshot, row)
        for name, row in found.items()
        if row.evictions and all(eviction.cause != "consolidate" for eviction in row.evictions)
    }
    assert costs[node] == min(costs.values()), f"{number}: {node} of {costs}"


@pytest.mark.parametrize("passes", [RECLAIM, PREEMPT], ids=lambda passes: str(passes[1]))
def test_the_exact_answer_is_never_worse_than_the_bounded_one(passes: tuple[str, ...]) -> None:
    """For a gang of two or three tasks of two kinds: whom the bounded search serves the exact one serves, at no higher cost."""
    for number in range(120):
        snapshot = crowd(number, "a" if passes is RECLAIM else "q", gang=2 + number % 2)
        exact = decide(snapshot, passes)
        with patch("gpumax.policy.take.MOST_PARTS", -1):
            bounded = decide(snapshot, passes)
        assert verify(snapshot, exact) == verify(snapshot, bounded) == (), number
        causes = {row.cause for row in (*exact.evictions, *bounded.evictions)}
        if not bounded.evictions or "consolidate" in causes:
            continue
        if exact.evictions:
            assert cost(snapshot, exact) <= cost(snapshot, bounded), number
        assert {row.task for row in bounded.places} & {"A-0"} <= {row.task for row in exact.places}, number


PARENTS: tuple[dict[str, str], ...] = (
    {}, {"a": "r", "o": "r", "p": "s", "q": "s"}, {"a": "s", "o": "r", "p": "r", "s": "r"}, {"a": "r", "o": "r", "p": "r"},
)  # fmt: skip


def planted(number: int) -> Snapshot:
    """A small crowd whose queues are in a tree; each queue above has a quota of its own, now and then one of cores."""
    chance, snapshot = Random(number), crowd(number, "a", most_nodes=3, most_work=9)
    parents = chance.choice(PARENTS)
    queues = [replace(row, parent=parents.get(row.name)) for row in snapshot.queues]
    for name in sorted(set(parents.values())):
        queues.append(queue(name, chance.randint(1, 5), parent=parents.get(name)))
    queues = [replace(row, quota=replace(row.quota, gpu=1_000 * chance.randint(0, 4))) for row in queues]
    cores = chance.choice((UNLIMITED, UNLIMITED, 6_000))
    queues = [replace(row, quota=replace(row.quota, cpu=cores)) for row in queues]
    return replace(snapshot, queues=tuple(sorted(queues, key=lambda row: row.name)))


def test_victims_are_the_best_in_trees_of_queues_whatever_is_short() -> None:
    """Against every set: who may go step by step, at every queue from the owner up; what is above the asker has to come down, too."""
    helped = 0
    for number in range(400):
        helped += _is_best(number, planted(number), RECLAIM)
    assert helped > 40


def test_victims_of_lower_priority_are_the_best_whatever_is_short() -> None:
    """Against every set of work of the own queue."""
    helped = 0
    for number in range(200):
        helped += _is_best(number, crowd(number, "q", most_nodes=3, most_work=14), PREEMPT)
    assert helped > 30


def _is_best(number: int, snapshot: Snapshot, passes: tuple[str, ...]) -> bool:
    """Whether anybody went; fails where others should have."""
    decision = decide(snapshot, passes)
    brute = Mixed(snapshot, decision, inside=passes is PREEMPT)
    if len(brute.units) > 10:
        return False
    assert verify(snapshot, decision) == (), number
    best, free = brute.best()
    gone = _gone(snapshot, decision)
    if any(row.cause == "consolidate" for row in decision.evictions):
        assert (best, free) == (None, False), number
        return False
    assert bool(decision.places) == (free or best is not None), f"{number} {best} {free}"
    assert (brute.cost(gone) if gone else None) == best, f"{number} {best} {decision.evictions}"
    return bool(gone)


def _racked(number: int, mine: str) -> Snapshot:
    """A gang of two or three that has to stand in one of three racks."""
    snapshot = crowd(number, mine, gang=2 + number % 2)
    nodes = tuple(
        replace(node, labels={**node.labels, "rack": f"r{at % 3}"}) for at, node in enumerate(snapshot.nodes)
    )
    rows = [
        replace(row, topology=TopologyWish("default", "rack")) if row.name == "A" else row
        for row in snapshot.workloads
    ]
    return replace(snapshot, nodes=nodes, workloads=tuple(rows), topologies=(Topology("default", ("rack",)),))


@pytest.mark.parametrize("most_parts", [128, -1], ids=["exact", "bounded"])
@pytest.mark.parametrize("passes", [RECLAIM, PREEMPT], ids=lambda passes: str(passes[1]))
def test_room_is_made_in_the_rack_where_it_costs_least(passes: tuple[str, ...], most_parts: int) -> None:
    """Told one rack after the other, none is cheaper; nobody waits for whom a rack could be made."""
    with patch("gpumax.policy.search.MOST_PARTS", most_parts):
        for number in range(60):
            snapshot = _racked(number, "a" if passes is RECLAIM else "q")
            decision = decide(snapshot, passes)
            alone = {rack: decide(_in_rack(snapshot, rack), passes) for rack in ("r0", "r1", "r2")}
            assert verify(snapshot, decision) == (), number
            found = {
                rack: row for rack, row in alone.items() if any(place.task == "A-0" for place in row.places)
            }
            placed = [place.node for place in decision.places if place.task == "A-0"]
            assert bool(placed) == bool(found), number
            causes = {row.cause for each in (decision, *found.values()) for row in each.evictions}
            if not placed or not decision.evictions or "consolidate" in causes:
                continue
            rack = next(node.labels["rack"] for node in snapshot.nodes if node.name == placed[0])
            costs = {name: cost(snapshot, row) for name, row in found.items() if row.evictions}
            assert costs[rack] == min(costs.values()) == cost(snapshot, decision), (
                f"{number}: {rack} of {costs}"
            )


def _in_rack(snapshot: Snapshot, rack: str) -> Snapshot:
    rows = [
        replace(row, tasks=tuple(replace(task, selector={"rack": rack}) for task in row.tasks))
        if row.name == "A"
        else row
        for row in snapshot.workloads
    ]
    return replace(snapshot, workloads=tuple(rows))
