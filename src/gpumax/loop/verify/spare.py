"""Rule 6: no eviction that helps nobody. When all is done, nobody who had to go could have stayed."""

from __future__ import annotations

from collections.abc import Iterator

from gpumax.loop.verify.company import Company, Person, asked
from gpumax.loop.verify.facts import Facts
from gpumax.loop.verify.quota import final
from gpumax.loop.verify.reclaim import Step, steps
from gpumax.loop.verify.room import Fill
from gpumax.loop.verify.shares import most, share_rows
from gpumax.loop.verify.violation import Violation
from gpumax.model.amounts import RESOURCES
from gpumax.model.decision import Cause


def check_spare(facts: Facts) -> Iterator[Violation]:
    """Put every victim back by itself: it must be in somebody's way, on its node or in a queue."""
    if not facts.evicted:
        return
    found = steps(facts)
    fills = _filled(facts, frozenset(facts.tasks[name].node or "" for name in facts.evicted))
    going = {step.workload.name for step in found if step.core}
    queues = _Queues(facts)
    company = Company(facts) if asked(facts) else None
    for step in found:
        if _stale(facts, step.tasks[0]):
            continue
        tied = not step.core and step.workload.name in going
        if tied or (company is not None and not _may_be_beside(facts, company, step)):
            continue
        if _fits(facts, fills, step) and queues.allow(step):
            words = "could have stayed, all of it" if len(step.tasks) > 1 else "could have stayed"
            yield Violation(6, f"{step.workload.name} {words}", step.beneficiary, step.tasks[0])


def _may_be_beside(facts: Facts, company: Company, step: Step) -> bool:
    """Whether those who came could be beside a victim that stays where it was, and need nobody where it was to go."""
    here = (Person(facts.tasks[name], step.workload, facts.tasks[name].node or "") for name in step.tasks)
    return not any(map(company.in_the_way, here)) and not (step.moved and company.counted_on(step.tasks))


def _filled(facts: Facts, nodes: frozenset[str]) -> dict[str, Fill]:
    """The victims' nodes when everyone who leaves has left and everyone who comes is there; what is stale goes after that."""
    fills = {name: Fill(facts.nodes[name]) for name in nodes if name in facts.nodes}
    for name, tasks in facts.holders(frozenset(fills)).items():
        for task in tasks:
            if task.state != "releasing" and (task.name not in facts.evicted or _stale(facts, task.name)):
                fills[name].take(task.request, facts.devices(task))
    for new in facts.newcomers:
        if new.node in fills:
            fills[new.node].take(new.task.request, new.devices)
    return fills


def _stale(facts: Facts, name: str) -> bool:
    return facts.evicted[name].cause == "stale"


def _fits(facts: Facts, fills: dict[str, Fill], step: Step) -> bool:
    """Whether the tasks of a step fit where they were, together."""
    fits = True
    taken = []
    for name in step.tasks:
        task = facts.tasks[name]
        fill = fills.get(task.node or "")
        if fill is None or fill.excess(task.request, facts.devices(task), stays=True):
            fits = False
            break
        fill.take(task.request, facts.devices(task))
        taken.append((fill, task))
    for fill, task in taken:
        fill.give(task.request, facts.devices(task))
    return fits


class _Queues:
    """What queues hold before the stale pass, and whether a victim's amounts would be too much on top."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._held = final(facts, stale=False)
        self._rows = share_rows(facts)
        self._coming: dict[str, list[int]] = {}
        self._takers = {
            (row.beneficiary, row.cause)
            for row in facts.evicted.values()
            if row.beneficiary in facts.workloads
        }

    def allow(self, step: Step) -> bool:
        """Whether the queues of all askers stay within bounds though the victim goes on holding what it holds: within limit
        where they preempt; within share, too, where they reclaim."""
        return step.moved or all(self._allows(step, name, cause) for name, cause in self._takers)

    def _allows(self, step: Step, taker: str, cause: Cause) -> bool:
        asker = self._facts.workloads[taker]
        path = self._facts.paths.get(step.workload.queue, ())
        for name in [name for name in self._facts.paths.get(asker.queue, ()) if name in path]:
            limit = self._facts.queues[name].limit.vector()
            asked = self._asked(asker.name)
            for position in asked:
                share = most(self._facts, self._rows, name, position, gpus=0 in asked)
                bound = limit[position] if cause == "preempt" else min(share, limit[position])
                if self._held[name][position] + step.amounts[position] > bound:
                    return False
        return True

    def _asked(self, asker: str) -> list[int]:
        if asker not in self._coming:
            mine = [new for new in self._facts.newcomers if not new.moved and new.workload.name == asker]
            self._coming[asker] = [
                position for position in range(len(RESOURCES)) if any(new.amounts[position] for new in mine)
            ]
        return self._coming[asker]
