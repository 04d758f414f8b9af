"""Choices against their rules written down once more: whose turn it is, who draws whom, and the earliest moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from board import MINUTE_MS, NOW_MS, Sketch, queue
from crowds import ask, crowd
from gpumax.loop.verify import verify
from gpumax.model.amounts import Amounts
from gpumax.model.decision import Decision
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import (
    ACTIVE,
    Affinity,
    Company,
    DeviceAsk,
    Group,
    Request,
    Task,
    TaskTerm,
    Workload,
)
from gpumax.policy.decide import decide
from gpumax.policy.forecast import NONE, QUICK, Effort
from gpumax.policy.gang import Gang, Want
from gpumax.policy.rights import Rights
from gpumax.policy.take import _Taking
from gpumax.policy.world import World
from gpumax.units import UNLIMITED
from neighbours import Neighbours, Stands, anyones, meant, term
from where import Stock, roomy, stock

RESOURCES = ("gpu", "cpu", "memory")
ROOM_ALONE = Effort(0, 64, 2_000)
"""Nothing is decided again: those who wait are played on with what becomes free."""

# Whose turn it is


def _queue(chance: Random, name: str) -> Queue:
    limited = chance.random() < 0.3
    return replace(
        queue(name), priority=chance.choice((100, 100, 200)), created_ms=chance.randint(0, 1),
        quota=Amounts(1_000 * chance.randint(0, 3), chance.choice((0, 4_000, UNLIMITED)), UNLIMITED),
        limit=Amounts(1_000 * chance.randint(2, 5) if limited else UNLIMITED, UNLIMITED, UNLIMITED),
        weight=Amounts(1_000 * chance.randint(0, 2), 1_000, 1_000),
    )  # fmt: skip


def turns(number: int) -> Snapshot:
    """Three queues, of which each holds something and has one task that waits; there is room for all."""
    chance = Random(number)
    sketch = Sketch("n1: " + "ppqqrr"[: chance.randint(0, 6)].ljust(16, ".")).node("n1", cpu_milli=64_000)
    for name in "pqr":
        sketch.with_queues(_queue(chance, name))
        if name in sketch.nodes.partition(":")[2]:
            sketch.run(name, name)
            request = Request((DeviceAsk(1),), chance.choice((0, 2_000)))
            sketch.change(
                name, tasks=tuple(replace(task, request=request) for task in sketch.workloads[name].tasks)
            )
        count, cores = chance.choice(((1, 0), (1, 1_000), (2, 0), (0, 1_000), (3, 3_000)))
        sketch.wait(name.upper(), name, request=Request((DeviceAsk(count),) if count else (), cores))
    return sketch.snapshot()


def _key(snapshot: Snapshot, decision: Decision, name: str) -> tuple[Any, ...]:
    """Of a queue with its head, by policy.md; smaller is earlier."""
    account = next(row for row in snapshot.queues if row.name == name)
    (task,) = next(row for row in snapshot.workloads if row.name == name.upper()).tasks
    asks = (
        sum(row.devices * row.milli for row in task.request.gpu),
        task.request.cpu_milli,
        task.request.memory_mib,
    )
    node = snapshot.nodes[0]
    all_of_it = (1_000 * len(node.devices), node.cpu_milli, node.memory_mib)
    rows = [
        next(row for row in decision.shares if (row.queue, row.resource) == (name, resource))
        for resource in RESOURCES
    ]
    caps = [
        min(limit, max(row.quota, row.share), most) if min(limit, max(row.quota, row.share)) >= UNLIMITED
        else min(limit, max(row.quota, row.share))
        for row, limit, most in zip(rows, account.limit.vector(), all_of_it, strict=True)
    ]  # fmt: skip
    asked = [(row, ask, cap) for row, ask, cap in zip(rows, asks, caps, strict=True) if ask]
    with_head = [
        (row.allocated + ask) / cap if cap else (row.allocated + ask) * 1_000
        for row, ask, cap in zip(rows, asks, caps, strict=True)
    ]
    without = [
        row.allocated / cap if cap else row.allocated * 1_000 for row, cap in zip(rows, caps, strict=True)
    ]
    return (
        any(row.allocated > row.share for row, _, _ in asked), any(row.allocated + ask > row.quota for row, ask, _ in asked),
        -account.priority, any(cap == 0 for _, _, cap in asked), max(with_head), max(without), [row.share for row in rows],
        account.created_ms, name,
    )  # fmt: skip


def test_queues_take_turns_by_the_rules() -> None:
    """Over its share, beyond quota, priority, no share, part with and without its head, share, age, name: in this order."""
    for number in range(300):
        snapshot = turns(number)
        decision = decide(snapshot, ("allocate",))
        placed = [place.task[0] for place in decision.places]
        order = sorted("pqr", key=lambda name: _key(snapshot, decision, name))
        assert placed == [name.upper() for name in order if name.upper() in placed], (
            f"{number}\n{snapshot.queues}\n{decision.shares}"
        )


# Who draws whom

APPS: tuple[dict[str, str], ...] = ({}, {"app": "x"}, {"app": "y"})


def _terms(chance: Random) -> tuple[tuple[int, TaskTerm], ...]:
    make = chance.choice((term, term, anyones))
    return tuple(
        (chance.choice((1, 3, 10)), make(chance.choice(("host", "zone")), app=chance.choice("xy")))
        for _ in range(chance.randint(0, 2))
    )


def drawn(number: int) -> Snapshot:
    """Nodes with work that likes company, or doesn't, some of it on its way out; one task that may go anywhere."""
    chance = Random(number)
    rows = ["".join(chance.choice("bcdef..") for _ in range(4)) + "." for _ in range(chance.randint(3, 5))]
    sketch = Sketch("\n".join(f"n{at}: {row}" for at, row in enumerate(rows))).with_queues(
        queue("p", 64), queue("q", 64)
    )
    for at in range(len(rows)):
        sketch.node(f"n{at}", labels={"host": f"n{at}", **chance.choice(({"zone": "a"}, {"zone": "b"}, {}))})
    for letter in sorted({letter for row in rows for letter in row} - {"."}):
        needs = (term("host", app="x"),) if chance.random() < 0.3 else ()
        wishes = Affinity(near=Company(needs, _terms(chance)), apart=Company((), _terms(chance)))
        state = chance.choice(("running", "running", "releasing"))
        sketch.run(letter, chance.choice("pq"), state_=state, labels=chance.choice(APPS), affinity=wishes)
    wishes = Affinity(near=Company((), _terms(chance)), apart=Company((), _terms(chance)))
    return sketch.wait(
        "A", "q", labels=chance.choice(APPS), affinity=chance.choice((wishes, None))
    ).snapshot()


