"""Rules 5 and 7: from whom work is taken, for whom, and not before its time; judged step by step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gpumax.loop.verify.facts import NOTHING, Facts, Newcomer, add, plus
from gpumax.loop.verify.known import Vector
from gpumax.loop.verify.quota import final
from gpumax.loop.verify.shares import Rows, most, share_rows
from gpumax.loop.verify.violation import Violation
from gpumax.model.amounts import RESOURCES
from gpumax.model.decision import Cause
from gpumax.model.workload import Workload
from gpumax.units import format_duration
from gpumax.words import plural


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
        found = f"{plural(len(facts.decision.evictions), 'eviction')} in one decision; the bound is {bound}"
        yield Violation(6, found, facts.decision.evictions[-1].beneficiary)
    if not facts.evicted:
        return
    yield from _Reclaim(facts).check()


class _Reclaim:
    """The queues as they are while one step after the other is taken.

    A decision says in which order workloads are placed, not when an elastic one got its extras. In doubt a step was
    allowed: `giving` counts extras of those who come before the asker, `taking` what they placed first alone.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.rows: Rows = share_rows(facts)
        self.giving = facts.allocated()
        self.taking = {name: list(held) for name, held in self.giving.items()}
        self.coming: dict[str, list[Newcomer]] = {}
        for new in facts.newcomers:
            if not new.moved:
                self.coming.setdefault(new.workload.name, []).append(new)
        self._left = list(reversed(self.coming))  # not yet counted in `taking`, the next one last
        self._given: set[str] = set()
        self._arrived: set[str] = set()
        self._done: dict[str, list[int]] | None = None

    def check(self) -> Iterator[Violation]:
        """The steps in order; when the last one for an asker is taken, what it and the queues above it hold."""
        found = steps(self.facts)
        last = {step.beneficiary: number for number, step in enumerate(found)}
        for number, step in enumerate(found):
            asker, cause = self.facts.workloads.get(step.beneficiary), self.facts.evicted[step.tasks[0]].cause
            if asker is None or asker.name not in self.coming:
                continue
            self._arrive(asker)
            yield from self._judge(step, asker, cause)
            self._leave(step)
            if cause == "reclaim" and last[asker.name] == number:
                yield from self._asker(asker)

    def _judge(self, step: Step, asker: Workload, cause: Cause) -> Iterator[Violation]:
        victim, first = step.workload, step.tasks[0]
        if cause == "reclaim" and (found := self._reclaim(step, asker)):
            yield Violation(5, found, asker.name, first)
        if cause == "preempt" and (asker.queue != victim.queue or asker.priority <= victim.priority):
            found = f"preempts {victim.name} of queue {victim.queue}, priority {victim.priority}"
            yield Violation(7, found, asker.name, first)
        if cause == "consolidate" and not step.moved:
            yield Violation(6, f"consolidates, and {victim.name} finds no new place", asker.name, first)
        if step.core and (found := self._too_young(step, asker, cause)):
            yield Violation(7, found, asker.name, first)

    def _reclaim(self, step: Step, asker: Workload) -> str:
        """Why the step is none that reclaim may take; empty where it is."""
        sides = self._sides(asker.queue, step.workload.queue)
        if sides is None:
            return f"reclaims from {step.workload.name} of its own queue {asker.queue}"
        taker, giver = sides
        asked = _sum(self.coming[asker.name])
        counted = [p for p in range(len(RESOURCES)) if asked[p] and step.amounts[p]]
        if counted[:1] == [0]:
            # A guarantee of GPUs is not broken to get at cores: where GPUs are asked for and freed, only they count.
            counted = [0]
        positions = [p for p in range(len(RESOURCES)) if asked[p]]
        within = all(
            self.taking[queue][p] <= self.facts.queues[queue].quota.vector()[p]
            for queue in _up_to(self.facts.paths[asker.queue], taker)
            for p in positions
        )
        for owner in _up_to(self.facts.paths[step.workload.queue], giver):
            words = self._keeps(owner, counted, within=within)
            if words:
                return f"takes from queue {owner}, which holds {words}"
        return ""

    def _keeps(self, owner: str, counted: list[int], *, within: bool) -> str:
        """What a queue holds that has nothing to give; empty where it has."""
        words = []
        for position in counted:
            resource, held = RESOURCES[position], self.giving[owner][position]
            share, quota = self.rows[owner, resource].share, self.facts.queues[owner].quota.vector()[position]
            if held > share or (within and held > quota):
                return ""
            words.append(f"{held} {resource}, share {share}, quota {quota}")
        return "; ".join(words) or "nothing that is asked for"

    def _arrive(self, asker: Workload) -> None:
        """Count the asker and all who were placed before it."""
        if asker.name in self._arrived:
            return
        self._arrived.add(asker.name)
        while asker.name in self._left:
            name = self._left.pop()
            self._count(self.taking, self._first(name))
        mine = self.coming[asker.name]
        # Its extras may have come after anybody else.
        every = len(self._first(asker.name)) < len(mine)
        for name in self.coming:
            if name not in self._given and (every or name not in self._left):
                self._given.add(name)
                self._count(self.giving, self.coming[name])

    def _first(self, name: str) -> list[Newcomer]:
        """What a workload places first: what its minimum lacks together, else one task."""
        lacks = sum(self.facts.lacks(self.facts.workloads[name]).values())
        return self.coming[name][: lacks or 1]

    def _too_young(self, step: Step, asker: Workload, cause: Cause) -> str:
        """Why a minimum may not go yet; empty where it may. For reclaim: the runtime set one step below the common
        ancestor, or else at the nearest queue above; for preempt: at its queue, or else at the nearest above."""
        path = self.facts.paths.get(step.workload.queue, ())
        if cause == "consolidate":
            # Protected as from preempt in the asker's own queue, else as from reclaim.
            cause = "preempt" if asker.queue == step.workload.queue else "reclaim"
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

    def _asker(self, asker: Workload) -> Iterator[Violation]:
        """Whoever reclaims is within its share, at its queue and at every one above.

        At once, or when all of the decision is done: who was spared (rule 6) may stay for what others freed later.
        """
        asked = _everywhere(self.coming[asker.name])
        for queue in self.facts.paths.get(asker.queue, ()):
            for position in asked:
                share = most(self.facts, self.rows, queue, position, gpus=0 in asked)
                held = self.taking[queue][position]
                if held > share and self._final()[queue][position] > share:
                    found = f"queue {queue} would hold {held} {RESOURCES[position]} of its share of {share}"
                    yield Violation(5, f"reclaims, and {found}", asker.name)

    def _final(self) -> dict[str, list[int]]:
        if self._done is None:
            self._done = final(self.facts, stale=False)
        return self._done

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


def _up_to(path: tuple[str, ...], last: str) -> tuple[str, ...]:
    return path[: path.index(last) + 1]


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
