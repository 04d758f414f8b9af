"""Taking room from others: what consolidate, reclaim and preempt have in common. By whose rules, their `Rights` say."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
from msgspec.structs import replace

from gpumax.model.decision import Cause, Eviction
from gpumax.policy.branch import scoped
from gpumax.policy.gang import Gang, Spot, Want
from gpumax.policy.gather import needy
from gpumax.policy.held import summed
from gpumax.policy.inside import make_room_inside, search_inside
from gpumax.policy.kept import Kept
from gpumax.policy.ledger import Ledger
from gpumax.policy.leftover import give_out
from gpumax.policy.moves import rehome
from gpumax.policy.nodes import Bools
from gpumax.policy.order import Order
from gpumax.policy.place import Placer, awaited
from gpumax.policy.pool import Going, pool_of
from gpumax.policy.reserve import delayed, renounce
from gpumax.policy.rights import Rights
from gpumax.policy.room import Candidates, Touched, could_stay, make_room, spare
from gpumax.policy.search import MOST_PARTS, NOT_SEARCHED, Found, search
from gpumax.policy.topology import wished
from gpumax.policy.tree import Account, Vector
from gpumax.policy.victims import Part, Tally, Trial, keeps_away
from gpumax.policy.world import World

AN_ATTEMPT: Final = 64
"""Steps that count for every attempt, whatever it looks at: a budget is to bound the time that a decision takes."""


def take(world: World, rights: Callable[[Gang, list[Want]], Iterable[Rights]], gangs: list[Gang]) -> None:
    """Serve these of those who wait by evictions that their rights allow; who stays unserved stays in `world.waiting`.

    rights: by which rules for a gang's chunk, one set tried after the other.
    A gang that goes may leave more room than was asked for: whoever fits there is placed, too.
    """
    if not gangs or not world.held:
        return
    before = len(world.evictions)
    if world.pool is not None:
        # Who got room that the last pass left over keeps its minimum, too.
        for name in world.placed:
            world.pool.keep(name)
    going = _Taking(world, rights)
    going.run(gangs)
    if len(world.evictions) > before:
        give_out(world, sorted(set(going.touched.rows)), going.full)


class _Taking:
    """One pass. What was learnt for one gang serves the next that asks the same."""

    def __init__(self, world: World, rights: Callable[[Gang, list[Want]], Iterable[Rights]]) -> None:
        self.world = world
        self.rights = rights
        self.placer = Placer(world.fits, world.scores)
        self.touched = Touched()
        self.looked = 0  # how much was searched, against search_steps
        self._givers: dict[object, Bools] = {}
        self._candidates: dict[object, Candidates] = {}
        self._hopeless: dict[object, str] = {}  # by what is asked, the workload that asked in vain

    def run(self, gangs: list[Gang]) -> None:
        """Try every gang in fair order, each chunk once."""
        asking = set(gangs)
        left = [gang for gang in self.world.waiting if gang not in asking]
        order = Order(gangs)
        while (gang := order.pop()) is not None:
            more = False
            spots = self._try(gang)
            if spots is None:
                left += [gang, *self._refused_with(gang, order)]
            else:
                more = self.world.place(gang, spots)
                pool_of(self.world).keep(gang.workload.name)
            order.done(gang, again=more)
        self.world.waiting = left
        self._spare()

    def full(self, account: Account, amounts: Vector, given: Tally | None = None) -> bool:
        """Whether a queue may not hold so much more: somebody stays because those above it hold no more than they do.

        given: what queues give for it.
        """
        leaning = pool_of(self.world).leaning
        rights = self._counting() if leaning else ()
        return any(each.would_crowd(account, amounts, leaning, given) for each in rights)

    def _counting(self) -> set[Rights]:
        """By whose rights somebody goes."""
        return {going.rights for going in pool_of(self.world).going.values()}

    def _spare(self) -> None:
        """Let those stay after all whose room turned out not to be needed: what went later has freed enough."""
        world, pool, spared = self.world, self.world.pool, set[str]()
        if pool is None:
            return
        tied = {extra for part in pool.going for extra in part.rest}
        # Whoever went for one may have been counted on by another.
        counting = self._counting()
        for part in sorted(pool.going, key=lambda part: (part.core, part.rank), reverse=True):
            moved = pool.going[part].moved
            if part in tied or not could_stay(world.ledger, part, moved):
                continue
            if not moved and any(rights.would_crowd(part.account, part.amounts) for rights in counting):
                continue
            pool.stay(part)
            for held in part.helds:
                world.ledger.stay(held)
            for spot in moved:
                world.ledger.free(spot.held, waited=bool(spot.after))
            if not moved:
                world.tree.add(part.account, part.amounts)
                pool.leaning.update(part.account.path)
            if part.core:
                world.ended.discard(part.workload.name)
            tied.difference_update(part.rest)
            spared.update(task.name for task in part.tasks)
        if not spared:
            return
        world.evicted -= spared
        world.evictions = [eviction for eviction in world.evictions if eviction.task not in spared]
        for gang in world.placed.values():
            gang.placed = _waiting_anew(world.ledger, gang.placed, spared)

    def _try(self, gang: Gang) -> list[Spot] | None:
        if self._is_out(gang):
            return None
        # Inside a queue nobody comes later who may take more.
        like = self._hopeless.get(gang.like())
        if like is not None:
            self._share_reason(gang.workload.name, like)
            return None
        # Whole attempts only, so that every decision gets at least one done and none ends half way.
        if self.looked >= self.world.snapshot.policy.search_steps:
            self.world.unsearched.add(gang.workload.name)
            return None
        spots = self._serve(gang)
        if spots is None and (self.world.ties is None or not needy(gang.chunk())):
            self._hopeless[gang.like()] = gang.workload.name
        return spots

    def _is_out(self, gang: Gang) -> bool:
        """Whether nobody goes for it, whatever it asks."""
        return bool(gang.incomplete) or gang.workload.name in self.world.ended

    def _refused_with(self, gang: Gang, order: Order) -> list[Gang]:
        """Those after it who ask the same, where that is asked in vain."""
        like = self._hopeless.get(gang.like())
        if like is None:
            return []
        others, world = order.alike(gang), self.world
        if like in world.bounded or like in world.reserved:
            for other in others:
                if not self._is_out(other):
                    self._share_reason(other.workload.name, like)
        return others

    def _share_reason(self, name: str, like: str) -> None:
        """A workload is held for the reason for which one that asks the same is."""
        world = self.world
        if like in world.bounded:
            world.bounded.add(name)
        if like in world.reserved:
            world.reserved[name] = world.reserved[like]

    def _serve(self, gang: Gang) -> list[Spot] | None:
        """Places for the gang's next chunk, with the evictions that it takes; None where it can't be served."""
        for wants in self.world.variants(gang.chunk()):
            for rights in self.rights(gang, wants):
                if rights.eligible(gang):
                    spots = self._serve_as(gang, rights, wants)
                    if spots is not None:
                        return spots
                    rights.give_up()
        return None

    def _serve_as(self, gang: Gang, rights: Rights, wants: list[Want]) -> list[Spot] | None:
        """The same, with the chunk counted in one way."""
        self.placer.forget()
        givers = self._givers_for(rights)
        found = NOT_SEARCHED
        # Half of the steps at most: what is left over still finds an answer for the others.
        few = scoped(wants) or int(pool_of(self.world).present(givers).sum()) <= MOST_PARTS
        if few and self.looked <= self.world.snapshot.policy.search_steps // 2:
            found = self._search(self._useful(givers, rights, wants), rights, wants)
        self.looked += AN_ATTEMPT + found.looked
        if found.trial is not None:
            return self._commit(gang, rights, found.trial, list(found.spots))
        if found.sure:
            return None
        for below in rights.narrowed():
            spots = self._greedily(gang, rights, wants, below)
            if spots is not None:
                return spots
        return None

    def _search(self, useful: list[Part], rights: Rights, wants: list[Want]) -> Found:
        if rights.crowded is None and scoped(wants):
            most = self.world.snapshot.policy.search_steps // 2
            return search_inside(self.world, self.placer, useful, rights, wants, most)
        return search(self.world, self.placer, useful, rights, wants)

    def _make_room(
        self, candidates: Candidates, inside: Bools, rights: Rights, wants: list[Want]
    ) -> tuple[Trial, list[Spot]] | None:
        if scoped(wants):
            made = make_room_inside(self.world, self.placer, inside, rights, wants)
            self.looked += made.looked
            return None if made.trial is None else (made.trial, made.spots)
        before = candidates.looked
        found = make_room(self.world, self.placer, candidates, rights, wants)
        self.looked += candidates.looked - before
        return found

    def _greedily(
        self, gang: Gang, rights: Rights, wants: list[Want], below: Account | None
    ) -> list[Spot] | None:
        """Task by task, on the node where it costs least; victims from below a queue only, where that is set."""
        inside = self._givers_for(rights)
        if below is not None:
            inside = inside & pool_of(self.world).below(below)
        # Askers of whom the same may be taken share what was learnt; rules are looked at again for each.
        key = (inside.tobytes(), *rights.resources[:1], rights.claim())
        candidates = self._candidates.get(key)
        if candidates is None:
            candidates = self._candidates[key] = Candidates(
                pool_of(self.world), inside, self.touched, self.world
            )
        found = self._make_room(candidates, inside, rights, wants)
        if found is not None:
            trial, spots = found
            if _relieve(rights, trial, candidates):
                served = self._commit(gang, rights, trial, spots)
                if served is not None:
                    return served
        candidates.reset()
        return None

    def _givers_for(self, rights: Rights) -> Bools:
        """Which parts of the pool could go for work like this."""
        key = rights.key()
        if key not in self._givers:
            self._givers[key] = pool_of(self.world).givers(rights)
        return self._givers[key]

    def _useful(self, givers: Bools, rights: Rights, wants: list[Want]) -> list[Part]:
        """Those on nodes that could serve; all, where queues above the asker have to come down, too.

        A minimum is among them with its extras, wherever those are, or not at all.
        """
        pool = pool_of(self.world)
        asked = [pool.parts[rank] for rank in np.flatnonzero(pool.present(givers)).tolist()]
        able = set(asked)
        here = [part for part in asked if all(extra.gone or extra in able for extra in part.rest)]
        if rights.crowded is not None or rights.shunts:
            return here
        masks = [
            self.world.fits.possible(ask, at)
            for ask in {want.ask for want in wants}
            for at in range(len(ask.gpu))
        ]
        useful = {part for part in here if any(mask[held.row] for mask in masks for held in part.helds)}
        useful |= {part for part in here if keeps_away(part, wants)}
        useful |= {extra for part in useful for extra in part.rest}
        return [part for part in here if part in useful]

    def _commit(self, gang: Gang, rights: Rights, trial: Trial, spots: list[Spot]) -> list[Spot] | None:
        """Have go who is needed and let all others stay; None where that is more than one decision may evict, or delays one
        for whom room is kept."""
        world, pool = self.world, pool_of(self.world)
        spared = spare(trial, lambda part: _has_room_above(rights, trial, part))
        bound = world.snapshot.policy.max_evictions
        if bound and len(world.evictions) + sum(len(part.tasks) for part in trial.gone) > bound:
            world.bounded.add(gang.workload.name)
            return None
        trial, moved, late = _settled(world, gang, rights, trial, spots)
        if late is not None:
            world.reserved[gang.workload.name] = late
            return None
        if self.full(gang.account, summed([spot.held for spot in spots]), trial.tally):
            return None
        if not trial.ledger.kept():  # somebody would go whom others need where they were placed
            return None
        # In the order in which they may go.
        for part in trial.gone:
            pool.go(part, Going(rights, moved[part]))
            if not moved[part]:
                world.tree.add(part.account, part.amounts, sign=-1)
            if part.core and (not moved[part] or wished(part.workload)):
                # What else waits of work that has to stand together goes where it stands, once it stands there.
                world.ended.add(part.workload.name)
            if moved[part] and not part.core:
                pool.keep(part.workload.name)  # whoever moved once can't go with its gang any more
            cause: Cause = "consolidate" if rights.moves and moved[part] else rights.cause
            world.evictions += _evictions(world, part, moved[part], cause, gang.workload.name)
            world.evicted.update(task.name for task in part.tasks)
            self.touched.add([held.row for held in part.helds] + [spot.held.row for spot in moved[part]])
        self.touched.add(spot.held.row for spot in spots)
        world.ledger = trial.ledger
        renounce(world, gang)
        return _waiting_anew(trial.ledger, spots, spared)


def _waiting_anew(ledger: Ledger, spots: list[Spot], spared: set[str]) -> list[Spot]:
    """The spots when these tasks stay after all: nobody waits for them."""
    return [
        spot if spared.isdisjoint(spot.after) else replace(spot, after=awaited(ledger, spot.held))
        for spot in spots
    ]


def _evictions(world: World, part: Part, moved: list[Spot], cause: Cause, beneficiary: str) -> list[Eviction]:
    if not moved:
        return [Eviction(task.name, cause, beneficiary) for task in part.tasks]
    return [
        Eviction(
            spot.want.task.name, cause, beneficiary,
            world.nodes.names[spot.held.row], world.ledger.shares(spot.held),
        )
        for spot in moved
    ]  # fmt: skip


def _relieve(rights: Rights, trial: Trial, candidates: Candidates) -> bool:
    """Have more go where queues above would still be over their bounds; False where that isn't possible."""
    if rights.moves:
        return rights.enough(trial.tally)
    for account in rights.bounded:
        while rights.excess(account, trial.tally):
            part = next(
                (
                    part
                    for part in candidates.below(rights, account, trial)
                    if all(extra.gone or extra in trial.gone for extra in part.rest)
                    and rights.may_go(trial.tally, part)
                ),
                None,
            )
            if part is None:
                return False
            trial.evict(part)
    return True


