"""Workloads whose start was refused wait before they are tried again, longer each time.

They wait longest before anybody is evicted for them again: the start that came of it may be refused like the last one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

FIRST_MS: Final = 1_000
MOST_MS: Final = 60_000
FIRST_RECLAIM_MS: Final = 60_000
MOST_RECLAIM_MS: Final = 3_600_000


class _Refused(NamedTuple):
    """times: in a row; until when it is not placed, and until when it is placed on free room only."""

    times: int
    place_ms: int
    reclaim_ms: int


class Backoff:
    """By workload id: how often it was refused in a row, and what it may not do until when."""

    def __init__(self) -> None:
        self._refused: dict[str, _Refused] = {}

    def refuse(self, workload_id: str, now_ms: int) -> None:
        """A start was refused: it waits 1s, 2s, 4s, at most a minute; from a minute to an hour before others go for it."""
        times = self._refused[workload_id].times if workload_id in self._refused else 0
        doubled = min(times, 16)
        self._refused[workload_id] = _Refused(
            times + 1,
            now_ms + min(MOST_MS, FIRST_MS << doubled),
            now_ms + min(MOST_RECLAIM_MS, FIRST_RECLAIM_MS << doubled),
        )

    def forgive(self, workload_ids: Collection[str]) -> None:
        """These have started, or are gone."""
        for workload_id in self._refused.keys() & workload_ids:
            del self._refused[workload_id]

    def keep_only(self, workload_ids: Collection[str]) -> None:
        """Forget all others."""
        for workload_id in [known for known in self._refused if known not in workload_ids]:
            del self._refused[workload_id]

    def barred(self, now_ms: int) -> frozenset[str]:
        """Those who are not placed now."""
        return frozenset(name for name, row in self._refused.items() if now_ms < row.place_ms)

    def timid(self, now_ms: int) -> frozenset[str]:
        """Those for whom nobody is evicted now."""
        return frozenset(name for name, row in self._refused.items() if now_ms < row.reclaim_ms)

    def next_ms(self, now_ms: int) -> int | None:
        """When the next of them may do more."""
        moments = (moment for row in self._refused.values() for moment in (row.place_ms, row.reclaim_ms))
        return min((moment for moment in moments if now_ms < moment), default=None)
