"""Reservations: what a decision places leaves what a gang which has waited for long is told to get: room, and in its queues.

Looked at are gangs of tasks that all ask for the same, for which enough room can be counted without laying anything out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gpumax.loop.verify.devices import need
from gpumax.loop.verify.facts import Facts, add
from gpumax.loop.verify.filters import refusal
from gpumax.loop.verify.room import Fill
from gpumax.loop.verify.violation import Violation
from gpumax.model.decision import Hold
from gpumax.model.node import Node
from gpumax.model.workload import ACTIVE, HOLDING, Request, Task, Workload
from gpumax.units import MILLI

MOST_CHECKED: Final = 4
"""Gangs that are looked at a decision, those with the earliest moments."""


def check_reservations(facts: Facts) -> Iterator[Violation]:
    """Every such gang fits at its moment, when what is known to end has ended, beside all that was placed."""
    now_ms, least_ms = facts.snapshot.now_ms, facts.snapshot.policy.reserve_after_ms
    told = [
        hold
        for hold in facts.decision.holds
        if hold.reserved
        and hold.workload in facts.workloads
        and now_ms - facts.workloads[hold.workload].submitted_ms > least_ms
    ]
    for hold in sorted(told, key=lambda hold: (hold.forecast_ms or 0, hold.workload))[:MOST_CHECKED]:
        workload = facts.workloads[hold.workload]
        tasks = _alike(facts, workload)
        if not tasks:
            continue
        if _room_for(facts, hold, workload, tasks[0]) < len(tasks):
            yield from _blamed(facts, hold, workload)
            continue
        full = _full(facts, hold, workload, tasks)
        if full:
            yield from _blamed(facts, hold, workload, full)


def _alike(facts: Facts, workload: Workload) -> list[Task]:
    """The tasks that its minimum lacks, where all that wait are alike; else none."""
    waiting = [task for task in workload.tasks if task.state == "pending"]
    first = waiting[0] if waiting else None
    if first is None or len(first.request.gpu) > 1 or first.request.slices:
        return []
    if any(
        (task.request, task.selector, task.affinity, task.tolerations)
        != (first.request, first.selector, first.affinity, first.tolerations)
        for task in waiting
    ):
        return []
    return waiting[: sum(facts.lacks(workload).values())]


def _room_for(facts: Facts, hold: Hold, workload: Workload, task: Task) -> int:
    """At most how many such tasks fit at the moment that the hold names."""
    fills = _filled(facts, hold.forecast_ms or 0)
    return sum(
        _count(fill, task.request) for fill in fills.values() if not refusal(task, workload.pool, fill.node)
    )


def _filled(facts: Facts, moment: int) -> dict[str, Fill]:
    """The nodes at a moment: those who are known to end have ended, everyone else is there."""
    fills = {name: Fill(node) for name, node in facts.nodes.items()}
    for workload in facts.snapshot.workloads:
        if _over(facts, workload, moment):
            continue
        for task in workload.tasks:
            stays = task.state in HOLDING and task.state != "releasing" and task.name not in facts.evicted
            if stays and task.node in fills:
                fills[task.node].take(task.request, facts.devices(task))
    for new in facts.newcomers:
        if new.node in fills and (new.moved or new.after or not _over(facts, new.workload, moment)):
            fills[new.node].take(new.task.request, new.devices)
    return fills


def _full(facts: Facts, hold: Hold, workload: Workload, tasks: list[Task]) -> str:
    """The queue above a gang that would hold too much with it at the moment that the hold names; empty where there is none."""
    ask = tasks[0].request
    if any(gpu.memory_mib for gpu in ask.gpu):
        return ""  # what it counts depends on where it goes
    gpu = sum(gpu.devices * gpu.milli for gpu in ask.gpu)
    asked = tuple(len(tasks) * amount for amount in (gpu, ask.cpu_milli, ask.memory_mib))
    path = facts.paths.get(workload.queue, ())
    bounds = [(False, {name: facts.queues[name].limit.vector() for name in path})]
    if workload.preemptible is False:
        bounds.append((True, {name: facts.queues[name].quota.vector() for name in path}))
    for fixed, most in bounds:
        held = _held(facts, hold.forecast_ms or 0, fixed=fixed)
        for name in path:
            if any(
                more and before + more > bound
                for before, more, bound in zip(held[name], asked, most[name], strict=True)
            ):
                return name
    return ""


def _held(facts: Facts, moment: int, *, fixed: bool) -> dict[str, list[int]]:
    """What each queue holds at a moment; fixed: of work that is never evicted as a whole."""
    held = {name: [0, 0, 0] for name in facts.queues}
    for workload in facts.snapshot.workloads:
        path = facts.paths.get(workload.queue, ())
        if _over(facts, workload, moment) or (fixed and workload.preemptible is not False):
            continue
        for task in workload.tasks:
            if task.state in ACTIVE and task.name not in facts.evicted:
                add(held, path, facts.amounts(task))
    for new in facts.newcomers:
        if fixed and new.workload.preemptible is not False:
            continue
        if new.moved or new.after or not _over(facts, new.workload, moment):
            add(held, facts.paths.get(new.workload.queue, ()), new.amounts)
    return held


def _over(facts: Facts, workload: Workload, moment: int) -> bool:
    """Whether a run, or one that starts now, is known to have ended by then."""
    now_ms = facts.snapshot.now_ms
    if workload.max_duration_ms is None:
        return False
    runs = workload.started_ms is not None and any(task.state in ACTIVE for task in workload.tasks)
    end = (workload.started_ms or 0 if runs else now_ms) + workload.max_duration_ms
    return now_ms <= end <= moment


def _count(fill: Fill, request: Request) -> int:
    """At most how many tasks of a request a node has room for."""
    node, most = fill.node, len(fill.node.devices) * MILLI + MILLI
    if node.tasks is not None:
        most = min(most, node.tasks - fill.tasks)
    if request.cpu_milli:
        most = min(most, (node.cpu_milli - fill.cpu) // request.cpu_milli)
    if request.memory_mib:
        most = min(most, (node.memory_mib - fill.memory) // request.memory_mib)
    for name, amount in request.extended.items():
        if amount:
            most = min(most, (node.extended.get(name, 0) - fill.extended.get(name, 0)) // amount)
    if request.gpu:
        most = min(most, _by_devices(fill, request, node) // request.gpu[0].devices)
    return max(0, most)


def _by_devices(fill: Fill, request: Request, node: Node) -> int:
    """How many parts of single devices fit, wherever."""
    parts = 0
    for device in node.devices:
        each = need(request.gpu[0], device)
        if each:
            parts += max(0, MILLI - fill.devices.get(device.index, 0)) // each
    return parts


def _blamed(facts: Facts, hold: Hold, workload: Workload, full: str = "") -> Iterator[Violation]:
    """Those of its queue who come after it and will still be there; where there are none, what it was told is wrong.

    full: a queue that holds too much then; only work below it is to blame.
    """
    found = f"could not start at the moment that it is told: {hold.forecast_ms} ms"
    rank = (-workload.priority, workload.submitted_ms, workload.name)
    guilty = {
        new.workload.name
        for new in facts.newcomers
        if not _over(facts, new.workload, hold.forecast_ms or 0)
        and new.workload.name != workload.name
        and (not full or full in facts.paths.get(new.workload.queue, ()))
        and (
            new.workload.queue != workload.queue
            or (-new.workload.priority, new.workload.submitted_ms, new.workload.name) > rank
        )
    }
    for name in sorted(guilty) or [workload.name]:
        yield Violation(11, f"{workload.name} {found}", name)
