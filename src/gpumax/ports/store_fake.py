"""A store in memory, for tests of what stands on a store. It passes the same exam as the real ones."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Sequence
from itertools import count
from typing import get_args

from gpumax.model.queue import Queue
from gpumax.model.records import Changes, Event, Live, TaskRecord, Wish, WorkloadRecord, WorkloadState
from gpumax.model.spec import WorkloadSpec
from gpumax.ports import store_rules as rules


class MemoryStore:
    """Keeps everything for as long as it lives. Ids are the names with a number, so that tests can foresee them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._serial = count(1)
        self._records: dict[str, WorkloadRecord] = {}  # by id, in the order of submission
        self._order: dict[str, int] = {}
        self._tasks: dict[str, tuple[TaskRecord, ...]] = {}
        self._queues: dict[str, Queue] = {}
        self._events: deque[Event] = deque(maxlen=rules.KEPT_EVENTS)
        self._last_seq = 0
        self._live: Live | None = None
        self._pairs: dict[
            str, tuple[WorkloadRecord, tuple[TaskRecord, ...]]
        ] = {}  # that are live, by id, oldest first
        self._names: dict[str, str] = {}  # ids by name
        self._keys: dict[str, tuple[str, int, tuple[str, ...]]] = {}

    def live(self) -> Live:
        """See Store."""
        with self._lock:
            if self._live is None:
                self._live = Live(self._sorted_queues(), tuple(self._pairs.values()))
            return self._live

    def submit(
        self,
        specs: Sequence[WorkloadSpec],
        *,
        queues: Sequence[Queue] = (),
        key: str,
        digest: str,
        now_ms: int,
    ) -> tuple[WorkloadRecord, ...]:
        """See Store."""
        with self._lock:
            if key and key in self._keys:
                seen, _, ids = self._keys[key]
                if seen != digest:
                    raise rules.refuse_key(key)
                return tuple(self._records[i] for i in ids if i in self._records)
            self._live = None
            taken = [spec.name for spec in specs if spec.name in self._names]
            rules.refuse_names(specs, {name: self._records[self._names[name]].state for name in taken})
            changed, told = rules.set_queues(self._queues, queues, now_ms)
            made = []
            for spec in specs:
                serial = next(self._serial)
                record, tasks, event = rules.begin(spec, f"{spec.name}-{serial:06}", now_ms)
                self._order[record.id] = serial
                self._records[record.id] = record
                self._tasks[record.id] = tasks
                self._names[record.name] = record.id
                self._pairs[record.id] = (record, tasks)
                made.append(record)
                told = (*told, event)
            self._queues.update((queue.name, queue) for queue in changed)
            self._tell(told)
            if key:
                self._remember(key, digest, now_ms, made)
            return tuple(made)

    def commit(self, changes: Changes) -> None:
        """See Store."""
        with self._lock:
            self._live = None
            for workload_id in changes.deleted:
                self._drop(workload_id)
            for record in changes.workloads:
                if record.id in self._records:
                    self._records[record.id] = rules.kept(self._records[record.id], record)
            for task in changes.tasks:
                rows_of = self._tasks.get(task.workload_id, ())
                if 0 <= task.index < len(rows_of):
                    self._tasks[task.workload_id] = (
                        *rows_of[: task.index], task, *rows_of[task.index + 1 :]
                    )  # fmt: skip
            for workload_id in {*(r.id for r in changes.workloads), *(t.workload_id for t in changes.tasks)}:
                self._renew(workload_id)
            self._tell(changes.events)

    def find(self, name: str) -> tuple[WorkloadRecord, tuple[TaskRecord, ...]] | None:
        """See Store."""
        with self._lock:
            record = self._named(name)
            return None if record is None else (record, self._tasks[record.id])

    def page(
        self, *, states: Collection[WorkloadState] = (), project: str = "", after: str = "", limit: int = 100
    ) -> tuple[tuple[WorkloadRecord, ...], str]:
        """See Store."""
        before = rules.read_cursor(after)
        with self._lock:
            rows = [
                record
                for record in reversed(self._records.values())
                if (not states or record.state in states)
                and (not project or record.spec.project == project)
                and (before is None or self._order[record.id] < before)
            ]
            rest = len(rows) > limit
            return tuple(rows[:limit]), str(self._order[rows[limit - 1].id]) if rest else ""

    def tasks_of(self, ids: Collection[str]) -> tuple[TaskRecord, ...]:
        """See Store."""
        with self._lock:
            return tuple(task for i in sorted(set(ids)) for task in self._tasks.get(i, ()))

    def counts(self) -> dict[WorkloadState, int]:
        """See Store."""
        with self._lock:
            counts: dict[WorkloadState, int] = dict.fromkeys(get_args(WorkloadState), 0)
            for record in self._records.values():
                counts[record.state] += 1
            return counts

    def wish(self, name: str, wish: Wish, *, now_ms: int) -> WorkloadRecord:
        """See Store."""
        with self._lock:
            self._live = None
            record = rules.wished(self._named(name), name, wish)
            self._records[record.id] = record
            self._renew(record.id)
            return record

    def queues(self) -> tuple[Queue, ...]:
        """See Store."""
        with self._lock:
            return self._sorted_queues()

    def set_queue(self, queue: Queue, *, now_ms: int) -> None:
        """See Store."""
        with self._lock:
            self._live = None
            changed, told = rules.set_queues(self._queues, (queue,), now_ms)
            self._queues.update((fresh.name, fresh) for fresh in changed)
            self._tell(told)

    def delete_queue(self, name: str, *, now_ms: int) -> None:
        """See Store."""
        with self._lock:
            self._live = None
            unfinished = [
                record.name
                for record in self._records.values()
                if record.spec.project == name and not rules.is_finished(record)
            ]
            rules.refuse_queue_deletion(self._queues, name, unfinished)
            del self._queues[name]
            self._tell((rules.queue_deleted(name, now_ms),))

    def events(
        self, *, after: int = 0, workload: str = "", limit: int = 100, newest: bool = False
    ) -> tuple[Event, ...]:
        """See Store."""
        with self._lock:
            found = [
                event
                for event in self._events
                if event.seq > after and (not workload or event.workload == workload)
            ]
            return tuple(found[max(0, len(found) - limit) :] if newest else found[:limit])

    def close(self) -> None:
        """Nothing to let go of."""

    def _named(self, name: str) -> WorkloadRecord | None:
        return self._records[self._names[name]] if name in self._names else None

    def _renew(self, workload_id: str) -> None:
        """Bring the live pair up to date; one that was finished and is live again goes to its old place."""
        record = self._records.get(workload_id)
        if record is None or not rules.is_live(record):
            self._pairs.pop(workload_id, None)
            return
        again = workload_id not in self._pairs
        self._pairs[workload_id] = (record, self._tasks[workload_id])
        if again:
            self._pairs = dict(sorted(self._pairs.items(), key=lambda row: self._order[row[0]]))

    def _drop(self, workload_id: str) -> None:
        record = self._records.get(workload_id)
        if record is not None:
            del self._names[record.name]
        for rows in (self._records, self._tasks, self._order, self._pairs):
            rows.pop(workload_id, None)

    def _sorted_queues(self) -> tuple[Queue, ...]:
        return tuple(sorted(self._queues.values(), key=lambda queue: queue.name))

    def _tell(self, events: Sequence[Event]) -> None:
        self._events += rules.numbered(events, self._last_seq)
        self._last_seq += len(events)

    def _remember(self, key: str, digest: str, now_ms: int, made: Sequence[WorkloadRecord]) -> None:
        old = [k for k, (_, at_ms, _) in self._keys.items() if at_ms < now_ms - rules.KEPT_KEYS_MS]
        for stale in old:
            del self._keys[stale]
        self._keys[key] = (digest, now_ms, tuple(record.id for record in made))
