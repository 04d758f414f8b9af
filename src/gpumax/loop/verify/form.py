"""What the form of a decision demands: one row a task, one answer a workload, names that exist."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from gpumax.loop.verify.facts import Facts
from gpumax.loop.verify.violation import Violation
from gpumax.model.workload import ACTIVE
from gpumax.words import plural


def check_form(facts: Facts) -> Iterator[Violation]:
    """Rows of places and evictions: known tasks, in a state that allows it, each once (rule 8 among them)."""
    yield from _places(facts)
    yield from _evictions(facts)
    yield from _after(facts)
    rows = Counter(place.task for place in facts.decision.places)
    rows.update(eviction.task for eviction in facts.decision.evictions)
    for name, count in rows.items():
        if count > 1:
            evicted = facts.evicted.get(name)
            rule = 0 if evicted is None else 8
            owner = facts.owner.get(name)
            blame = evicted.beneficiary if evicted is not None else owner.name if owner is not None else ""
            yield Violation(rule, f"{plural(count, 'row')} for one task", blame, name)


def _places(facts: Facts) -> Iterator[Violation]:
    for place in facts.decision.places:
        task = facts.tasks.get(place.task)
        if task is None:
            yield Violation(
                0, f"a place on {place.node} for a task that is not in the snapshot", "", place.task
            )
            continue
        owner = facts.owner[place.task].name
        if task.state != "pending":
            yield Violation(0, f"a place for a task that is {task.state}", owner, place.task)
        if place.node not in facts.nodes:
            yield Violation(0, f"a place on {place.node}, which is not in the snapshot", owner, place.task)
        if facts.owner[place.task].queue not in facts.queues:
            yield Violation(0, f"its queue {facts.owner[place.task].queue} does not exist", owner, place.task)


def _evictions(facts: Facts) -> Iterator[Violation]:
    placed = {facts.owner[place.task].name for place in facts.decision.places if place.task in facts.owner}
    for eviction in facts.decision.evictions:
        task, blame = facts.tasks.get(eviction.task), eviction.beneficiary
        if task is None:
            yield Violation(0, "eviction of a task that is not in the snapshot", blame, eviction.task)
        elif task.state not in ACTIVE:
            yield Violation(0, f"eviction of a task that is {task.state}", blame, eviction.task)
        if eviction.restarts_on is not None and eviction.restarts_on not in facts.nodes:
            found = f"moved to {eviction.restarts_on}, which is not in the snapshot"
            yield Violation(0, found, blame, eviction.task)
        if eviction.restarts_on is None and eviction.devices:
            yield Violation(0, "devices for an eviction that is no move", blame, eviction.task)
        if eviction.cause != "stale" and blame not in placed:
            yield Violation(6, f"evicted for {blame or 'nobody'}, which is not placed", blame, eviction.task)


def _after(facts: Facts) -> Iterator[Violation]:
    known: dict[int, str] = {}
    for place in facts.decision.places:
        # All places of a gang share one tuple as a rule: each is looked at once.
        stays = known.get(id(place.after))
        if stays is None:
            stays = known[id(place.after)] = next((name for name in place.after if _stays(facts, name)), "")
        if stays and place.task in facts.owner:
            owner = facts.owner[place.task].name
            yield Violation(0, f"waits for {stays}, which is not leaving", owner, place.task)


def _stays(facts: Facts, name: str) -> bool:
    task = facts.tasks.get(name)
    return task is None or (name not in facts.evicted and task.state != "releasing")


def check_answers(facts: Facts) -> Iterator[Violation]:
    """A hold for each waiting workload without places, and for nobody else."""
    placed = {facts.owner[place.task].name for place in facts.decision.places if place.task in facts.owner}
    held = Counter([hold.workload for hold in facts.decision.holds])
    wait = facts.known.waiting
    if len(held) == len(facts.decision.holds) and wait == placed | held.keys() and placed.isdisjoint(held):
        return
    for workload in facts.snapshot.workloads:
        name = workload.name
        waits = "pending" in [task.state for task in workload.tasks]
        answers = held.pop(name, 0)
        if answers > 1:
            yield Violation(0, f"{answers} holds for one workload", name)
        elif waits and not answers and name not in placed:
            yield Violation(0, "waits and has neither a place nor a hold", name)
        elif answers and not waits:
            yield Violation(0, "a hold for a workload of which no task waits", name)
        elif answers and name in placed:
            yield Violation(0, "a hold for a workload that is placed", name)
    for name in held:
        yield Violation(0, "a hold for a workload that is not in the snapshot", name)
