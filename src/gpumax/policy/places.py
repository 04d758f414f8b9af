"""What the searches for places of several tasks have in common: who finds nodes, and how far every way is looked for."""

from __future__ import annotations

from typing import Final, Protocol

from gpumax.policy.ask import Choices
from gpumax.policy.gang import Spot, Want
from gpumax.policy.ledger import Ledger
from gpumax.policy.nodes import Bools

MOST_ROWS: Final = 16
"""On how many nodes at most, and for how many tasks, every way is looked for."""
MOST_TRIES: Final = 1000
"""How many times one search tries a task on a node, where it looks for every way."""

Laid = tuple[Ledger, list[Spot]]
"""The ledger with all tasks placed, and where."""


class Places(Protocol):
    """What finds nodes for tasks."""

    def together(
        self,
        ledger: Ledger,
        wants: list[Want],
        choices: Choices,
        *,
        later: bool,
        within: Bools | None,
        coming: frozenset[int],
    ) -> Laid | None:
        """Places for all wants on these nodes."""
        ...

    def spot(
        self,
        ledger: Ledger,
        want: Want,
        choices: Choices,
        *,
        later: bool,
        loose: bool = False,
        within: Bools | None,
        coming: frozenset[int],
    ) -> Spot | None:
        """A place for one."""
        ...
