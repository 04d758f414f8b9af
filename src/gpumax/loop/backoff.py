"""Workloads whose start was refused wait before they are tried again, longer each time."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

FIRST_MS: Final = 1_000
MOST_MS: Final = 60_000


class Backoff:
    """By workload id: how often it was refused in a row, and until when it is not to be placed."""

    def __init__(self) -> None:
        self._refused: dict[str, tuple[int, int]] = {}

    def refuse(self, workload_id: str, now_ms: int) -> int:
        """A start was refused. Returns how long the workload waits: 1s, 2s, 4s, at most a minute."""
        times, _ = self._refused.get(workload_id, (0, 0))
        wait_ms = min(MOST_MS, FIRST_MS << min(times, 16))
        self._refused[workload_id] = (times + 1, now_ms + wait_ms)
        return wait_ms

    def forgive(self, workload_ids: Collection[str]) -> None:
        """These have started, or are gone."""
        for workload_id in self._refused.keys() & workload_ids:
            del self._refused[workload_id]

    def keep_only(self, workload_ids: Collection[str]) -> None:
        """Forget all others."""
        for workload_id in self._refused.keys() - workload_ids:
            del self._refused[workload_id]

    def barred(self, now_ms: int) -> frozenset[str]:
        """Those who wait now."""
        return frozenset(name for name, (_, until_ms) in self._refused.items() if now_ms < until_ms)

    def next_ms(self, now_ms: int) -> int | None:
        """When the next of them may be tried again."""
        return min((until_ms for _, until_ms in self._refused.values() if now_ms < until_ms), default=None)
