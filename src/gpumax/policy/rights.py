"""What a pass may take from whom: the rules that the search for victims asks, whichever pass it searches for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from math import inf
from typing import ClassVar

from gpumax.model.decision import Cause
from gpumax.policy.gang import Gang, Want, total
from gpumax.policy.moves import rehouse
from gpumax.policy.nodes import Bools
from gpumax.policy.tree import Account, Vector
from gpumax.policy.victims import Part, Tally, Trial
from gpumax.policy.world import World


class Rights(ABC):
    """The rules of one pass for the next chunk of one gang.

    bounded: the queues in which room is made as well, where they have none; crowded: the lowest of them that has none;
    work below it has to make way. below: only work of a lower priority goes. weighs: whether it matters which queue gives.
    moves: whether whoever goes finds a new place, unless it may stop. shunts: whether only those are looked for who move in
    turn; among them work on nodes that are of no use to the asker.
    """

    cause: ClassVar[Cause]
    weighs: ClassVar[bool] = True
    moves: ClassVar[bool] = False
    shunts: ClassVar[bool] = False
    below: float = inf

    def __init__(self, gang: Gang, wants: list[Want], bounded: tuple[Account, ...]) -> None:
        self.asker = gang.account
        self.asked = total(wants)
        self.resources = [resource for resource in range(3) if self.asked[resource] > 0]
        self.bounded = bounded
        self.crowded = next((account for account in bounded if self.excess(account, Tally())), None)

    def give_up(self) -> None:  # noqa: B027
        """Take note that nothing was found."""

    def only(self) -> Bools | None:
        """Which parts of the pool may go at all, whatever their queues; None: all of them."""
        return None

    @abstractmethod
    def eligible(self, gang: Gang) -> bool:
        """Whether the pass serves the gang at all."""

    @abstractmethod
    def key(self) -> object:
        """Equal for attempts that may take from the same parts by the same rules."""

    def claim(self) -> object:
        """Equal for attempts for which a queue stops giving at the same point."""
        return None

    @abstractmethod
    def bound(self, account: Account, resource: int) -> int:
        """What a queue above the asker may hold."""

    @abstractmethod
    def may_be_asked(self, account: Account, kinds: tuple[int, ...]) -> bool:
        """Whether work of a queue that frees these resources could go at all."""

    @abstractmethod
    def protected_ms(self, victim: Account) -> int:
        """The minimum runtime that protects work of a queue from this asker."""

    @abstractmethod
    def may_go(self, tally: Tally, part: Part) -> bool:
        """Whether a part that could be asked may still go after what was given."""

    def resettle(self, world: World, trial: Trial, parts: Iterable[Part]) -> bool:
        """Where work moves: find new places for these, but for those who may stop; whether that was possible."""
        return rehouse(world, trial, parts)

    @abstractmethod
    def may_give(self, tally: Tally, account: Account) -> bool:
        """Whether a queue has anything left to give, whatever kind of part it is."""

    def height(self, tally: Tally, account: Account, more: float) -> float:
        """How high a queue ends, relative to its share, when it gives `more` of the first resource asked for on top. Alike where it doesn't matter."""
        return 0.0

    @abstractmethod
    def narrowed(self) -> tuple[Account | None, ...]:
        """Below which queues victims are looked for, one try after the other; None: anywhere."""

    def ends(self, tally: Tally, account: Account, more: Vector) -> float:
        """How high a queue ends, relative to its share, when it gives `more` on top; higher is better. Alike where it doesn't matter."""
        return self.height(tally, account, more[self.resources[0]]) if self.weighs else 0.0

    def excess(self, account: Account, tally: Tally) -> bool:
        """Whether the asked amounts would bring a queue over its bound, though others below it gave."""
        given = tally.of(account)
        return any(
            account.allocated[r] - given[r] + self.asked[r] > self.bound(account, r) for r in self.resources
        )

    def enough(self, tally: Tally) -> bool:
        """Whether all queues above the asker are within bounds once this is given."""
        return not any(self.excess(account, tally) for account in self.bounded)

    def would_crowd(
        self,
        other: Account,
        amounts: Vector,
        among: Collection[Account] | None = None,
        given: Tally | None = None,
    ) -> bool:
        """Whether a queue above both, or both, would come over its bound if another queue held so much more.

        among: one of these; None: any. given: what queues give for it.
        """
        given = given or Tally()
        return any(
            account.allocated[r] - given.of(account)[r] + amounts[r] > self.bound(account, r)
            for account in self.asker.path
            if account in other.path and (among is None or account in among)
            for r in self.resources
            if amounts[r]
        )
