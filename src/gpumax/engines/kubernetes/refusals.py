"""Pods whose bind was refused wait before it is tried again, longer each time, and are told so; their room is free meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final, NamedTuple

from gpumax.engines.kubernetes.telling import SCHEDULED, Told, short
from gpumax.words import plural

FIRST_S: Final = 0.25
MOST_S: Final = 30.0
CODE: Final = "BindRefused"


class _Refused(NamedTuple):
    times: int
    until_s: float
    why: str


class Refusals:
    """By task: how often in a row, and until when it isn't tried."""

    def __init__(self) -> None:
        self._refused: dict[str, _Refused] = {}
        self._barred: set[str] = set()

    def refuse(self, task: str, why: str) -> float:
        """It was refused. Returns how long it waits."""
        times = self._refused[task].times + 1 if task in self._refused else 1
        pause_s = min(FIRST_S * (1 << min(times - 1, 16)), MOST_S)
        self._refused[task] = _Refused(times, monotonic() + pause_s, why)
        self._barred.add(task)
        return pause_s

    def forgive(self, task: str) -> None:
        """It was bound."""
        self._refused.pop(task, None)
        self._barred.discard(task)

    def due(self, there: Callable[[str], object]) -> list[str]:
        """Whose time has come; each is named once. Those who aren't there any more are forgotten."""
        for task in [task for task in self._refused if not there(task)]:
            self.forgive(task)
        now_s = monotonic()
        found = [task for task in self._barred if self._refused[task].until_s <= now_s]
        self._barred.difference_update(found)
        return found

    def told(self) -> dict[str, Told]:
        """What those are told who wait for another try."""
        return {task: _told(task, self._refused[task]) for task in self._barred}


def _told(task: str, row: _Refused) -> Told:
    message = f"its bind was refused {plural(row.times, 'time')} in a row and is tried again: {row.why}"
    return Told(task, SCHEDULED, CODE, short(message), CODE)
