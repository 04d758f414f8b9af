"""Which lives there may be something to do in; where there was nothing, there is nothing until something changes."""

from __future__ import annotations

from msgspec.structs import replace

from gpumax.model.records import Live, Pair
from gpumax.model.rows import difference
from gpumax.model.workload import HOLDING
from gpumax.ports.engine import AttemptSeen


class Memory:
    """What the last step saw and found.

    seen: attempts by id; strays: those that no record claims; due: when a life's time is up, by id of its workload.
    """

    def __init__(self) -> None:
        self.seen: dict[str, AttemptSeen] = {}
        self.strays: set[str] = set()
        self.due: dict[str, int] = {}
        self._pairs: tuple[Pair, ...] = ()
        self._by_id: dict[str, Pair] = {}
        self._attempts: tuple[AttemptSeen, ...] = ()
        self._claims: dict[str, str] = {}  # by attempt: the workload whose record claims it
        self._restless: set[str] = set()  # lives in which there was something to do

    def moving(self, live: Live, attempts: tuple[AttemptSeen, ...], now_ms: int) -> list[Pair]:
        """The lives in which there may be something to do, in the order of the records."""
        # Restless until it is noted what came of them.
        moving = self._restless
        moving |= self._read(live.workloads)
        moving |= self._see(attempts)
        if self.due and min(self.due.values()) <= now_ms:
            moving.update(id_ for id_, due_ms in self.due.items() if due_ms <= now_ms)
        if len(moving) < 2:
            return [self._by_id[id_] for id_ in moving]
        return [pair for pair in live.workloads if pair[0].id in moving]

    def note(self, id_: str, due_ms: int, *, still: bool) -> None:
        """What came of a life that was looked at: whether there was nothing to do, and when its time is up, 0 for never."""
        self.due.pop(id_, None)
        if still:
            self._restless.discard(id_)
            if due_ms:
                self.due[id_] = due_ms

    def _see(self, attempts: tuple[AttemptSeen, ...]) -> set[str]:
        """Whose attempts the engine says something else of than last time, or nothing any more."""
        gone, come = difference(self._attempts, attempts)
        self._attempts = attempts
        for attempt in gone:
            del self.seen[attempt.attempt]
            self.strays.discard(attempt.attempt)
        for attempt in come:
            self.seen[attempt.attempt] = attempt
            if attempt.attempt not in self._claims:
                self.strays.add(attempt.attempt)
        changed = {attempt.attempt: attempt for attempt in gone}
        for attempt in come:
            old = changed.get(attempt.attempt)
            if old is not None and replace(old, checkpointed_ms=attempt.checkpointed_ms) == attempt:
                del changed[attempt.attempt]  # that it has saved its work changes no life
            else:
                changed[attempt.attempt] = attempt
        return {self._claims[id_] for id_ in changed if id_ in self._claims}

    def _read(self, pairs: tuple[Pair, ...]) -> set[str]:
        """Ids of the lives whose records are not those of last time."""
        gone, come = difference(self._pairs, pairs)
        self._pairs = pairs
        for record, tasks in gone:
            for task in tasks:
                attempt = task.attempt
                if attempt is not None and attempt in self._claims:
                    del self._claims[attempt]
                    if attempt in self.seen:
                        self.strays.add(attempt)
            del self._by_id[record.id]
        for record, tasks in come:
            self._by_id[record.id] = (record, tasks)
            for task in tasks:
                if task.attempt is not None and task.state in HOLDING:
                    self._claims[task.attempt] = record.id
                    self.strays.discard(task.attempt)
        for record, _ in gone:
            if record.id not in self._by_id:
                self._restless.discard(record.id)
                self.due.pop(record.id, None)
        return {record.id for record, _ in come}
