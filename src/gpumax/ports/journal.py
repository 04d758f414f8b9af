"""The journal keeps what each decision was made from, so that it can be made again."""

from __future__ import annotations

from typing import Protocol

from gpumax.model.decision import Decision
from gpumax.model.snapshot import Snapshot


class Journal(Protocol):
    """An append-only record of snapshots and what was decided on them."""

    def write(self, snapshot: Snapshot, decision: Decision) -> None:
        """Append one entry."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class MemoryJournal:
    """A journal for tests."""

    def __init__(self) -> None:
        self.entries: list[tuple[Snapshot, Decision]] = []

    def write(self, snapshot: Snapshot, decision: Decision) -> None:
        """Append one entry."""
        self.entries.append((snapshot, decision))

    def close(self) -> None:
        """Nothing to let go of."""
