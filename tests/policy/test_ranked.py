"""Large clusters: of forty nodes that are alike but for one thing that one is found by bounds, and hardly another is looked at."""

from __future__ import annotations

from collections import Counter
from typing import Any
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from board import MINUTE_MS, NOW_MS, Sketch, queue
from crowds import crowd
from gpumax.model.decision import Decision
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import DeviceAsk, DeviceShare, Group, Request, Task, Workload
from gpumax.policy.decide import decide
from policy.test_cheapest_brute import PREEMPT, RECLAIM, cost
from steps import steps

NODES = 40
SPECIAL = 17
"""The node that is different, neither the first nor the last by any order; in some tests it is the first."""
GIB = 1024


def cluster(
    asked: Request,
    passes: tuple[str, ...],
    *,
    each: Request,
    tasks: int = 4,
    split: bool = False,
    **special: Any,
) -> Snapshot:
    """So many tasks on every node, one workload a node, or one a task; special: what is different on one.

    In reclaim all are of queue b, which has no share; A is of queue a.
    """
    names = [f"n{at:02}" for at in range(NODES)]
    sketch = Sketch("\n".join(f"{name}: ...." for name in names)).with_queues(
        queue("a", 99), queue("b", 0, weight=0), queue("c", 1, weight=0)
    )
    work = []
    for at, name in enumerate(names):
        sketch.node(name, cpu_milli=4 * max(1, each.cpu_milli), memory_mib=4 * max(1, each.memory_mib))
        rows = tuple(
            Task(f"{name}-{task}", "", "running", name, _shares(each, task), request=each)
            for task in range(tasks)
        )
        parts = [(row,) for row in rows] if split else [rows]
        for number, part in enumerate(parts):
            workload = Workload(
                f"w{at:02}{number}", "b" if passes == RECLAIM else "a", 40, True, started_ms=NOW_MS - 30 * MINUTE_MS,
                groups=(Group("", 0),), tasks=part,
            )  # fmt: skip
            work.append(replace(workload, **special) if at == SPECIAL else workload)
    work.append(Workload("A", "a", 60, True, groups=(Group("", 1),), tasks=(Task("A-0", request=asked),)))
    return replace(sketch.snapshot(), workloads=tuple(sorted(work, key=lambda row: row.name)))


def _shares(each: Request, at: int) -> tuple[DeviceShare, ...]:
    return (DeviceShare(at, each.gpu[0].milli),) if each.gpu else ()


def found(snapshot: Snapshot, passes: tuple[str, ...]) -> tuple[Decision, Counter[str]]:
    """The decision of the search by bounds, and its steps."""
    decisions: list[Decision] = []
    with patch("gpumax.policy.take.MOST_PARTS", -1):
        counted = steps(lambda: decisions.append(decide(snapshot, passes)))
    return decisions[0], counted


WHOLE, HALF = Request((DeviceAsk(1),), 1_000, GIB), Request((DeviceAsk(1, 500),), 1_000, GIB)
CORES, MEMORY = Request(cpu_milli=1_000), Request(memory_mib=GIB)
ASKS = {
    "whole": (Request((DeviceAsk(2),)), WHOLE, 2), "part": (Request((DeviceAsk(1, 700),)), HALF, 1),
    "two parts": (Request((DeviceAsk(2, 700),)), HALF, 2), "cores": (Request(cpu_milli=1_000), CORES, 1),
    "memory": (Request(memory_mib=GIB), MEMORY, 1), "memory of a GPU": (Request((DeviceAsk(1, 1_000, 70 * GIB),)), HALF, 1),
}  # fmt: skip
"""What is asked for, what each task on the nodes holds, and how many of them have to go."""
BETTER: dict[str, dict[str, Any]] = {
    "priority": {"priority": 39}, "lost": {"checkpointed_ms": NOW_MS - MINUTE_MS}, "younger": {"started_ms": NOW_MS - 29 * MINUTE_MS},
}  # fmt: skip


CASES = [(what, better) for what in ASKS for better in BETTER if ASKS[what][1].gpu or better != "lost"]
"""Lost is device time: who holds no device loses none."""


@pytest.mark.parametrize(("what", "better"), CASES)
@pytest.mark.parametrize("passes", [RECLAIM, PREEMPT], ids=lambda passes: str(passes[1]))
def test_the_one_node_where_it_costs_less_is_found(passes: tuple[str, ...], what: str, better: str) -> None:
    """Lower priority, less lost time, a later start: the others are left alone for their bounds, where bounds are known."""
    asked, each, many = ASKS[what]
    decision, counted = found(cluster(asked, passes, each=each, **BETTER[better]), passes)
    assert [place.node for place in decision.places] == [f"n{SPECIAL:02}"]
    assert len(decision.evictions) == many
    assert counted["opening"] <= (1 if each.gpu else 2)


@pytest.mark.parametrize("what", ASKS)
def test_the_first_node_is_as_good_as_another(what: str) -> None:
    """It is in the first row of every table."""
    asked, each, many = ASKS[what]
    snapshot = cluster(asked, PREEMPT, each=each)
    rows = [replace(row, priority=39) if row.name == "w000" else row for row in snapshot.workloads]
    decision, counted = found(replace(snapshot, workloads=tuple(rows)), PREEMPT)
    assert ([place.node for place in decision.places], len(decision.evictions)) == (["n00"], many)
    assert counted["opening"] <= (1 if each.gpu else 2)


