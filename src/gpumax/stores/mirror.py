"""What the loop asks for in every cycle, kept decoded beside the database.

It is changed within the transaction that changes the database, and thrown away where that fails; so it never says what
the database doesn't.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from gpumax.model.queue import Queue
from gpumax.model.records import Changes, Live, TaskRecord, WorkloadRecord
from gpumax.ports import store_rules as rules

Pair = tuple[WorkloadRecord, tuple[TaskRecord, ...]]


class Mirror:
    """Queues, live workloads with their tasks, and the last numbers given. Not for several threads at once."""

    def __init__(
        self, queues: Iterable[Queue], pairs: Iterable[tuple[int, Pair]], last_workload: int, last_event: int
    ) -> None:
        self.queues: Mapping[str, Queue] = {}
        self.last_workload = last_workload
        self.last_event = last_event
        self._rows: dict[str, tuple[int, Pair]] = {}
        self._ids: dict[str, str] = {}
        self._live: Live | None = None
        self.set_queues(queues)
        for seq, pair in pairs:
            self.add(seq, *pair)

    def live(self) -> Live:
        """All of it; the same object until something changes."""
        if self._live is None:
            rows = sorted(self._rows.values(), key=lambda row: row[0])
            self._live = Live(tuple(self.queues.values()), tuple(pair for _, pair in rows))
        return self._live

    def find(self, name: str) -> Pair | None:
        """A live workload by name."""
        workload_id = self._ids.get(name)
        return None if workload_id is None else self._rows[workload_id][1]

    def get(self, workload_id: str) -> Pair | None:
        """A live workload by id."""
        row = self._rows.get(workload_id)
        return None if row is None else row[1]

    def unfinished(self, project: str) -> list[str]:
        """Names of the unfinished workloads of a queue."""
        records = (record for _, (record, _) in self._rows.values())
        return [r.name for r in records if r.spec.project == project and not rules.is_finished(r)]

    def add(self, seq: int, record: WorkloadRecord, tasks: tuple[TaskRecord, ...]) -> None:
        """Take a live workload in."""
        self._rows[record.id] = (seq, (record, tasks))
        self._ids[record.name] = record.id
        self._live = None

    def replace(self, record: WorkloadRecord) -> None:
        """Put a record in the place of the one with its id, or drop it where it is no longer live."""
        if rules.is_live(record):
            seq, (_, tasks) = self._rows[record.id]
            self._rows[record.id] = (seq, (record, tasks))
        else:
            self._drop(record.id)
        self._live = None

    def apply(self, changes: Changes) -> bool:
        """Make the changes that a commit made. False where it changed an unfinished workload that isn't here."""
        complete = True
        for workload_id in changes.deleted:
            self._drop(workload_id)
        self._apply_tasks(changes.tasks)
        for record in changes.workloads:
            pair = self.get(record.id)
            if pair is not None:
                self.replace(rules.kept(pair[0], record))
            elif not rules.is_finished(record):
                complete = False
        self._live = None
        return complete

    def set_queues(self, queues: Iterable[Queue], deleted: Collection[str] = ()) -> None:
        """Put these queues in the places of those of their names, and drop others."""
        merged = {**self.queues, **{queue.name: queue for queue in queues}}
        self.queues = {name: merged[name] for name in sorted(merged) if name not in deleted}
        self._live = None

    def _apply_tasks(self, changed: Sequence[TaskRecord]) -> None:
        by_workload: dict[str, dict[int, TaskRecord]] = {}
        for task in changed:
            by_workload.setdefault(task.workload_id, {})[task.index] = task
        for workload_id, fresh in by_workload.items():
            if workload_id in self._rows:
                seq, (record, tasks) = self._rows[workload_id]
                tasks = tuple(fresh.get(rank, task) for rank, task in enumerate(tasks))
                self._rows[workload_id] = (seq, (record, tasks))

    def _drop(self, workload_id: str) -> None:
        row = self._rows.pop(workload_id, None)
        if row is not None:
            del self._ids[row[1][0].name]
