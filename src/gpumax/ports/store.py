"""The store keeps what must survive: workloads, tasks, queues, events."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from gpumax.model.queue import Queue
from gpumax.model.records import Changes, Event, Live, TaskRecord, Wish, WorkloadRecord, WorkloadState
from gpumax.model.spec import WorkloadSpec


class Store(Protocol):
    """Every call is one transaction and durable when it returns. Calls may come from any thread.

    StoreFailed: it can't be read or written, and nothing of the call was kept.
    """

    def live(self) -> Live:
        """All queues by name, and every unfinished workload (and every one that is wished deleted) with its tasks, oldest first.

        Cheap where nothing has changed since the last call: the same object is returned.
        """
        ...

    def submit(
        self,
        specs: Sequence[WorkloadSpec],
        *,
        queues: Sequence[Queue] = (),
        key: str,
        digest: str,
        now_ms: int,
    ) -> tuple[WorkloadRecord, ...]:
        """Record new workloads, with their tasks and a Submitted event each, all or none; and set `queues` in the same transaction.

        key: the submitter's idempotency key, empty for none; digest: of what was submitted. The same key with the same
        digest returns what it made the first time, as it is now and without what was deleted since, and does nothing
        else (submitted_ms is then that of the first time); with another digest, or with a name that is in use, Conflict.
        Keys are forgotten after a week. A workload has as many tasks as its groups may have at most, named by rank.
        """
        ...

    def commit(self, changes: Changes) -> None:
        """Write all rows or none. Rows of workloads that are gone, and of tasks that never were, are passed over.

        What was submitted stays as it is, and so does the wish: a person may have changed it since the loop looked.
        Deleting drops rows, not files; a deleted workload's events stay.
        """
        ...

    def find(self, name: str) -> tuple[WorkloadRecord, tuple[TaskRecord, ...]] | None:
        """A workload by name, finished or not."""
        ...

    def page(
        self, *, states: Collection[WorkloadState] = (), project: str = "", after: str = "", limit: int = 100
    ) -> tuple[tuple[WorkloadRecord, ...], str]:
        """Workloads, newest first, and the cursor of the next page (empty at the end).

        limit: at least 1. What is submitted or deleted between two pages neither repeats nor hides others. BadFile for a
        cursor that no page gave.
        """
        ...

    def tasks_of(self, ids: Collection[str]) -> tuple[TaskRecord, ...]:
        """The tasks of these workloads, by workload id and rank."""
        ...

    def counts(self) -> dict[WorkloadState, int]:
        """How many workloads are in each state, those with none included."""
        ...

    def wish(self, name: str, wish: Wish, *, now_ms: int) -> WorkloadRecord:
        """Record what a person wants of a workload. Repeating it does no harm.

        NotFound; Conflict where it is finished, or wished deleted already, and wish isn't delete.
        """
        ...

    def queues(self) -> tuple[Queue, ...]:
        """All queues by name."""
        ...

    def set_queue(self, queue: Queue, *, now_ms: int) -> None:
        """Create or replace a queue. created_ms 0: as it was, or now. Conflict: no such parent, or a circle of parents."""
        ...

    def delete_queue(self, name: str, *, now_ms: int) -> None:
        """NotFound; Conflict where it has children or unfinished work."""
        ...

    def events(
        self, *, after: int = 0, workload: str = "", limit: int = 100, newest: bool = False
    ) -> tuple[Event, ...]:
        """Events in order of seq, those after `after`; newest: the last `limit` of them. The oldest are forgotten in time."""
        ...

    def close(self) -> None:
        """Let go of the file. Closing twice does no harm."""
        ...
