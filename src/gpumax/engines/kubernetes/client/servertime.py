"""What time it is where the API server is: objects say when something happened by its clock, so how long ago that is goes by its clock, too."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Final

LOOK_S: Final = 10.0
"""How often an answer is asked for its time."""
ALIKE_S: Final = 2.0
"""Answers say whole seconds, and take a while to come: clocks that differ by less count as the same."""


class ServerTime:
    """Follows the dates of answers, between them by a clock that only runs on. Ours may be wrong by minutes."""

    def __init__(self, steady_s: Callable[[], float] = monotonic) -> None:
        self._steady_s = steady_s
        self._began_s: float | None = None  # the server's time when our steady clock was 0
        self._looked_s = float("-inf")

    def heard(self, date: str | None) -> None:
        """An answer came with this date."""
        steady_s = self._steady_s()
        if date is None or steady_s - self._looked_s < LOOK_S:
            return
        try:
            began_s = parsedate_to_datetime(date).timestamp() + 0.5 - steady_s
        except ValueError:
            return
        self._looked_s = steady_s
        if self._began_s is None or abs(began_s - self._began_s) > ALIKE_S:
            self._began_s = began_s

    def now_ms(self, own_ms: int) -> int:
        """The server's time; ours where it is about the same, or unknown."""
        if self._began_s is None:
            return own_ms
        found = int((self._began_s + self._steady_s()) * 1000)
        return own_ms if abs(found - own_ms) <= ALIKE_S * 1000 else found
