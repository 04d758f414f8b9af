"""Reclaim: a queue within its share takes back what others hold above theirs."""

from __future__ import annotations

import numpy as np

from gpumax.model.decision import Eviction
from gpumax.policy.admit import over_quota
from gpumax.policy.allocate import allocate
from gpumax.policy.ask import Ask
from gpumax.policy.fairness import Fairness
from gpumax.policy.gang import Gang, Spot, Want, total
from gpumax.policy.ledger import Bools, Ledger
from gpumax.policy.order import Order
from gpumax.policy.place import Placer, awaited
from gpumax.policy.pool import Pool
from gpumax.policy.room import Candidates, Touched, make_room, move, spare
from gpumax.policy.search import MOST_PARTS, NOT_SEARCHED, search
from gpumax.policy.tree import Account
from gpumax.policy.victims import Part, Tally, Trial
from gpumax.policy.world import World


def reclaim(world: World) -> None:
    """Serve waiting work of queues within their share; what stays unserved stays in `world.waiting`.

    A gang that goes may leave more room than was asked for: whoever fits there is placed, too.
    """
    if world.waiting:
        going = _Reclaim(world)
        going.run()
        if world.evictions:
            _give_out(world, sorted(set(going.touched.rows)), going.ended)


def _give_out(world: World, rows: list[int], ended: set[str]) -> None:
    """Place whoever fits on these nodes, where reclaim has changed the room; the others were tried already.

    ended: workloads whose run ends in this decision; what they have waiting starts with the next run.
    """
    room = world.ledger.later

    def fits(ask: Ask) -> bool:
        return any(world.fits.fitting(room, ask, at)[rows].any() for at in range(len(ask.gpu)))

    able = {ask: fits(ask) for ask in {want.ask for gang in world.waiting for want in gang.chunk()}}

    def may(gang: Gang) -> bool:
        return gang.workload.name not in ended and any(able[want.ask] for want in gang.chunk())

    others = [gang for gang in world.waiting if not may(gang)]
    world.waiting = [gang for gang in world.waiting if may(gang)]
    if world.waiting:
        allocate(world)
    world.waiting += others


