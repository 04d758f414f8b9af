"""Reclaim where what others may keep is in the way: it moves, and goes on elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from gpumax.policy.fairness import Fairness
from gpumax.policy.gang import Gang, Want
from gpumax.policy.ground import Ground
from gpumax.policy.moves import rehouse
from gpumax.policy.tree import Account
from gpumax.policy.victims import Part, Tally, Trial
from gpumax.policy.world import World


class Detour(Fairness):
    """The rules of reclaim, but whoever finds a new place gives nothing: so work within its owner's share may go, too, if it moves.

    Who finds none has to be allowed to stop. Tried where taking back alone makes no room. How low a queue ends isn't known before it is known who moves.
    """

    weighs: ClassVar[bool] = False
    moves: ClassVar[bool] = True

    def __init__(self, ground: Ground, gang: Gang, wants: list[Want]) -> None:
        super().__init__(gang, wants)
        self._ground = ground

    def eligible(self, gang: Gang) -> bool:
        """As for reclaim, where anybody could move at all."""
        return super().eligible(gang) and bool(self._ground.movable().any())

    def key(self) -> object:
        """None that reclaim has."""
        return ("moves", super().key())

    def claim(self) -> object:
        """None that reclaim has."""
        return ("moves", super().claim())

    def may_be_asked(self, account: Account, kinds: tuple[int, ...]) -> bool:
        """Work of any other queue."""
        return account is not self.asker

    def may_go(self, tally: Tally, part: Part) -> bool:
        """Whoever could move, or give."""
        return bool(self._ground.movable()[part.rank]) or super().may_go(tally, part)

    def may_give(self, tally: Tally, account: Account) -> bool:
        """Always: it may be moves alone."""
        return True

    def resettle(self, world: World, trial: Trial, parts: Iterable[Part]) -> bool:
        """Who can't move stops, then whoever may; the others move. What was given is tallied anew, in the order in which it goes."""
        movable, going = self._ground.movable(), list(parts)
        stopped = [part for part in trial.gone if part not in going and part not in trial.moved]
        tally = Tally()
        for part in stopped:
            tally.count(part)
        movers: list[Part] = []
        for part in sorted(going, key=lambda part: (bool(movable[part.rank]), part.rank)):
            # A minimum stops with all its extras.
            steps = [step for step in (*part.rest, part) if step in going and step not in stopped]
            after = None if any(extra in movers for extra in part.rest) else self._after(tally, steps)
            if after is None:
                movers.append(part)
            else:
                tally, stopped = after, stopped + steps
        if not rehouse(world, trial, movers):
            return False
        trial.tally, trial.gone = tally, dict.fromkeys((*trial.moved, *stopped))
        return self.enough(tally)

    def _after(self, tally: Tally, steps: list[Part]) -> Tally | None:
        """What was given when these have stopped, too; None where one of them may not."""
        tally = tally.copy()
        for step in steps:
            if not super().may_go(tally, step):
                return None
            tally.count(step)
        return tally
