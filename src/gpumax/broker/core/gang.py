"""Processes of a group that are to begin together: who of them has come. Whoever has come and ended isn't waited for."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Gang:
    ranks: int = 0
    """So many are to come, as they say themselves; 0: nobody waits."""
    came: set[int] = field(default_factory=set)
    until: int = 0
    """So long those who are there wait for the others."""
    begun: bool = False
    """Nobody is waited for any more: all have been there at once, or the wait was over."""

    @property
    def whole(self) -> bool:
        return self.begun or len(self.came) >= self.ranks

    def arrive(self, ranks: int, who: int) -> None:
        self.ranks = max(self.ranks, ranks)
        self.came.add(who)
        if self.ranks > 1 and len(self.came) >= self.ranks:
            self.begun = True
