"""Rules 5 and 7: from whom work is taken, for whom, and not before its time; judged step by step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gpumax.loop.verify.facts import NOTHING, Facts, Newcomer, Vector, add, plus
from gpumax.loop.verify.quota import final
from gpumax.loop.verify.shares import Rows, share_rows
from gpumax.loop.verify.violation import Violation
from gpumax.model.amounts import RESOURCES
from gpumax.model.decision import Cause
from gpumax.model.workload import Workload
from gpumax.units import format_duration


class Step(NamedTuple):
    """What goes at once: one extra, or the minimum of a whole gang. moved: it holds its amounts elsewhere."""

    workload: Workload
    tasks: tuple[str, ...]
    amounts: Vector
    beneficiary: str
    core: bool
    moved: bool


def steps(facts: Facts) -> list[Step]:
    """The evictions in their order, a gang's minimum together where its first task goes."""
    cores: dict[str, frozenset[str]] = {}
    found: list[Step] = []
    done: set[str] = set()
    for name, eviction in facts.evicted.items():
        workload = facts.owner[name]
        if workload.name not in cores:
            cores[workload.name] = facts.core(workload)
        core = name in cores[workload.name]
        if core and workload.name in done:
            continue
        tasks: tuple[str, ...] = (name,)
        if core:
            done.add(workload.name)
            tasks = tuple(task for task in facts.evicted if task in cores[workload.name])
        amounts = NOTHING
        for task in tasks:
            amounts = plus(amounts, facts.amounts(facts.tasks[task]))
        moved = eviction.restarts_on is not None
        found.append(Step(workload, tasks, amounts, eviction.beneficiary, core, moved))
    return found


def check_evictions(facts: Facts) -> Iterator[Violation]:
    """Every step of every eviction, in order."""
    bound = facts.snapshot.policy.max_evictions
    if bound and len(facts.decision.evictions) > bound:
        found = f"{len(facts.decision.evictions)} evictions in one decision; the bound is {bound}"
        yield Violation(6, found, facts.decision.evictions[-1].beneficiary)
    if not facts.evicted:
        return
    yield from _Reclaim(facts).check()