def _draws(snapshot: Snapshot, node: str) -> int:
    """How much a node draws A: by its own wishes, and by those of all who are there to stay."""
    workloads = {row.name: row for row in snapshot.workloads}
    neighbours, mine = Neighbours(snapshot), workloads["A"]
    me, total = Stands(mine.tasks[0], mine, node), 0
    for workload in snapshot.workloads:
        for task in workload.tasks:
            if task.state == "running" and task.node is not None:
                there = Stands(task, workload, task.node)
                total += sum(_weights(neighbours, me, there)) + sum(_weights(neighbours, there, me))
                needs = task.affinity.near.required if task.affinity else ()
                total += sum(
                    meant(row, workload, me) and neighbours.together(row.key, task.node, node)
                    for row in needs
                )
    return total


def _weights(neighbours: Neighbours, carrier: Stands, other: Stands) -> Iterator[int]:
    wishes = carrier.task.affinity or Affinity()
    for sign, company in ((1, wishes.near), (-1, wishes.apart)):
        for weight, row in company.preferred:
            if meant(row, carrier.workload, other) and neighbours.together(row.key, carrier.node, other.node):
                yield sign * weight


def test_tasks_are_drawn_by_the_weights_of_all_who_mean_each_other() -> None:
    """Wishes work both ways, per task that is meant, in the domain of the label; then the fullest node, then the name."""
    for number in range(300):
        snapshot = drawn(number)
        (place,) = decide(snapshot, ("allocate",)).places
        taken = Counter(task.node for row in snapshot.workloads for task in row.tasks if task.node)
        free = {node.name: len(node.devices) - taken[node.name] for node in snapshot.nodes}
        best = min(free, key=lambda name: (-_draws(snapshot, name), free[name], name))
        assert place.node == best, f"{number}: {place.node}, not {best}\n{snapshot}"


# The earliest moment


def timed(number: int, submitted_ms: int) -> Snapshot:
    """A crowd of which most says how long it runs at most."""
    chance, snapshot = Random(number), crowd(number, "a")
    rows = []
    for workload in snapshot.workloads:
        minutes = chance.choice((None, 2, 3, 5, 8, 13))
        if workload.name == "A":
            workload = replace(workload, submitted_ms=submitted_ms)
        elif minutes is not None:
            workload = replace(workload, max_duration_ms=minutes * MINUTE_MS)
        rows.append(workload)
    return replace(snapshot, workloads=tuple(rows))


def _ends(workload: Workload) -> int | None:
    if workload.max_duration_ms is None or workload.started_ms is None:
        return None
    end = workload.started_ms + workload.max_duration_ms
    return end if end >= NOW_MS else None


def _rooms(snapshot: Snapshot, moment: int) -> dict[str, Stock]:
    rooms = {node.name: stock(node) for node in snapshot.nodes}
    for workload in snapshot.workloads:
        end = _ends(workload)
        for task in workload.tasks:
            if task.node is not None and task.state in ACTIVE and (end is None or end > moment):
                rooms[task.node].take(task.request, task.devices)
    return rooms


