"""Who holds tasks to their parts of devices."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from gpumax.ports.engine import Launch, Refusal


class Granted(NamedTuple):
    """What a task finds. limit: bytes of each device; name: whoever has the same shares the limit; socket: of its share; context: bytes that each context counts;
    ranks: tasks that begin on the devices together with it, itself among them; 0: alone."""

    name: str
    limit: int
    socket: str
    swap: bool = False
    context: int = 0
    ranks: int = 0


class Sharing(Protocol):
    """Calls may come from several threads."""

    def objection(self, launch: Launch) -> str:
        """Why this task couldn't be held to its part, wherever it were; empty: it could."""
        ...

    def grant(self, launches: Sequence[Launch]) -> Mapping[str, Granted | Refusal]:
        """By attempt: its part, or why it can't have it now. Nothing for those whose devices no driver knows: nothing runs on them."""
        ...

    def ended(self, attempt: str) -> None:
        """All of its processes are gone. Any attempt, once or more often."""
        ...

    def keep(self, attempts: Collection[str]) -> None:
        """These are all that an earlier server has left; what any others had is free."""
        ...