class _Reclaim:
    """One pass. What was learnt for one gang serves the next that asks the same."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.placer = Placer(world.fits, world.scores)
        self.touched = Touched()
        self._pool: Pool | None = None
        self.going: dict[
            Part, tuple[Account, list[Spot]]
        ] = {}  # for whose work, and the places of what is moved
        self.ended: set[str] = set()  # workloads that lose their minimum and are not moved
        self._cores: dict[str, Part] = {}  # by workload, its minimum
        self.looked = 0  # how much was searched, against search_steps
        self._givers: dict[object, Bools] = {}
        self._candidates: dict[object, Candidates] = {}
        self._hopeless: set[tuple[int, bool, tuple[Ask, ...]]] = set()

    def run(self) -> None:
        """Try every waiting gang in fair order, each chunk once."""
        order = Order(self.world.waiting)
        left = []
        while (gang := order.pop()) is not None:
            more = False
            spots = self._try(gang)
            if spots is None:
                left.append(gang)
            else:
                more = self.world.place(gang, spots)
                self._keep(gang.workload.name)
            order.done(gang, again=more)
        self.world.waiting = left
        self._spare()

    def _spare(self) -> None:
        """Let those stay after all whose room turned out not to be needed: what went later has freed enough."""
        world, spared = self.world, set[str]()
        tied = {extra for part in self.going for extra in part.rest}
        for part in sorted(self.going, key=lambda part: (part.core, part.rank), reverse=True):
            taker, moved = self.going[part]
            too_much = not moved and _too_much(taker, part)
            if part in tied or too_much or not all(map(world.ledger.could_stay, part.helds)):
                continue
            for held in part.helds:
                world.ledger.stay(held)
            for spot in moved:
                world.ledger.free(spot.held)
            if not moved:
                world.tree.add(part.account, part.amounts, fixed=False)
            part.gone = False
            if part.core:
                self.ended.discard(part.workload.name)
            tied.difference_update(part.rest)
            spared.update(task.name for task in part.tasks)
        if not spared:
            return
        world.evicted -= spared
        world.evictions = [eviction for eviction in world.evictions if eviction.task not in spared]
        for gang in world.placed.values():
            gang.placed = _waiting_anew(world.ledger, gang.placed, spared)

    def _try(self, gang: Gang) -> list[Spot] | None:
        if gang.incomplete or gang.workload.name in self.ended:
            return None
        key = (gang.account.index, gang.workload.preemptible, tuple(want.ask for want in gang.chunk()))
        if key in self._hopeless:
            return None
        # Whole attempts only, so that every decision gets at least one done and none ends half way.
        if self.looked >= self.world.snapshot.policy.search_steps:
            self.world.unsearched.add(gang.workload.name)
            return None
        spots = self._serve(gang)
        if spots is None:
            self._hopeless.add(key)
        return spots

    def _serve(self, gang: Gang) -> list[Spot] | None:
        """Places for the gang's next chunk, with the evictions that it takes; None where it can't be served."""
        for wants in self.world.variants(gang.chunk()):
            fairness = Fairness(gang.account, total(wants))
            if self._eligible(gang, fairness):
                spots = self._serve_as(gang, fairness, wants)
                if spots is not None:
                    return spots
        return None

    def _serve_as(self, gang: Gang, fairness: Fairness, wants: list[Want]) -> list[Spot] | None:
        """The same, with the chunk counted in one way."""
        self.placer.forget()
        givers = self._givers_for(fairness)
        found = NOT_SEARCHED
        # Half of the steps at most: what is left over still finds an answer for the others.
        if self.looked <= self.world.snapshot.policy.search_steps // 2:
            found = search(self.world, self.placer, self._useful(givers, fairness, wants), fairness, wants)
        self.looked += found.looked
        if found.trial is not None:
            return self._commit(gang, fairness, found.trial, list(found.spots))
        if found.sure:
            return None
        for crowded in dict.fromkeys((fairness.crowded, None)):
            spots = self._greedily(gang, fairness, wants, crowded)
            if spots is not None:
                return spots
        return None

    def _greedily(
        self, gang: Gang, fairness: Fairness, wants: list[Want], crowded: Account | None
    ) -> list[Spot] | None:
        """Task by task, on the node where it costs least; victims from below `crowded` only, where that is set."""
        inside = self._givers_for(fairness)
        if crowded is not None:
            inside = inside & np.array([crowded in part.account.path for part in self.pool().parts], np.bool_)
        # Askers of whom the same may be taken share what was learnt; rules are looked at again for each.
        key = (inside.tobytes(), fairness.resources[0])
        candidates = self._candidates.get(key)
        if candidates is None:
            candidates = self._candidates[key] = Candidates(self.pool(), inside, self.touched, self.world)
        before = candidates.looked
        found = make_room(self.world, self.placer, candidates, fairness, wants)
        self.looked += candidates.looked - before
        if found is not None:
            trial, spots = found
            if _relieve(fairness, trial, candidates):
                served = self._commit(gang, fairness, trial, spots)
                if served is not None:
                    return served
        candidates.reset()
        return None

    def _givers_for(self, fairness: Fairness) -> Bools:
        """Which parts of the pool could go for work like this."""
        key = fairness.key()
        if key not in self._givers:
            self._givers[key] = self.pool().givers(fairness)
        return self._givers[key]

    def _useful(self, givers: Bools, fairness: Fairness, wants: list[Want]) -> list[Part]:
        """Those on nodes that could serve; all, where queues above the asker have to come down, too.

        A minimum is among them with its extras, wherever those are, or not at all.
        """
        asked = [part for part in map(self.pool().parts.__getitem__, np.flatnonzero(givers)) if not part.gone]
        able = set(asked)
        here = [part for part in asked if all(extra.gone or extra in able for extra in part.rest)]
        if fairness.crowded is not None or len(here) > MOST_PARTS:
            return here
        masks = [
            self.world.fits.possible(ask, at)
            for ask in {want.ask for want in wants}
            for at in range(len(ask.gpu))
        ]
        useful = {part for part in here if any(mask[held.row] for mask in masks for held in part.helds)}
        useful |= {extra for part in useful for extra in part.rest}
        return [part for part in here if part in useful]

    def pool(self) -> Pool:
        """Everything that could go for anybody."""
        if self._pool is None:
            self._pool = Pool(self.world)
            self._cores = {part.workload.name: part for part in self._pool.parts if part.core}
            for name in self.world.placed:
                self._keep(name)
        return self._pool

    def _keep(self, name: str) -> None:
        """A workload that was placed in this decision keeps its minimum: the rest of its gang was counted on."""
        core = self._cores.get(name)
        if core is not None:
            core.gone = True

    def _eligible(self, gang: Gang, fairness: Fairness) -> bool:
        """Within its queue's share with the chunk, and, where it is non-preemptible, within every quota."""
        if fairness.excess(gang.account, Tally()):
            return False
        return gang.workload.preemptible or over_quota(gang.account, fairness.asked) is None

    def _commit(self, gang: Gang, fairness: Fairness, trial: Trial, spots: list[Spot]) -> list[Spot] | None:
        """Have go who is needed and let all others stay; None where that is more than one decision may evict."""
        world = self.world
        spared = spare(trial, lambda part: _has_room_above(fairness, trial, part))
        bound = world.snapshot.policy.max_evictions
        if bound and len(world.evictions) + sum(len(part.tasks) for part in trial.gone) > bound:
            world.bounded.add(gang.workload.name)
            return None
        # Room to restart is for those whom it would hurt most to stop.
        going = sorted(trial.gone, key=lambda part: (part.core, part.rank), reverse=True)
        moved = {part: _moved(world, fairness, trial, part) for part in going}
        # In the order in which they may go.
        for part in trial.gone:
            part.gone = True
            self.going[part] = (gang.account, moved[part])
            if not moved[part]:
                world.tree.add(part.account, part.amounts, fixed=False, sign=-1)
                if part.core:
                    self.ended.add(part.workload.name)
            world.evictions += _evictions(world, part, moved[part], gang.workload.name)
            world.evicted.update(task.name for task in part.tasks)
            self.touched.add([held.row for held in part.helds] + [spot.held.row for spot in moved[part]])
        self.touched.add(spot.held.row for spot in spots)
        world.ledger = trial.ledger
        return _waiting_anew(trial.ledger, spots, spared)


