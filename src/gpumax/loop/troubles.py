"""What keeps the loop from doing its work, rules that decisions broke, and what they warn of: told once, in the log and as events."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

from gpumax.errors import GpumaxError
from gpumax.loop.verify import Violation
from gpumax.model.records import Changes, Event, EventKind
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import ACTIVE
from gpumax.ports.clock import Clock
from gpumax.ports.store import Store

_log: Final = logging.getLogger("gpumax.loop")
_AMOUNT: Final = re.compile(r"(?<![\w.-])\d[\d.]*")
"""A number that is no part of a name."""


class Troubles:
    """By kind: the trouble there is now."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._now: dict[EventKind, str] = {}
        self._broken: frozenset[str] = frozenset()
        self._warned: frozenset[str] = frozenset()
        self._failing: frozenset[tuple[str, str, str]] = frozenset()

    def __str__(self) -> str:
        return "; ".join(self._now.values())

    def over(self, kind: EventKind) -> None:
        """This trouble is no more."""
        self._now.pop(kind, None)

    def tell(self, kind: EventKind, error: Exception) -> None:
        """Say once what went wrong, in the log and, where the store takes it, as an event."""
        words = _in_words(error)
        if self._now.get(kind) == words:
            return
        self._now[kind] = words
        expected = isinstance(error, GpumaxError | OSError)
        _log.error("%s: %s", kind, words, exc_info=None if expected else error)
        with suppress(Exception):
            self._store.commit(Changes(events=(Event(self._clock.now_ms(), kind, words),)))

    def broken(self, violations: Sequence[Violation], now_ms: int) -> tuple[Event, ...]:
        """Events for violations that the last decision didn't have."""
        fresh = [found for found in violations if str(found) not in self._broken]
        self._broken = frozenset(map(str, violations))
        for found in fresh:
            _log.error("a decision broke a rule and was not carried out there: %s", found)
        return tuple(
            Event(now_ms, "RuleBroken", f"rule {found.rule}: {found.message}", found.workload, found.task)
            for found in fresh
        )

    def warned(self, warnings: Sequence[str], now_ms: int) -> tuple[Event, ...]:
        """Events for warnings that the last decision didn't have; one that says the same with other amounts is no new one."""
        kinds = {_AMOUNT.sub("#", warning): warning for warning in warnings}
        fresh = [warning for kind, warning in kinds.items() if kind not in self._warned]
        self._warned = frozenset(kinds)
        for warning in fresh:
            _log.warning("%s", warning)
        return tuple(Event(now_ms, "Warned", warning) for warning in fresh)

    def failing(self, snapshot: Snapshot, now_ms: int) -> tuple[Event, ...]:
        """Events for tasks that hold a device which has begun to fail."""
        found = frozenset(on_failing(snapshot))
        fresh = sorted(found - self._failing)
        self._failing = found
        return tuple(Event(now_ms, "Warned", words, workload, task) for workload, task, words in fresh)


def on_failing(snapshot: Snapshot) -> Iterator[tuple[str, str, str]]:
    """Workload, task and words, for each device that is held and isn't healthy."""
    ill = {
        (node.name, device.index) for node in snapshot.nodes for device in node.devices if not device.healthy
    }
    if not ill:
        return
    for workload in snapshot.workloads:
        for task in workload.tasks:
            for share in task.devices if task.state in ACTIVE else ():
                if (task.node, share.index) in ill:
                    words = f"GPU {share.index} of {task.node}, which {task.name} holds, is unhealthy: it takes no new work"
                    yield workload.name, task.name, words


def _in_words(error: Exception) -> str:
    if isinstance(error, GpumaxError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror.lower()} ({error.filename})" if error.filename else error.strerror.lower()
    return f"internal error: {type(error).__name__}: {error}".replace("\n", " ")
