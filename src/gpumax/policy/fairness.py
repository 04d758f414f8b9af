"""Rule 5 of policy.md: from whom a queue may take back, for one size of ask."""

from __future__ import annotations

from typing import ClassVar, Final

from gpumax.model.decision import Cause
from gpumax.policy.admit import over_quota
from gpumax.policy.gang import Gang, Want
from gpumax.policy.rights import Rights
from gpumax.policy.runtime import reclaim_ms, sides
from gpumax.policy.tree import Account, Vector
from gpumax.policy.victims import Part, Tally
from gpumax.units import UNLIMITED

NOTHING_TO_LOSE: Final = 1e18
"""How high a queue without a share ends: there is nothing that it could fall below."""


def due(account: Account, resource: int, asked: Vector) -> int:
    """What a queue may hold to take this back: its share, within its limit.

    Where GPUs are asked for, an unlimited quota of cores or memory is what it says: that all queues together want more than
    there is cuts their shares, and would else keep each of them from the GPUs of its own quota.
    """
    if resource and asked[0] and account.quota[resource] >= UNLIMITED:
        return account.limit[resource]
    return min(account.share[resource], account.limit[resource])


class Fairness(Rights):
    """The rules of reclaim: others give what is above their share to an asker that stays within its own."""

    cause: ClassVar[Cause] = "reclaim"

    def __init__(self, gang: Gang, wants: list[Want]) -> None:
        super().__init__(gang, wants, gang.account.path[1:])
        self._sides: dict[int, tuple[Account, Account]] = {}
        self._in_quota: dict[int, bool] = {}
        self._counts: dict[tuple[int, ...], list[int]] = {}

    def eligible(self, gang: Gang) -> bool:
        """Within its queue's share with the chunk, and, where it is non-preemptible, within every quota.

        Who asks for nothing that queues share has nothing to take back.
        """
        if not self.resources or self.excess(gang.account, Tally()):
            return False
        return not gang.fixed or over_quota(gang.account, self.asked) is None

    def key(self) -> object:
        """Equal for attempts that may take from the same parts by the same rules."""
        crowded = None if self.crowded is None else self.crowded.index
        return (self.asker.index, tuple(self.resources), crowded, self.claim())

    def claim(self) -> object:
        """Whether the asker stays within quota, from its own queue up: then others give what is above theirs."""
        return tuple(map(self._within_quota, self.asker.path))

    def bound(self, account: Account, resource: int) -> int:
        """What it may hold when it takes back."""
        return due(account, resource, self.asked)

    def narrowed(self) -> tuple[Account | None, ...]:
        """First below the queue that has to come down anyway."""
        return (self.crowded, None) if self.crowded is not None else (None,)

    def may_be_asked(self, account: Account, kinds: tuple[int, ...]) -> bool:
        """Whether work of a queue that frees these resources could go at all: another queue's, above its share."""
        return account is not self.asker and self._may_give(account, Tally(), kinds)

    def protected_ms(self, victim: Account) -> int:
        """A victim's minimum runtime: set one step below the common ancestor, or else at the nearest queue above."""
        if victim is self.asker:
            return 0
        return reclaim_ms(self._diverge(victim)[1])

    def may_go(self, tally: Tally, part: Part) -> bool:
        """Whether the giver is still above its share, or above its quota, after what was given."""
        return self._may_give(part.account, tally, part.kinds)

    def may_give(self, tally: Tally, account: Account) -> bool:
        """Whether a queue has anything left to give, whatever kind of part it is."""
        return self._may_give(account, tally, (0, 1, 2))

    def height(self, tally: Tally, account: Account, more: float) -> float:
        """The same for an amount of the first resource that is asked for, by which queues are compared."""
        resource = self.resources[0]
        share = account.share[resource]
        held = account.allocated[resource] - tally.of(account)[resource] - more
        return held / share if share else NOTHING_TO_LOSE

    def _may_give(self, account: Account, tally: Tally, kinds: tuple[int, ...]) -> bool:
        """Whether every queue from the owner up to the common ancestor has something to give. kinds: what would be freed."""
        taker, giver = self._diverge(account)
        resources = self._counting(kinds)
        for owner in account.path:
            given, held = tally.of(owner), owner.allocated
            above_quota = False
            for r in resources:
                left = held[r] - given[r]
                if left > owner.share[r]:
                    break
                above_quota = above_quota or left > owner.quota[r]
            else:
                if not (above_quota and self._guaranteed(taker)):
                    return False
            if owner is giver:
                break
        return True

    def _counting(self, kinds: tuple[int, ...]) -> list[int]:
        """The resources by which it is judged whether a queue has something to give, where these would be freed."""
        known = self._counts.get(kinds)
        if known is None:
            # A guarantee of GPUs is not broken to get at cores: where GPUs are asked for and freed, only they count.
            gpus = 0 in kinds and 0 in self.resources
            known = self._counts[kinds] = [0] if gpus else [r for r in self.resources if r in kinds]
        return known

    def _guaranteed(self, taker: Account) -> bool:
        """Whether the asker stays within quota, from its own queue up to the common ancestor."""
        known = self._in_quota.get(taker.index)
        if known is None:
            below = self.asker.path[: self.asker.path.index(taker) + 1]
            known = self._in_quota[taker.index] = all(map(self._within_quota, below))
        return known

    def _within_quota(self, account: Account) -> bool:
        return all(account.allocated[r] + self.asked[r] <= account.quota[r] for r in self.resources)

    def _diverge(self, victim: Account) -> tuple[Account, Account]:
        """The siblings under the lowest common ancestor: the asker's side and the victim's."""
        known = self._sides.get(victim.index)
        if known is None:
            known = self._sides[victim.index] = sides(self.asker, victim)
        return known