def _waiting_anew(ledger: Ledger, spots: list[Spot], spared: set[str]) -> list[Spot]:
    """The spots when these tasks stay after all: nobody waits for them."""
    return [
        spot if spared.isdisjoint(spot.after) else spot._replace(after=awaited(ledger, spot.held))
        for spot in spots
    ]


def _too_much(taker: Account, part: Part) -> bool:
    """Whether a queue above both would come over its share or limit if the part stayed."""
    return any(
        account.allocated[resource] + part.amounts[resource]
        > min(account.share[resource], account.limit[resource])
        for account in taker.path[1:]
        if account in part.account.path
        for resource in part.kinds
    )


def _evictions(world: World, part: Part, moved: list[Spot], beneficiary: str) -> list[Eviction]:
    if not moved:
        return [Eviction(task.name, "reclaim", beneficiary) for task in part.tasks]
    return [
        Eviction(
            spot.want.task.name, "reclaim", beneficiary,
            world.nodes.names[spot.held.row], world.ledger.shares(spot.held),
        )
        for spot in moved
    ]  # fmt: skip


def _relieve(fairness: Fairness, trial: Trial, candidates: Candidates) -> bool:
    """Have more go where queues above would still be over their share or limit; False where that isn't possible."""
    for account in fairness.asker.path[1:]:
        while fairness.excess(account, trial.tally):
            usable = [
                part
                for part in candidates.parts()
                if part not in trial.gone
                and account in part.account.path
                and all(extra.gone or extra in trial.gone for extra in part.rest)
                and fairness.may_go(trial.tally, part)
            ]
            part = max(
                usable,
                key=lambda part: (fairness.ends(trial.tally, part.account, part.amounts), -part.rank),
                default=None,
            )
            if part is None:
                return False
            trial.evict(part)
    return True


def _has_room_above(fairness: Fairness, trial: Trial, part: Part) -> bool:
    """Whether the queues above the asker stay within share and limit though this part goes on holding what it holds."""
    if len(fairness.asker.path) == 1:
        return True
    tally = trial.tally.copy()
    tally.count(part, -1)
    return fairness.enough(tally)


def _moved(world: World, fairness: Fairness, trial: Trial, part: Part) -> list[Spot]:
    """New places for a part; none where they don't all fit, or a queue above the asker has no room for it besides."""
    spots = move(world, trial, part) if _has_room_above(fairness, trial, part) else []
    if spots:
        trial.tally.count(part, -1)
    return spots
