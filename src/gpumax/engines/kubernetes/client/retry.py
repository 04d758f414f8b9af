"""When to ask again: later each time, and not all at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

FIRST_S: Final = 0.1
MOST_S: Final = 30.0
LONGEST_ASKED_S: Final = 60.0
"""The longest that a server may ask us to wait; beyond that it's taken for a slip."""


class Pauses:
    """Pauses between tries: each about twice the last, up to a limit, and each a little different from everybody else's."""

    def __init__(
        self,
        chance: random.Random | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        *,
        most_s: float = MOST_S,
    ) -> None:
        self._chance = chance or random.Random()  # noqa: S311  spreads load; nothing secret follows from it
        self._sleep = sleep
        self._most_s = most_s
        self._next_s = FIRST_S

    def fresh(self) -> Pauses:
        """The same, at its beginning."""
        return Pauses(self._chance, self._sleep, most_s=self._most_s)

    def reset(self) -> None:
        """It went well: begin with short pauses again."""
        self._next_s = FIRST_S

    async def pause(self, asked_s: float | None = None) -> None:
        """Wait: at least for what the server asks, if it does."""
        own = self._next_s * self._chance.uniform(0.5, 1.0)
        self._next_s = min(self._next_s * 2, self._most_s)
        if asked_s is not None:
            # All who were refused were told the same moment; they shouldn't come back at the same moment.
            own = max(own, min(asked_s, LONGEST_ASKED_S) * self._chance.uniform(1.0, 1.25))
        await self._sleep(own)
