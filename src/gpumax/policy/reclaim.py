"""Reclaim: a queue within its share takes back what others hold above theirs."""

from __future__ import annotations

from gpumax.model.decision import Eviction
from gpumax.policy.admit import barrier
from gpumax.policy.allocate import allocate
from gpumax.policy.ask import Ask
from gpumax.policy.fairness import Fairness
from gpumax.policy.gang import Gang, Spot, total
from gpumax.policy.order import Order
from gpumax.policy.place import Placer
from gpumax.policy.room import Candidates, make_room, move, spare
from gpumax.policy.victims import Part, Tally, Trial, parts
from gpumax.policy.world import World


def reclaim(world: World) -> None:
    """Serve waiting work of queues within their share; what stays unserved stays in `world.waiting`.

    A gang that goes may leave more room than was asked for: whoever fits there is placed, too.
    """
    if world.waiting:
        _Reclaim(world).run()
        if world.evictions:
            allocate(world)


class _Reclaim:
    """One pass. What was learnt for one gang serves the next that asks the same."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.placer = Placer(world.fits, world.scores)
        self.touched: list[int] = []
        self._pool: list[Part] | None = None
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
            order.done(gang, again=more)
        self.world.waiting = left

    def _try(self, gang: Gang) -> list[Spot] | None:
        if gang.incomplete:
            return None
        key = (gang.account.index, gang.workload.preemptible, tuple(want.ask for want in gang.chunk()))
        if key in self._hopeless:
            return None
        # Whole attempts only, so that every decision gets at least one done and none ends half way.
        if (
            sum(candidates.looked for candidates in self._candidates.values())
            >= self.world.snapshot.policy.search_steps
        ):
            self.world.unsearched.add(gang.workload.name)
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
            if _relieve(fairness, trial, candidates):
                spare(trial, lambda part: _has_room_above(fairness, trial, part))
                if self._within_bound(trial):
                    self._commit(gang, fairness, trial)
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

    def _commit(self, gang: Gang, fairness: Fairness, trial: Trial) -> None:
        world = self.world
        # Room to restart is for those whom it would hurt most to stop.
        going = sorted(trial.gone, key=lambda part: (part.core, part.rank), reverse=True)
        moved = {part: _moved(world, fairness, trial, part) for part in going}
        for part in reversed(going):
            part.gone = True
            if not moved[part]:
                world.tree.add(part.account, part.amounts, fixed=False, sign=-1)
            world.evictions += _evictions(world, part, moved[part], gang.workload.name)
            world.evicted.update(task.name for task in part.tasks)
            self.touched += [held.row for held in part.helds] + [spot.held.row for spot in moved[part]]
        world.ledger = trial.ledger


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
                for part in candidates.parts
                if not part.gone
                and part not in trial.gone
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
    tally = trial.tally.copy()
    tally.count(part, -1)
    return not any(fairness.excess(account, tally) for account in fairness.asker.path[1:])


def _moved(world: World, fairness: Fairness, trial: Trial, part: Part) -> list[Spot]:
    """New places for a part; none where they don't all fit, or a queue above the asker has no room for it besides."""
    spots = move(world, trial, part) if _has_room_above(fairness, trial, part) else []
    if spots:
        trial.tally.count(part, -1)
    return spots
