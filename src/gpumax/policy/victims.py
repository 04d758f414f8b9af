"""Who could go, and the cheapest way to make room on a node.

Preemptible work goes in parts: each task above a group's minimum by itself, the minimum of the whole gang together and
only with everything above it; the minimum of semi-preemptible work never. Which part goes first is rule 6 of policy.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from math import inf
from operator import attrgetter
from typing import Final, NamedTuple, Protocol

from gpumax.model.names import natural
from gpumax.model.workload import ACTIVE, Task, Workload
from gpumax.policy.ask import Ask
from gpumax.policy.gang import Spot, Want
from gpumax.policy.held import summed
from gpumax.policy.ledger import Ledger
from gpumax.policy.minimum import split
from gpumax.policy.onenode import OneNode
from gpumax.policy.tree import Account, Vector
from gpumax.policy.world import World

KINDS: Final = tuple(
    tuple(resource for resource in range(3) if mask >> resource & 1) for mask in range(8)
)  # the resources of which something is held, by mask


class Part:
    """Tasks that go together. core: the minimum of a gang; else one extra. cost: how bad it is to lose it, by rule 6."""

    __slots__ = (
        "account", "amounts", "core", "cost", "gone", "helds", "kinds", "rank", "rest", "started_ms", "tasks", "workload"
    )  # fmt: skip

    def __init__(
        self, world: World, workload: Workload, account: Account, tasks: list[Task], *, core: bool
    ) -> None:
        self.workload = workload
        self.account = account
        self.tasks = tasks
        self.core = core
        self.rest: Sequence[Part] = ()  # the extras that must have gone before a core goes
        self.gone = False  # whether the decision has it go already
        if len(tasks) == 1:
            held = world.held[tasks[0].name]
            self.helds = [held]
            gpu, cpu, memory = held.gpu, held.cpu, held.memory
        else:
            self.helds = [world.held[task.name] for task in tasks]
            gpu, cpu, memory = summed(self.helds)
        self.amounts = (gpu, cpu, memory)
        self.kinds = KINDS[(gpu > 0) + 2 * (cpu > 0) + 4 * (memory > 0)]
        self.rank = 0  # the place in the order of cost, later names first among equals
        self.started_ms = workload.started_ms or 0
        saved_ms = workload.checkpointed_ms or 0
        since = world.snapshot.now_ms - (saved_ms if saved_ms > self.started_ms else self.started_ms)
        self.cost = (workload.priority, core, len(tasks), gpu * since if since > 0 else 0, -self.started_ms)


def parts(world: World) -> list[Part]:
    """Every part of preemptible running work, the least bad to lose first."""
    found: list[Part] = []
    accounts = world.tree.accounts
    for workload in world.snapshot.workloads:
        account = accounts.get(workload.queue)
        if workload.preemptible is not False and account is not None:
            found += _parts(world, workload, account)
    cost = attrgetter("cost")
    found.sort(key=cost)
    # Later names come first among equals; a workload's own extras are last task first already, and sorts are stable.
    ordered: list[Part] = []
    for _, equals in groupby(found, key=cost):
        alike = list(equals)
        if len(alike) > 1:
            alike.sort(key=lambda part: natural(part.workload.name), reverse=True)
        ordered += alike
    for rank, part in enumerate(ordered):
        part.rank = rank
    return ordered


def _parts(world: World, workload: Workload, account: Account) -> list[Part]:
    if len(workload.tasks) == 1 and workload.tasks[0].state not in ACTIVE:
        return []  # so are most of those who wait
    core, extras = split(workload)
    if not extras:
        return (
            [Part(world, workload, account, core, core=True)] if core and workload.preemptible is True else []
        )
    found = [Part(world, workload, account, [task], core=False) for task in extras]
    if core and workload.preemptible is True:
        whole = Part(world, workload, account, core, core=True)
        whole.rest = found.copy()
        found.append(whole)
    return found


def keeps_away(part: Part, wants: Iterable[Want]) -> bool:
    """Whether a part has tasks that, wherever they stand, may keep any of these off nodes."""
    return any(
        held.tied is not None and want.ask.filter.tied is not None and held.tied.blocks(want.ask.filter.tied)
        for held in part.helds
        for want in wants
    )


class Tally:
    """What queues give: for each queue with work that goes, and all queues above it, the amounts."""

    __slots__ = ("_given",)

    def __init__(self) -> None:
        self._given: dict[int, Vector] = {}

    def copy(self) -> Tally:
        """A tally to go on with."""
        other = Tally()
        other._given = dict(self._given)
        return other

    def of(self, account: Account) -> Vector:
        """What a queue gives."""
        return self._given.get(account.index, (0, 0, 0))

    def count(self, part: Part, sign: int = 1) -> None:
        """Count a part as given (1) or as kept after all (-1)."""
        gpu, cpu, memory = part.amounts
        for account in part.account.path:
            given = self._given.get(account.index, (0, 0, 0))
            self._given[account.index] = (
                given[0] + sign * gpu,
                given[1] + sign * cpu,
                given[2] + sign * memory,
            )


class Trial:
    """A what-if: a ledger of its own, the parts that go in it, and what their queues give."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger.copy()
        self.gone: dict[Part, None] = {}  # in the order in which they go
        self.homeless: set[Ask] = set()  # asks for which no node has free room
        self.tally = Tally()
        self.moved: dict[
            Part, list[Spot]
        ] = {}  # new places of those who go, where the pass wants them at once
        # Whether whoever moves may take room that others have yet to leave: a gang closes ranks, one takes another's place.
        self.in_turn = False

    def fork(self) -> Trial:
        """A what-if of its own that starts like this one."""
        other = Trial(self.ledger)
        other.gone, other.homeless, other.tally = dict(self.gone), set(self.homeless), self.tally.copy()
        other.moved, other.in_turn = dict(self.moved), self.in_turn
        return other

    def evict(self, part: Part) -> None:
        """Let a part go."""
        for held in part.helds:
            self.ledger.leave(held)
        self.gone[part] = None
        self.tally.count(part)

    def spare(self, part: Part) -> None:
        """Let a part stay after all."""
        for held in part.helds:
            self.ledger.stay(held)
        del self.gone[part]
        moved = self.moved.pop(part, None)
        for spot in moved or ():
            self.ledger.free(spot.held, waited=bool(spot.after))
        if not moved:
            self.tally.count(part, -1)

    def waits(self) -> bool:
        """Whether somebody moves to room that others have yet to leave."""
        return any(spot.after for spots in self.moved.values() for spot in spots)

    def become(self, other: Trial) -> None:
        """Go on from where a fork was, which is not used again."""
        self.ledger, self.gone, self.homeless = other.ledger, other.gone, other.homeless
        self.tally, self.moved = other.tally, other.moved