def _earliest(snapshot: Snapshot) -> int | None:
    """The first end at which the task that waits has room; None where there is none."""
    (task,) = next(row for row in snapshot.workloads if row.name == "A").tasks
    moments = sorted({end for row in snapshot.workloads if (end := _ends(row)) is not None})
    return next(
        (at for at in moments if any(roomy(here, task.request, 0) for here in _rooms(snapshot, at).values())),
        None,
    )


def test_room_is_kept_from_the_earliest_moment_on_and_forecasts_name_it() -> None:
    """In cores, memory, slots, slices and others as in GPUs; of work that is past its time nothing is expected."""
    for number in range(150):
        snapshot = timed(number, 0)
        decision = decide(snapshot, ("allocate",), effort=NONE)
        if decision.places:
            continue
        (hold,) = decision.holds
        moment = _earliest(snapshot)
        assert (hold.forecast_ms, hold.reserved) == (moment, moment is not None), number
        (hold,) = decide(timed(number, NOW_MS), ("allocate",)).holds
        assert (hold.forecast_ms, hold.reserved) == (moment, False), number
        (hold,) = decide(timed(number, NOW_MS), ("allocate",), effort=ROOM_ALONE).holds
        assert (hold.forecast_ms, hold.reserved) == (moment, False), number


def test_where_nobody_is_evicted_room_alone_tells_what_deciding_again_tells() -> None:
    """Many wait, for times of their own, in queues without bounds, and nothing is kept for anybody: both ways find the same moments."""
    told = 0
    for number in range(40):
        chance, snapshot = Random(number), several(number)
        rows = []
        for workload in snapshot.workloads:
            minutes = chance.choice((2, 3, 5, 8, 13))
            tasks = tuple(
                replace(task, request=replace(task.request, slices={}, extended={}))
                for task in workload.tasks
            )
            rows.append(
                replace(
                    workload,
                    max_duration_ms=minutes * MINUTE_MS,
                    queue="q",
                    tasks=tasks if workload.started_ms is None else workload.tasks,
                )
            )
        policy = replace(snapshot.policy, reserve_after_ms=1 << 50)
        snapshot = replace(snapshot, workloads=tuple(rows), queues=(queue("q", 64),), policy=policy)
        exact, quick = (
            {row.workload: row.forecast_ms for row in decide(snapshot, ("allocate",), effort=effort).holds}
            for effort in (QUICK, ROOM_ALONE)
        )
        assert exact == quick, number
        told += sum(moment is not None for moment in exact.values())
    assert told > 50


# Several at once


def several(number: int) -> Snapshot:
    """A crowd in which work of every queue waits, some of it alike."""
    chance, snapshot = Random(number), crowd(number, "a")
    asks = [ask(chance) for _ in range(3)]
    rows = list(snapshot.workloads)
    for at in range(8):
        name, request, count = f"x{at}", chance.choice(asks), chance.choice((1, 1, 2))
        tasks = tuple(Task(f"{name}-{task}", request=request) for task in range(count))
        work = Workload(
            name, chance.choice("aopq"), chance.choice((30, 50, 70)), chance.choice((True, True, "semi")), NOW_MS - at,
            groups=(Group("", chance.randint(1, count)),), tasks=tasks,
        )  # fmt: skip
        rows.append(work)
    queues = tuple(
        replace(row, quota=replace(row.quota, gpu=4_000)) if row.name == "a" else row
        for row in snapshot.queues
    )
    policy = replace(snapshot.policy, max_evictions=chance.choice((0, 0, 3)))
    return replace(
        snapshot, workloads=tuple(sorted(rows, key=lambda row: row.name)), queues=queues, policy=policy
    )


class _Forgetful(dict[object, str]):
    """Remembers nothing."""

    def get(self, *_: object) -> None:  # type: ignore[override]
        return None


class _Unlearned(_Taking):
    """Tries everybody, whoever failed before."""

    def __init__(self, world: World, rights: Callable[[Gang, list[Want]], Iterable[Rights]]) -> None:
        super().__init__(world, rights)
        self._hopeless = _Forgetful()


@pytest.mark.parametrize("most_parts", [128, -1], ids=["exact", "bounded"])
def test_many_are_served_by_the_rules_and_what_is_remembered_changes_nothing(most_parts: int) -> None:
    """All passes on crowds in which much is short; who asks what was asked in vain is answered the same when it is tried again."""
    with patch("gpumax.policy.take.MOST_PARTS", most_parts):
        for number in range(60):
            snapshot = several(number)
            decision = decide(snapshot)
            assert verify(snapshot, decision) == (), number
            with patch("gpumax.policy.take._Taking", _Unlearned):
                assert decide(snapshot) == decision, number
