"""Rules 3 and 4: limits, and quota for work that can't be evicted: the minimum alone, of semi-preemptible work."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from gpumax.loop.verify.facts import NOTHING, Facts, Newcomer, add, plus
from gpumax.loop.verify.known import Vector, task_order
from gpumax.loop.verify.violation import Violation
from gpumax.model.amounts import RESOURCES
from gpumax.model.queue import Queue
from gpumax.model.workload import ACTIVE, Workload
from gpumax.units import format_count, format_memory

_Member = tuple[tuple[int, tuple[str | int, ...]], str]
"""A task's place in the order of its gang, and its name."""


def check_quota(facts: Facts) -> Iterator[Violation]:
    """Every place in order: each queue above stays within its limit and, for non-preemptible work, its quota."""
    held = final(facts, places=False)
    fixed = facts.allocated(fixed=True)
    minimums = _Minimums(facts)
    for new in facts.newcomers:
        path = facts.paths.get(new.workload.queue)
        if new.moved or path is None:
            continue
        found = _over(facts, path, held, new.amounts, limit=True)
        if found:
            yield Violation(3, found, new.blame, new.task.name)
            continue
        safe = minimums.join(new)
        found = _over(facts, path, fixed, safe, limit=False)
        if found:
            yield Violation(4, found, new.blame, new.task.name)
            continue
        add(fixed, path, safe)
        add(held, path, new.amounts)
    cores: dict[str, frozenset[str]] = {}
    for task, eviction in facts.evicted.items():
        workload = facts.owner[task]
        if workload.preemptible is True or eviction.cause == "stale":
            continue
        found = f"evicts a task of {workload.name}, which is non-preemptible"
        if workload.preemptible == "semi":
            if workload.name not in cores:
                cores[workload.name] = facts.core(workload)
            if task not in cores[workload.name]:
                continue
            found = f"evicts a task of the minimum of {workload.name}, which is semi-preemptible"
        yield Violation(4, found, eviction.beneficiary, task)


def final(facts: Facts, *, places: bool = True, stale: bool = True) -> dict[str, list[int]]:
    """What each queue holds when the decision is carried out; without its places, or before the stale pass, if so wanted."""
    held = facts.allocated()
    for name, eviction in facts.evicted.items():
        if eviction.cause == "stale" and not stale:
            continue
        task, path = facts.tasks[name], facts.paths.get(facts.owner[name].queue)
        if path is not None:
            add(held, path, facts.amounts(task), -1)
    for new in facts.newcomers:
        path = facts.paths.get(new.workload.queue)
        if path is not None and (places or new.moved):
            add(held, path, new.amounts)
    return held


def _over(
    facts: Facts, path: tuple[str, ...], held: dict[str, list[int]], amounts: Vector, *, limit: bool
) -> str:
    for name in path:
        queue: Queue = facts.queues[name]
        bounds = (queue.limit if limit else queue.quota).vector()
        for position, resource in enumerate(RESOURCES):
            used = held[name][position] + amounts[position]
            if amounts[position] and used > bounds[position]:
                what = "limit" if limit else "quota for non-preemptible work"
                say = format_memory if resource == "memory" else format_count
                return (
                    f"queue {name} would use {say(used)} {resource} of its {what} of {say(bounds[position])}"
                )
    return ""


class _Minimums:
    """The groups of semi-preemptible work while one newcomer comes after the other: the first of them can't be evicted."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._members: dict[tuple[str, str], list[_Member]] = {}  # in the order of their gang
        self._came: dict[str, Vector] = {}

    def join(self, new: Newcomer) -> Vector:
        """How much more can't be evicted once the newcomer is there."""
        workload, task = new.workload, new.task
        if workload.preemptible != "semi":
            return NOTHING if workload.preemptible else new.amounts
        members = self._of(workload, task.group)
        mine = (task_order(task), task.name)
        position = bisect_left(members, mine)
        members.insert(position, mine)
        self._came[task.name] = new.amounts
        least = next(group.min for group in workload.groups if group.name == task.group)
        if position >= least:
            return NOTHING
        if len(members) <= least:
            return new.amounts
        # It comes before another one, which is an extra from now on.
        other = self._facts.tasks[members[least][1]]
        if other.request == task.request:
            return NOTHING
        gpu, cpu, memory = self._came.get(other.name) or self._facts.amounts(other)
        return plus(new.amounts, (-gpu, -cpu, -memory))

    def _of(self, workload: Workload, group: str) -> list[_Member]:
        key = (workload.name, group)
        if key not in self._members:
            here = [task for task in workload.tasks if task.group == group and task.state in ACTIVE]
            self._members[key] = sorted((task_order(task), task.name) for task in here)
        return self._members[key]