def _has_room_above(rights: Rights, trial: Trial, part: Part) -> bool:
    """Whether the queues above the asker stay within bounds though this part goes on holding what it holds."""
    if not rights.bounded or trial.moved.get(part):
        return True
    tally = trial.tally.copy()
    tally.count(part, -1)
    return rights.enough(tally)


def _settled(
    world: World, gang: Gang, rights: Rights, trial: Trial, spots: list[Spot]
) -> tuple[Trial, dict[Part, list[Spot]], Kept | None]:
    """The trial with new places for those who go, and who would be delayed by it, of those for whom room is kept.

    Where nobody would be if all of them stopped, they stop, unless the pass only moves.
    """
    before = trial.fork() if world.kept and not rights.moves else None
    moved = _all_moved(world, rights, trial)
    late = delayed(world, gang, trial.ledger, spots, moved)
    if late is not None and before is not None and any(moved.values()):
        stopped: dict[Part, list[Spot]] = {part: [] for part in before.gone}
        if delayed(world, gang, before.ledger, spots, stopped) is None:
            return before, stopped, None
    return trial, moved, late


def _all_moved(world: World, rights: Rights, trial: Trial) -> dict[Part, list[Spot]]:
    """New places for those who go. Room to restart is for those whom it would hurt most to stop; no extra restarts alone."""
    moved: dict[Part, list[Spot]] = {}
    lost: set[Part] = set()
    for part in sorted(trial.gone, key=lambda part: (part.core, part.rank), reverse=True):
        moved[part] = trial.moved.get(part) or ([] if part in lost else _moved(world, rights, trial, part))
        if not moved[part]:
            lost.update(part.rest)
    return moved


def _moved(world: World, rights: Rights, trial: Trial, part: Part) -> list[Spot]:
    """New places for a part; none where they don't all fit, or a queue above the asker has no room for it besides."""
    spots = rehome(world, trial, part) if _has_room_above(rights, trial, part) else []
    if spots:
        trial.tally.count(part, -1)
    return spots
