"""Reclaim: a queue within its share takes back what others hold above theirs."""

from __future__ import annotations

from gpumax.model.decision import Eviction
from gpumax.policy.admit import barrier
from gpumax.policy.ask import Ask
from gpumax.policy.fairness import Fairness
from gpumax.policy.gang import Gang, Spot, total
from gpumax.policy.order import Order
from gpumax.policy.place import Placer
from gpumax.policy.room import Candidates, make_room, move, spare
from gpumax.policy.tree import Vector
from gpumax.policy.victims import Part, Tally, Trial, parts
from gpumax.policy.world import World


def reclaim(world: World) -> None:
    """Serve waiting work of queues within their share; what stays unserved stays in `world.waiting`."""
    if world.waiting:
        _Reclaim(world).run()


class _Reclaim:
    """One pass. What was learnt for one gang serves the next that asks the same."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.placer = Placer(world.fits, world.scores)
        self.touched: list[int] = []
        self._pool: list[Part] | None = None
        self._candidates: dict[tuple[int, Vector, int], Candidates] = {}
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
            order.done(gang, again=more)
        self.world.waiting = left

    def _try(self, gang: Gang) -> list[Spot] | None:
        if gang.incomplete:
            return None
        key = (gang.account.index, gang.workload.preemptible, tuple(want.ask for want in gang.chunk()))
        if key in self._hopeless:
            return None
        spots = self._serve(gang)
        if spots is None:
            self._hopeless.add(key)
        return spots

    def _serve(self, gang: Gang) -> list[Spot] | None:
        """Places for the gang's next chunk, with the evictions that it takes; None where it can't be served."""
        fairness = Fairness(self.world, gang.account, total(gang.chunk()))
        if not self._eligible(gang, fairness):
            return None
        candidates = self._candidates.get(fairness.key())
        if candidates is None:
            givers = [part for part in self.pool() if fairness.may_be_asked(part)]
            candidates = Candidates(self.world, givers, fairness, self.touched)
            self._candidates[fairness.key()] = candidates
        candidates.rules = fairness
        self.placer.forget()
        found = make_room(self.world, self.placer, candidates, gang.chunk())
        if found is not None:
            trial, spots = found
            needed = _relieve(fairness, trial, candidates)
            if needed is not None:
                spare(trial, needed)
                if self._within_bound(trial):
                    self._commit(gang, fairness, trial, needed)
                    return spots
        candidates.reset()
        return None

    def pool(self) -> list[Part]:
        """Everything that could go for anybody."""
        if self._pool is None:
            self._pool = parts(self.world)
        return self._pool

    def _eligible(self, gang: Gang, fairness: Fairness) -> bool:
        """Within its queue's share with the chunk, and nothing in the way that others' leaving can't mend."""
        leaf = gang.account
        if fairness.excess(leaf, Tally()):
            return False
        found = barrier(leaf, fairness.asked, preemptible=gang.workload.preemptible)
        return found is None or found.code == "OverLimit"

    def _within_bound(self, trial: Trial) -> bool:
        bound = self.world.snapshot.policy.max_evictions
        return not bound or len(self.world.evictions) + sum(len(part.tasks) for part in trial.gone) <= bound

    def _commit(self, gang: Gang, fairness: Fairness, trial: Trial, needed: set[Part]) -> None:
        world, name = self.world, gang.workload.name
        for part in sorted(trial.gone, key=lambda part: (part.core, part.cost), reverse=True):
            moved = [] if part in needed else _moved(world, fairness, trial, part)
            part.gone = True
            if not moved:
                world.tree.add(part.account, part.amounts, fixed=False, sign=-1)
            for task in part.tasks:
                world.evicted.add(task.name)
            if moved:
                for spot in moved:
                    node, devices = world.nodes.names[spot.held.row], trial.ledger.shares(spot.held)
                    world.evictions.append(Eviction(spot.want.task.name, "reclaim", name, node, devices))
            else:
                world.evictions += [Eviction(task.name, "reclaim", name) for task in part.tasks]
            self.touched += [held.row for held in part.helds] + [spot.held.row for spot in moved]
        world.ledger = trial.ledger


def _relieve(fairness: Fairness, trial: Trial, candidates: Candidates) -> set[Part] | None:
    """Have more go where queues above would still be over their share or limit; None where that isn't possible."""
    needed: set[Part] = set()
    for account in fairness.asker.path[1:]:
        while fairness.excess(account, trial.tally):
            usable = [
                part
                for part in candidates.parts
                if not part.gone
                and part not in trial.gone
                and account in part.account.path
                and all(extra.gone or extra in trial.gone for extra in part.rest)
                and fairness.may_go(trial.tally, part)
            ]
            part = max(
                usable, key=lambda part: fairness.ends(trial.tally, part.account, part.amounts), default=None
            )
            if part is None:
                return None
            trial.evict(part)
            needed.add(part)
    return needed


def _moved(world: World, fairness: Fairness, trial: Trial, part: Part) -> list[Spot]:
    """New places for a part; none where a queue above the asker has no room for it besides."""
    trial.tally.count(part, -1)
    spots = []
    if not any(fairness.excess(account, trial.tally) for account in fairness.asker.path[1:]):
        spots = move(world, trial, part)
    if not spots:
        trial.tally.count(part)
    return spots
