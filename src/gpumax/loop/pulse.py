"""When the loop looks again: wakes from any thread, counted, so that a caller can wait for the cycle that saw its change."""

from __future__ import annotations

from collections.abc import Callable
from threading import Condition


class Pulse:
    """Wakes, begun and finished cycles, by the number of wakes that each has seen."""

    def __init__(self) -> None:
        # Condition's own lock is re-entrant: a signal handler may wake a loop that is being woken.
        self._changed = Condition()
        self._wakes = 0
        self._begun = 0
        self._finished = 0
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether the loop was told to end."""
        return self._stopped

    def wake(self) -> int:
        """Ask for another cycle. Returns the stamp that `wait_past` takes."""
        with self._changed:
            self._wakes += 1
            self._changed.notify_all()
            return self._wakes

    def stop(self) -> None:
        """End the loop, and all waiting."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def begin(self) -> int:
        """A cycle begins: it sees what was changed before the wakes until now."""
        with self._changed:
            self._begun = self._wakes
            return self._begun

    def finish(self, stamp: int) -> None:
        """The cycle that began with this stamp has done its work."""
        with self._changed:
            self._finished = max(self._finished, stamp)
            self._changed.notify_all()

    def wait_past(self, stamp: int, timeout_s: float) -> bool:
        """Wait for a cycle that began after the wake of this stamp; False where none has finished in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._finished >= stamp, timeout_s)
            return self._finished >= stamp

    def wait(self, timeout_s: float) -> None:
        """Wait for a wake that no cycle has seen, for so long at most."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._wakes > self._begun, timeout_s)

    def gather(self, timeout_s: float, enough: Callable[[], bool]) -> None:
        """Wait for more wakes until it is enough, which is asked at each of them, for so long at most."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or enough(), timeout_s)

    def pause(self, timeout_s: float) -> None:
        """Wait, whoever wakes; only `stop` ends it early."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped, timeout_s)