class Rules(Protocol):
    """What a pass allows; as more goes, less may go."""

    @property
    def moves(self) -> bool:
        """Whether whoever goes finds a new place, unless it may stop."""
        ...

    @property
    def shunts(self) -> bool:
        """Whether only those are looked for who move in turn."""
        ...

    def may_go(self, tally: Tally, part: Part) -> bool:
        """Whether the part may go after what was given already."""
        ...

    def resettle(self, world: World, trial: Trial, parts: Iterable[Part]) -> bool:
        """Where work moves: find new places for these, but for those who may stop; whether that was possible."""
        ...

    def enough(self, tally: Tally) -> bool:
        """Whether the queues above the asker have room for it once this is given."""
        ...

    def ends(self, tally: Tally, account: Account, more: Vector) -> float:
        """How high a queue ends, relative to its share, when it gives `more` on top; higher is better."""
        ...


Cost = tuple[float, float, float, float, float, float]
"""Numbers in the order of rule 6, smaller is better; whole but for bounds."""
FREE: Final[Cost] = (-inf, -inf, -inf, -inf, -inf, -inf)
"""No more than anything costs."""


class Opening(NamedTuple):
    """The parts that have to go so that one task fits on a node, and how bad that is."""

    cost: Cost
    parts: list[Part]


