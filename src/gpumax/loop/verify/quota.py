"""Rules 3 and 4: limits, and quota for work that can't be evicted."""

from __future__ import annotations

from collections.abc import Iterator

from gpumax.loop.verify.facts import Facts, Vector, add
from gpumax.loop.verify.violation import Violation
from gpumax.model.amounts import RESOURCES
from gpumax.model.queue import Queue
from gpumax.units import format_count, format_memory


def check_quota(facts: Facts) -> Iterator[Violation]:
    """Every place in order: each queue above stays within its limit and, for non-preemptible work, its quota."""
    held = final(facts, places=False)
    fixed = facts.allocated(fixed=True)
    for new in facts.newcomers:
        path = facts.paths.get(new.workload.queue)
        if new.moved or path is None:
            continue
        found = _over(facts, path, held, new.amounts, limit=True)
        if found:
            yield Violation(3, found, new.blame, new.task.name)
            continue
        if not new.workload.preemptible:
            found = _over(facts, path, fixed, new.amounts, limit=False)
            if found:
                yield Violation(4, found, new.blame, new.task.name)
                continue
            add(fixed, path, new.amounts)
        add(held, path, new.amounts)
    for task, eviction in facts.evicted.items():
        if not facts.owner[task].preemptible and eviction.cause != "stale":
            found = f"evicts a task of {facts.owner[task].name}, which is non-preemptible"
            yield Violation(4, found, eviction.beneficiary, task)


def final(facts: Facts, *, places: bool = True) -> dict[str, list[int]]:
    """What each queue holds when the decision is carried out; without its places, if so wanted."""
    held = facts.allocated()
    for name in facts.evicted:
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