@pytest.mark.parametrize("passes", [RECLAIM, PREEMPT], ids=lambda passes: str(passes[1]))
def test_a_device_that_is_free_anyhow_opens_nothing(passes: tuple[str, ...]) -> None:
    """One of four is free on every node, and three are asked for: two have to go, and are counted as two."""
    snapshot = cluster(Request((DeviceAsk(3),)), passes, each=WHOLE, tasks=3, priority=39)
    decision, counted = found(snapshot, passes)
    assert [place.node for place in decision.places] == [f"n{SPECIAL}"]
    assert (len(decision.evictions), counted["opening"]) == (2, 1)


@pytest.mark.parametrize("passes", [RECLAIM, PREEMPT], ids=lambda passes: str(passes[1]))
def test_extras_are_found_among_minimums(passes: tuple[str, ...]) -> None:
    """Of all other nodes the whole minimum would go, four tasks for one."""
    asked = Request((DeviceAsk(1),))
    snapshot = cluster(asked, passes, each=WHOLE)
    rows = [
        replace(row, groups=(Group("", 4),)) if row.name not in ("A", f"w{SPECIAL}0") else row
        for row in snapshot.workloads
    ]
    decision, counted = found(replace(snapshot, workloads=tuple(rows)), passes)
    assert ([row.task for row in decision.evictions], counted["opening"]) == ([f"n{SPECIAL}-3"], 1)


@pytest.mark.parametrize("passes", [RECLAIM, PREEMPT], ids=lambda passes: str(passes[1]))
def test_a_small_minimum_is_found_among_large_ones(passes: tuple[str, ...]) -> None:
    """Two tasks go rather than four."""
    snapshot = cluster(Request((DeviceAsk(2),)), passes, each=WHOLE)
    rows = []
    for row in snapshot.workloads:
        if row.name == f"w{SPECIAL}0":
            rows += [
                replace(row, tasks=row.tasks[:2], groups=(Group("", 2),)),
                replace(row, name=f"w{SPECIAL}1", tasks=row.tasks[2:], groups=(Group("", 2),)),
            ]
        else:
            rows.append(row if row.name == "A" else replace(row, groups=(Group("", 4),)))
    decision, counted = found(replace(snapshot, workloads=tuple(rows)), passes)
    assert ([row.task for row in decision.evictions], counted["opening"]) == (
        [f"n{SPECIAL}-2", f"n{SPECIAL}-3"],
        1,
    )


@pytest.mark.parametrize("what", ASKS)
def test_the_queue_that_is_further_above_its_share_is_found(what: str) -> None:
    """On one node stands work of queue b, which has no share; all others are c's, which has one."""
    asked, each, many = ASKS[what]
    snapshot = cluster(asked, RECLAIM, each=each)
    rows = [
        replace(row, queue="c") if row.name not in ("A", f"w{SPECIAL}0") else row
        for row in snapshot.workloads
    ]
    queues = tuple(
        replace(row, quota=replace(row.quota, cpu=1_000, memory=GIB))
        if row.name == "c"
        else replace(row, quota=replace(row.quota, cpu=0, memory=0))
        if row.name == "b"
        else row
        for row in snapshot.queues
    )
    queues = tuple(
        replace(row, weight=replace(row.weight, cpu=0, memory=0)) if row.name in "bc" else row
        for row in queues
    )
    decision, counted = found(replace(snapshot, workloads=tuple(rows), queues=queues), RECLAIM)
    assert [place.node for place in decision.places] == [f"n{SPECIAL:02}"]
    assert len(decision.evictions) == many
    assert counted["opening"] <= (1 if each.gpu else 3)


def test_one_queue_gives_rather_than_two_where_that_ends_higher() -> None:
    """Every node is shared by b and c but one, which is b's alone; b holds far more than c beyond its share."""
    snapshot = cluster(Request((DeviceAsk(4),)), RECLAIM, each=WHOLE, split=True)
    rows = []
    for row in snapshot.workloads:
        shared = row.name.startswith("w") and row.name[3] in "23" and row.name[1:3] != str(SPECIAL)
        rows.append(replace(row, queue="c") if shared else row)
    queues = tuple(
        replace(row, quota=replace(row.quota, gpu={"a": 99_000, "b": 2_000, "c": 40_000}[row.name]))
        for row in snapshot.queues
    )
    decision, counted = found(replace(snapshot, workloads=tuple(rows), queues=queues), RECLAIM)
    assert [place.node for place in decision.places] == [f"n{SPECIAL:02}"]
    assert counted["opening"] <= 2


def test_the_bounded_answer_is_mostly_the_exact_one() -> None:
    """On crowds in which everything may be short, of those that either search serves by evictions."""
    equal, served = 0, 0
    for passes in (RECLAIM, PREEMPT):
        for number in range(150):
            snapshot = crowd(number, "a" if passes is RECLAIM else "q")
            exact = decide(snapshot, passes)
            with patch("gpumax.policy.take.MOST_PARTS", -1):
                bounded = decide(snapshot, passes)
            if exact.evictions and all(row.cause == passes[1] for row in exact.evictions):
                served += 1
                equal += bool(bounded.evictions) and cost(snapshot, exact) == cost(snapshot, bounded)
    assert (served, equal) >= (100, 1)
    assert equal >= 0.94 * served
