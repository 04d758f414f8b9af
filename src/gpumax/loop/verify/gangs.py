"""Rule 2: a gang is placed whole and leaves whole, and extras are extras."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from gpumax.loop.verify.facts import Facts
from gpumax.loop.verify.known import task_order
from gpumax.loop.verify.violation import Violation
from gpumax.model.decision import Place
from gpumax.model.workload import ACTIVE, Workload
from gpumax.words import plural


def check_gangs(facts: Facts) -> Iterator[Violation]:
    """Minimums of those who come, and of those of whom some go."""
    coming: dict[str, list[Place]] = {}
    for place in facts.decision.places:
        coming.setdefault(facts.owner[place.task].name, []).append(place)
    for name, places in coming.items():
        workload = facts.workloads[name]
        counts = Counter(facts.tasks[place.task].group for place in places)
        here = _here(facts, workload)
        for group in workload.groups:
            count = here.get(group.name, 0) + counts[group.name]
            if count < group.min:
                which = f" of group {group.name}" if group.name else ""
                yield Violation(
                    2, f"{plural(count, 'task')}{which} would run; its minimum is {group.min}", name
                )
        yield from _together(facts, workload, places)
    yield from _going(facts)


def _together(facts: Facts, workload: Workload, places: list[Place]) -> Iterator[Violation]:
    """Where one place of the minimum waits, all places of the workload wait for the same tasks."""
    first = places[0].after
    apart = [place for place in places if place.after is not first and place.after != first]
    if not apart:
        return
    by_group: dict[str, list[Place]] = {}
    for place in sorted(places, key=lambda place: task_order(facts.tasks[place.task])):
        by_group.setdefault(facts.tasks[place.task].group, []).append(place)
    lacks = facts.lacks(workload)
    least = [place for name, rows in by_group.items() for place in rows[: lacks.get(name, 0)]]
    if any(place.after for place in least):
        found = "its places wait for different tasks; a gang starts whole"
        yield Violation(2, found, workload.name, apart[0].task)


def _going(facts: Facts) -> Iterator[Violation]:
    """Who loses part of a minimum loses all of it, and moves whole or not at all."""
    for name in {facts.owner[task].name: None for task in facts.evicted}:
        workload = facts.workloads[name]
        core = facts.core(workload)
        gone = [task for task in core if task in facts.evicted]
        if not gone:
            continue
        active = [task.name for task in workload.tasks if task.state in ACTIVE]
        # Where its minimum stops, an extra that is moved is left, too.
        stops = facts.evicted[gone[0]].restarts_on is None
        left = [t for t in active if t not in facts.evicted or (stops and facts.evicted[t].restarts_on)]
        blame = facts.evicted[gone[0]].beneficiary
        if left and not _stands(facts, workload):
            found = f"{plural(len(left), 'task')} of {name} would be left, below its minimum"
            yield Violation(2, found, blame, gone[0])
        moved = sum(facts.evicted[task].restarts_on is not None for task in gone)
        if moved not in (0, len(gone)):
            yield Violation(2, f"{moved} of {len(gone)} tasks of the gang {name} are moved", blame, gone[0])


def _stands(facts: Facts, workload: Workload) -> bool:
    here = _here(facts, workload)
    return all(here.get(group.name, 0) >= group.min for group in workload.groups)


def _here(facts: Facts, workload: Workload) -> dict[str, int]:
    """By group: the tasks that run and stay, or run elsewhere, and those that are done."""
    here: dict[str, int] = {}
    for task in workload.tasks:
        evicted = facts.evicted.get(task.name)
        stays = evicted is None or evicted.restarts_on is not None
        if task.state == "succeeded" or (task.state in ACTIVE and stays):
            here[task.group] = here.get(task.group, 0) + 1
    return here
