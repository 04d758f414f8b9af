"""Time, handed in."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Milliseconds since 1970, never going back."""

    def now_ms(self) -> int:
        """The time now."""
        ...


class SystemClock:
    """The machine's clock; where that is set back, it stands still until the time is reached again."""

    def __init__(self) -> None:
        self._last = 0

    def now_ms(self) -> int:
        """The time now."""
        self._last = max(self._last, time.time_ns() // 1_000_000)
        return self._last


class ManualClock:
    """A clock for tests and studies: it moves when told."""

    def __init__(self, now_ms: int = 0) -> None:
        self._now = now_ms

    def now_ms(self) -> int:
        """The time now."""
        return self._now

    def advance(self, ms: int) -> None:
        """Let time pass."""
        self._now += ms
