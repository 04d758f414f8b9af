"""Where each task goes, whom it waits for, and what it lacks, against the rules written down slowly: on clusters of every kind."""

from __future__ import annotations

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from board import queue
from gpumax.loop.verify.slices import can_hold
from gpumax.model.decision import Decision, Place
from gpumax.model.snapshot import Placement, Snapshot, Strategy
from gpumax.model.workload import HOLDING, Affinity, Group, Request, Task, Workload
from gpumax.policy.decide import decide
from properties.strategies import snapshots
from thorough import examples
from where import Slowly, Stock, holding, possible, reasons, short, stock


def _by_itself(workload: Workload, task: Task) -> Workload:
    """One task as a workload of one queue that has no bounds."""
    affinity = task.affinity and Affinity(task.affinity.required, task.affinity.preferred)
    task = replace(task, group="", affinity=affinity)
    return replace(
        workload, name=task.name, queue="q", groups=(Group("", 1),), tasks=(task,), preemptible=True, topology=None,
        max_duration_ms=None,
    )  # fmt: skip


def _bare(snapshot: Snapshot) -> Snapshot:
    """The same without any devices, and with nobody who asks for one."""

    def without(task: Task) -> Task:
        return replace(task, devices=(), request=replace(task.request, gpu=(), slices={}, limit=None))

    nodes = tuple(replace(node, devices=()) for node in snapshot.nodes)
    rows = (replace(row, tasks=tuple(map(without, row.tasks))) for row in snapshot.workloads)
    return replace(snapshot, nodes=nodes, workloads=tuple(rows))


@st.composite
def clusters(draw: st.DrawFn) -> Snapshot:
    """Clusters of the properties' kind, each task a workload by itself, in one pool or in pools of one strategy each; some have no devices."""
    snapshot = draw(snapshots(6, 8))
    if draw(st.integers(0, 4)) == 0:
        snapshot = _bare(snapshot)
    rows = []
    for workload in snapshot.workloads:
        for task in workload.tasks:
            guessed = task.state in HOLDING and not task.devices and (task.request.gpu or task.request.slices)
            leaves = task.state in HOLDING and draw(st.integers(0, 3)) == 0
            if not guessed:
                rows.append(_by_itself(workload, replace(task, state="releasing") if leaves else task))
    strategies: tuple[Strategy, ...] = ("pack", "pack", "spread")
    strategy = draw(st.sampled_from(strategies))
    policy = replace(snapshot.policy, placement=Placement(strategy, strategy), pools={})
    rows.sort(key=lambda row: row.name)
    return replace(snapshot, queues=(queue("q", 64),), workloads=tuple(rows), policy=policy)


def told(snapshot: Snapshot, decision: Decision) -> str:
    return f"{decision.places}\n{decision.holds}\n{snapshot.nodes}\n{snapshot.workloads}"


@pytest.mark.deep
@settings(max_examples=examples(80, 250), deadline=None, phases=(Phase.explicit, Phase.generate))
@given(clusters())
def test_every_task_goes_where_the_rules_say(snapshot: Snapshot) -> None:
    """Alternatives in order, now before later; likes, slices, shared devices, pack or spread, fragments, name; the fullest devices."""
    decision = decide(snapshot, ("allocate",))
    slowly = Slowly(snapshot)
    expected = [(row.task.name, row.node, row.shares, row.waits) for row in slowly.settled]
    found = [(row.task, row.node, row.devices, bool(row.after)) for row in decision.places]
    assert found == expected, told(snapshot, decision)
    _waits_for_the_right_ones(snapshot, decision, slowly)
    _lacks_what_is_told(snapshot, decision, slowly)


def _waits_for_the_right_ones(snapshot: Snapshot, decision: Decision, slowly: Slowly) -> None:
    """Once all who are named have left there is room, beside all who came before it or start at once; not before the last has."""
    by_name = {task.name: task for _, task in holding(snapshot)}
    for number, place in enumerate(decision.places):
        for missing in (None, *place.after[-1:]):
            here = stock(next(node for node in snapshot.nodes if node.name == place.node))
            for name, task in by_name.items():
                if task.node == place.node and (name not in place.after or name == missing):
                    here.take(task.request, task.devices)
            for other, row in enumerate(decision.places):
                counts = (other < number and place.after) or not row.after
                if row.node == place.node and other != number and counts:
                    here.take(slowly.settled[other].task.request, row.devices)
            here.take(slowly.settled[number].task.request, place.devices)
            if missing is None or len(place.after) == 1:
                fine = _sound(here, place, slowly.settled[number].task.request)
                assert fine == (missing is None), f"{place} {told(snapshot, decision)}"
        assert all(by_name[name].state == "releasing" for name in place.after)
        assert all(by_name[name].node == place.node for name in place.after)


def _sound(here: Stock, place: Place, request: Request) -> bool:
    """Whether of all that a place takes a node has no less than nothing: what it doesn't ask for others may still hold."""
    mine = {share.index for share in place.devices}
    left = [here.tasks, *(here.free[index] for index in mine if index in here.free)]
    left += [
        free for free, asked in ((here.cpu, request.cpu_milli), (here.memory, request.memory_mib)) if asked
    ]
    left += [here.extended[name] for name, amount in request.extended.items() if amount]
    return min(left) >= 0 and all(
        can_hold(device, {name: count for name, count in here.cut[device.index].items() if count})
        for device in here.node.devices
        if device.index in mine and device.index in here.cut
    )


def _lacks_what_is_told(snapshot: Snapshot, decision: Decision, slowly: Slowly) -> None:
    """By node the first reason that applies, and what the nearest node lacks: of nodes once others have left, or of empty ones."""
    for workload in slowly.left:
        (task,) = workload.tasks
        hold = next(row for row in decision.holds if row.workload == workload.name)
        able = possible(snapshot.nodes, task, workload.pool)
        assert hold.code == ("NoRoom" if able else "NoNodeMatches"), told(snapshot, decision)
        stocks = slowly.later if able else {node.name: stock(node) for node in snapshot.nodes}
        assert hold.nodes == reasons(stocks, task, workload.pool), f"{hold} {told(snapshot, decision)}"
        name, lack = short(stocks, task, workload.pool)
        assert hold.short == lack, f"{hold} {lack} {told(snapshot, decision)}"
        if able:
            assert f"{name} comes nearest" in hold.message
