"""One moment at which to wake up, which often changes, mostly to a later one: with every lease that is given back early."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

SECOND: Final = 1_000_000_000


class Timer(Protocol):
    def cancel(self) -> None: ...


class Alarm:
    """`ring` is called once for each moment that was set and not replaced, and never before it.

    A timer that runs out earlier stays as it is: it finds then that the moment is still to come. So a moment that is put off costs
    an assignment.
    """

    def __init__(
        self, clock: Callable[[], int], call_later: Callable[[float, Callable[[], None]], Timer],
        ring: Callable[[int], None],
    ) -> None:  # fmt: skip
        self._clock = clock
        self._call_later = call_later
        self._ring = ring
        self._timer: Timer | None = None
        self._due: int | None = None
        self._armed = 0

    def set(self, at: int) -> None:
        """Instead of the moment before."""
        self._due = at
        if self._timer is None or at < self._armed:
            self._arm(at)

    def stop(self) -> None:
        self._due = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = at
        self._timer = self._call_later(max(at - self._clock(), 0) / SECOND, self._look)

    def _look(self) -> None:
        self._timer = None
        due = self._due
        if due is None:
            return
        if self._armed < due:
            self._arm(due)
            return
        self._due = None
        self._ring(due)
