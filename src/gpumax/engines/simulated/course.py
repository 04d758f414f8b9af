"""How the work of one workload goes: forward while all its tasks run, back to its last checkpoint when one is stopped."""

from __future__ import annotations

from typing import Final

import msgspec

from gpumax.model.study import Saving

FOREVER: Final = 1 << 60
"""The duration of work that ends only when it is told to."""


class Work(msgspec.Struct, frozen=True):
    """What there is to do. tasks: how many must run together for the work to go on.

    saving: how often it saves its work (every_ms 0: never), and for how long a start that isn't the first keeps it from going on.
    """

    tasks: int = 1
    duration_ms: int = FOREVER
    saving: Saving = Saving(0, 0)


class Course:
    """One workload under way. All times are the caller's; a course knows no clock.

    stamp: changes with every beginning. saved_ms: work that a restart finds. repeated_ms: work that was done and has to be done again; restarting_ms: time that went
    into restarts. Both are of the whole workload, whatever it holds.
    """

    __slots__ = (
        "_begun",
        "_from_ms",
        "_since_ms",
        "held",
        "repeated_ms",
        "restarting_ms",
        "running",
        "saved_ms",
        "stamp",
        "work",
    )

    def __init__(self, work: Work) -> None:
        self.work = work
        self.held = 0  # tasks that have room and aren't leaving
        self.running = 0  # those of them that have begun
        self.saved_ms = 0
        self.repeated_ms = 0
        self.restarting_ms = 0
        self.stamp = 0
        self._since_ms: int | None = None  # when all its tasks ran
        self._from_ms = 0  # when work goes on, after a restart

    @property
    def goes(self) -> bool:
        """Whether all its tasks run."""
        return self._since_ms is not None

    def go(self, now_ms: int) -> int:
        """All its tasks run. Returns the moment at which its work is done, if nobody stops it."""
        self._since_ms = now_ms
        self._from_ms = now_ms + (self.work.saving.restart_ms if self.stamp else 0)
        self.stamp += 1
        return self._from_ms + self.work.duration_ms - self.saved_ms

    def rest(self, now_ms: int) -> None:
        """One of its tasks has stopped: what wasn't saved is lost."""
        if self._since_ms is None:
            return
        done_ms = max(0, now_ms - self._from_ms)
        kept_ms = self._kept(done_ms)
        self.saved_ms += kept_ms
        self.repeated_ms += done_ms - kept_ms
        self.restarting_ms += min(now_ms, self._from_ms) - self._since_ms
        self._since_ms = None

    def finish(self) -> None:
        """Its work is done."""
        if self._since_ms is not None:
            self.restarting_ms += self._from_ms - self._since_ms
        self.saved_ms, self._since_ms = self.work.duration_ms, None

    def checkpointed_ms(self, now_ms: int) -> int | None:
        """When it last saved its work in this run; None where it hasn't."""
        if self._since_ms is None:
            return None
        kept_ms = self._kept(max(0, now_ms - self._from_ms))
        return self._from_ms + kept_ms if kept_ms else None

    def next_checkpoint_ms(self, now_ms: int) -> int | None:
        """When it saves its work next; None for never."""
        every_ms = self.work.saving.every_ms
        if self._since_ms is None or every_ms <= 0:
            return None
        return self._from_ms + self._kept(max(0, now_ms - self._from_ms)) + every_ms

    def _kept(self, done_ms: int) -> int:
        """How much of the work of this run is saved. Runs begin with saved work, so checkpoints count from their beginning."""
        every_ms = self.work.saving.every_ms
        return done_ms // every_ms * every_ms if every_ms > 0 else 0