def opening(
    trial: Trial,
    rules: Rules,
    ask: Ask,
    choice: int,
    row: int,
    candidates: Iterable[Part],
    first: Iterable[Part] = (),
) -> Opening | None:
    """The cheapest parts found whose going lets the ask fit on a node; None where nothing does.

    candidates: the parts with tasks on the node that have not gone, least bad first. first: those that have to go anyhow, in
    the same order.
    """
    node = OneNode(trial.ledger, ask, choice, row)
    tally = trial.tally.copy()
    chosen: list[Part] = []
    for part in first:
        bundle = _allowed(trial, rules, tally, chosen, part)
        if not bundle:
            return None
        for step in bundle:
            tally.count(step)
            node.free(step.helds)
        chosen += bundle
    fixed = frozenset(chosen)
    by_queue: dict[int, list[Part]] = {}
    for part in candidates:
        if part in fixed:
            continue
        by_queue.setdefault(part.account.index, []).append(part)
    while not node.fits():
        bundle = _next(trial, rules, tally, chosen, by_queue, node)
        if not bundle:
            return None
        for part in bundle:
            tally.count(part)
            node.free(part.helds)
            waiting = by_queue.get(part.account.index, [])
            if part in waiting:
                waiting.remove(part)
        chosen += bundle
    chosen = _spared(node, tally, chosen, fixed)
    return Opening(cost_of(rules, tally, chosen), chosen)


def again(trial: Trial, rules: Rules, parts: list[Part]) -> Opening | None:
    """The same parts after others have gone; None where they may not go any more."""
    tally = trial.tally.copy()
    for part in parts:
        if part.gone or part in trial.gone or not rules.may_go(tally, part):
            return None
        tally.count(part)
    return Opening(cost_of(rules, tally, parts), parts)


def _next(
    trial: Trial,
    rules: Rules,
    tally: Tally,
    chosen: list[Part],
    by_queue: dict[int, list[Part]],
    node: OneNode,
) -> list[Part]:
    """The next part to go with what must go before it: from the queue that ends highest, there the least bad."""
    best: list[Part] = []
    best_key = (0.0, 0)
    for waiting in by_queue.values():
        for part in waiting:
            if not node.helps(part.helds):
                continue
            bundle = _allowed(trial, rules, tally, chosen, part)
            if bundle:
                key = (-rules.ends(tally, part.account, part.amounts), part.rank)
                if not best or key < best_key:
                    best, best_key = bundle, key
                break
    return best


def _allowed(trial: Trial, rules: Rules, tally: Tally, chosen: list[Part], part: Part) -> list[Part]:
    """The part and the extras that must go before it; empty unless the rules let each of them go in turn."""
    if not part.rest:
        return [part] if rules.may_go(tally, part) else []
    bundle: list[Part] = []
    tally = tally.copy()
    for step in (*part.rest, part):
        if step.gone or step in chosen or step in trial.gone:
            continue
        if not rules.may_go(tally, step):
            return []
        tally.count(step)
        bundle.append(step)
    return bundle


def _spared(node: OneNode, tally: Tally, chosen: list[Part], fixed: frozenset[Part]) -> list[Part]:
    """Without those that need not go: the worst to lose is spared first."""
    if len(chosen) < 2:
        return chosen
    tied = {extra for part in chosen for extra in part.rest}
    spared: set[Part] = set()
    for part in reversed(chosen):
        if part in fixed or part in tied:
            continue
        node.free(part.helds, -1)
        if node.fits():
            spared.add(part)
            tied.difference_update(part.rest)
            tally.count(part, -1)
        else:
            node.free(part.helds)
    return [part for part in chosen if part not in spared]


def cost_of(rules: Rules, tally: Tally, chosen: list[Part]) -> Cost:
    """How bad it is that these go, by rule 6; `tally`: what is given in all."""
    if not chosen:
        return FREE
    if len(chosen) == 1:
        priority, core, tasks, lost, age = chosen[0].cost
        ends = rules.ends(tally, chosen[0].account, (0, 0, 0))
        return (-ends, priority, tasks if core else 0, tasks, lost, age)
    givers = {part.account.index: part.account for part in chosen}
    return (
        -min(rules.ends(tally, account, (0, 0, 0)) for account in givers.values()),
        max(part.workload.priority for part in chosen),
        sum(len(part.tasks) for part in chosen if part.core),
        sum(len(part.tasks) for part in chosen),
        sum(part.cost[3] for part in chosen),
        -min(part.started_ms for part in chosen),
    )
