"""What the engine says against a start is asked before anybody makes way for it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from gpumax.loop.launch import NOWHERE, launch
from gpumax.loop.lifecycle import may_start
from gpumax.model.records import Changes, Event, Live, Pair, TaskRecord, WorkloadRecord
from gpumax.model.rows import difference
from gpumax.ports.engine import Engine

AGAIN_MS: Final = 10_000
"""How long an answer holds: whoever puts a file where it was missed waits for so long at most."""


class _Answer(msgspec.Struct, frozen=True):
    words: str
    until_ms: int


def objection(engine: Engine, record: WorkloadRecord, tasks: Iterable[TaskRecord], data: Path) -> str:
    """What the engine says against starting the workload's tasks, wherever it were; empty for nothing."""
    rows = tuple(tasks)
    # Tasks of a group are alike.
    one_each = {task.group: task for task in reversed(rows)}
    for task in reversed(one_each.values()):
        words = engine.objection(launch(record, rows, task, data=data, master=NOWHERE))
        if words:
            return words
    return ""


_NOTHING: Final = _Answer("", 0)


class Objections:
    """The engine's objections to work that waits, each asked again after a while."""

    def __init__(self, engine: Engine, data: Path) -> None:
        self._engine = engine
        self._data = data
        self._answers: dict[str, _Answer] = {}
        self._pairs: tuple[Pair, ...] = ()
        self._open: dict[str, Pair] = {}  # of which somebody waits, or something is objected to

    def ask(self, live: Live, now_ms: int) -> Changes:
        """Records whose objection is another one now."""
        answers, changed, events = {}, [], []
        for record, tasks in self._looked_at(live.workloads):
            if _waits(record, tasks):
                answer = self._answers.get(record.id)
                if answer is None or now_ms >= answer.until_ms:
                    words = objection(self._engine, record, tasks, self._data)
                    answer = _Answer(words, now_ms + AGAIN_MS)
                answers[record.id] = answer
            else:
                answer = _NOTHING
            if answer.words != record.objection:
                # A hold of an earlier decision says nothing of it any more.
                hold = None if answer.words else record.hold
                changed.append(replace(record, objection=answer.words, hold=hold))
                if answer.words:
                    events.append(Event(now_ms, "Refused", answer.words, record.name))
        self._answers = answers
        return Changes(workloads=tuple(changed), events=tuple(events))

    def _looked_at(self, pairs: tuple[Pair, ...]) -> list[Pair]:
        """Those to whom something may be objected, or was."""
        gone, come = difference(self._pairs, pairs)
        self._pairs = pairs
        for record, _ in gone:
            self._open.pop(record.id, None)
        for record, tasks in come:
            if record.objection or any(task.state == "pending" for task in tasks):
                self._open[record.id] = (record, tasks)
        return list(self._open.values())

    def next_ms(self) -> int | None:
        """When the next workload that is objected to is looked at again."""
        return min((answer.until_ms for answer in self._answers.values() if answer.words), default=None)


def _waits(record: WorkloadRecord, tasks: tuple[TaskRecord, ...]) -> bool:
    return may_start(record, tasks) and any(task.state == "pending" for task in tasks)