class _Reclaim:
    """The queues as they are while one step after the other is taken.

    giving counts all that was placed for those whose steps have begun, taking no more of each than it placed first:
    which of its extras came before a step, a decision doesn't say, and in doubt the step was allowed.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.rows: Rows = share_rows(facts)
        self.giving = facts.allocated()
        self.taking = facts.allocated()
        self.coming: dict[str, list[Newcomer]] = {}
        for new in facts.newcomers:
            if not new.moved:
                self.coming.setdefault(new.workload.name, []).append(new)
        served = {eviction.beneficiary for eviction in facts.evicted.values()}
        # Allocate comes before reclaim: what it placed counts at every step.
        for name in self.coming.keys() - served:
            self._count(self.giving, self.coming[name])
            self._count(self.taking, self.coming[name])

    def check(self) -> Iterator[Violation]:
        """The steps, then what the askers hold in the end."""
        arrived: set[str] = set()
        reclaimed: dict[str, None] = {}
        for step in steps(self.facts):
            asker, cause = self.facts.workloads.get(step.beneficiary), self.facts.evicted[step.tasks[0]].cause
            if asker is None:
                continue
            if asker.name not in arrived:
                arrived.add(asker.name)
                self._count(self.giving, self.coming.get(asker.name, []))
                self._count(self.taking, self._first(asker))
            if cause == "reclaim":
                reclaimed[asker.name] = None
            yield from self._judge(step, asker, cause)
            self._leave(step)
        yield from self._askers(reclaimed)

    def _judge(self, step: Step, asker: Workload, cause: Cause) -> Iterator[Violation]:
        victim, first = step.workload, step.tasks[0]
        if cause == "reclaim" and (found := self._reclaim(step, asker)):
            yield Violation(5, found, asker.name, first)
        if cause == "preempt" and (asker.queue != victim.queue or asker.priority <= victim.priority):
            found = f"preempts {victim.name} of queue {victim.queue}, priority {victim.priority}"
            yield Violation(7, found, asker.name, first)
        if step.core and (found := self._too_young(step, asker, cause)):
            yield Violation(7, found, asker.name, first)

    def _reclaim(self, step: Step, asker: Workload) -> str:
        """Why the step is none that reclaim may take; empty where it is."""
        sides = self._sides(asker.queue, step.workload.queue)
        if sides is None:
            return f"reclaims from {step.workload.name} of its own queue {asker.queue}"
        taker, giver = sides
        asked = _sum(self.coming.get(asker.name, []))
        counted = [p for p in range(len(RESOURCES)) if asked[p] and step.amounts[p]]
        if counted[:1] == [0]:
            # A guarantee of GPUs is not broken to get at cores: where GPUs are asked for and freed, only they count.
            counted = [0]
        bounds = self.facts.queues[taker].quota.vector()
        within = all(self.taking[taker][p] <= bounds[p] for p in range(len(RESOURCES)) if asked[p])
        words = []
        for position in counted:
            resource, held = RESOURCES[position], self.giving[giver][position]
            share, quota = self.rows[giver, resource].share, self.facts.queues[giver].quota.vector()[position]
            if held > share or (within and held > quota):
                return ""
            words.append(f"{held} {resource}, share {share}, quota {quota}")
        return f"takes from queue {giver}, which holds {'; '.join(words) or 'nothing that is asked for'}"

    def _first(self, asker: Workload) -> list[Newcomer]:
        """What it places first: what its minimum lacks together, else one task."""
        lacks = sum(self.facts.lacks(asker).values())
        return self.coming.get(asker.name, [])[: lacks or 1]

    def _too_young(self, step: Step, asker: Workload, cause: Cause) -> str:
        """Why a minimum may not go yet; empty where it may. For reclaim: the runtime set one step below the common
        ancestor, or else at the nearest queue above; for preempt: at its queue, or else at the nearest above."""
        path = self.facts.paths.get(step.workload.queue, ())
        if cause == "reclaim":
            sides = self._sides(asker.queue, step.workload.queue)
            path = path[path.index(sides[1]) :] if sides is not None else ()
        elif cause != "preempt":
            return ""
        queues = [self.facts.queues[name] for name in path]
        written = [
            queue.reclaim_min_runtime_ms if cause == "reclaim" else queue.preempt_min_runtime_ms
            for queue in queues
        ]
        runtime = next((ms for ms in written if ms is not None), 0)
        ran = self.facts.snapshot.now_ms - (step.workload.started_ms or 0)
        if ran >= runtime:
            return ""
        return f"evicts {step.workload.name} after {format_duration(ran)}; its minimum is {format_duration(runtime)}"

    def _sides(self, asker: str, victim: str) -> tuple[str, str] | None:
        """The siblings below the lowest common ancestor, the asker's first; None where it is the same queue."""
        mine, theirs = self.facts.paths.get(asker, ()), self.facts.paths.get(victim, ())
        if asker == victim or not mine or not theirs:
            return None
        pairs = list(zip(reversed(mine), reversed(theirs), strict=False))
        return next((pair for pair in pairs if pair[0] != pair[1]), None)

    def _askers(self, reclaimed: Iterable[str]) -> Iterator[Violation]:
        """Whoever reclaimed is within its share, at its queue and at every one above."""
        held = final(self.facts)
        for name in reclaimed:
            for queue in self.facts.paths.get(self.facts.workloads[name].queue, ()):
                for position in _everywhere(self.coming.get(name, [])):
                    share = self.rows[queue, RESOURCES[position]].share
                    if held[queue][position] > share:
                        holds = f"{held[queue][position]} {RESOURCES[position]} of its share of {share}"
                        found = f"reclaims, and queue {queue} would hold {holds}"
                        yield Violation(5, found, name)

    def _leave(self, step: Step) -> None:
        path = self.facts.paths.get(step.workload.queue)
        if path is not None and not step.moved:
            add(self.giving, path, step.amounts, -1)
            add(self.taking, path, step.amounts, -1)

    def _count(self, held: dict[str, list[int]], coming: list[Newcomer]) -> None:
        for new in coming:
            path = self.facts.paths.get(new.workload.queue)
            if path is not None:
                add(held, path, new.amounts)


def _sum(coming: list[Newcomer]) -> Vector:
    amounts = NOTHING
    for new in coming:
        amounts = plus(amounts, new.amounts)
    return amounts


def _everywhere(coming: list[Newcomer]) -> list[int]:
    """The resources that every task of an asker asks for: what its extras reclaimed for, its minimum may not have."""
    return [
        position
        for position in range(len(RESOURCES))
        if coming and all(new.amounts[position] for new in coming)
    ]
