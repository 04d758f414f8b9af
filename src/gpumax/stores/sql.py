"""The store on an SQL database: one SQLite file, written by this process only."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, get_args

from sqlalchemy import Connection

from gpumax.errors import Refused, StoreFailed
from gpumax.model.queue import Queue
from gpumax.model.records import Changes, Event, Live, TaskRecord, Wish, WorkloadRecord, WorkloadState
from gpumax.model.spec import WorkloadSpec
from gpumax.ports import store_rules as rules
from gpumax.stores import queries
from gpumax.stores.migrate import bring_up_to_date
from gpumax.stores.mirror import Mirror
from gpumax.stores.sqlite import identity, in_words, open_file

_SWEEP: Final = 1000
"""Old events go by so many at a time."""


class SqlStore:
    """Implements Store. All calls go over one connection, one after the other."""

    def __init__(self, path: Path, *, patience_s: float = 2.0, kept_events: int = rules.KEPT_EVENTS) -> None:
        """Open the file, made if it isn't there, and bring its tables up to date.

        patience_s: how long to wait for another process to let go of it. StoreFailed where it can't be used.
        """
        self._path = path
        self._kept_events = kept_events
        self._lock = threading.RLock()
        self._closed = False
        self._engine = open_file(path, patience_s)
        self._file = identity(path)
        self._mirror: Mirror | None = None
        try:
            with in_words(path), self._engine.begin() as connection:
                bring_up_to_date(connection, path)
                self._mirror = queries.load_mirror(connection)
        except BaseException:
            self.close()
            raise

    def live(self) -> Live:
        """See Store."""
        with self._lock:
            if self._mirror is not None and not self._closed:
                return self._mirror.live()
            with self._transaction() as (_, mirror):
                return mirror.live()

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
        with self._transaction() as (connection, mirror):
            seen = queries.submission(connection, key) if key else None
            if seen is not None:
                return _again(connection, seen, key, digest)
            rules.refuse_names(specs, queries.states_of(connection, [spec.name for spec in specs]))
            changed, told = rules.set_queues(mirror.queues, queues, now_ms)
            begun = [rules.begin(spec, _new_id(spec.name), now_ms) for spec in specs]
            made = [(seq, *pair[:2]) for seq, pair in enumerate(begun, mirror.last_workload + 1)]
            queries.set_queues(connection, changed)
            queries.add_workloads(connection, made)
            self._tell(connection, mirror, (*told, *(event for _, _, event in begun)))
            if key:
                queries.forget_submissions(connection, now_ms - rules.KEPT_KEYS_MS)
                queries.remember(connection, key, digest, now_ms, [record.id for _, record, _ in made])
            mirror.set_queues(changed)
            for seq, record, tasks in made:
                mirror.add(seq, record, tasks)
            mirror.last_workload += len(made)
            return tuple(record for _, record, _ in made)

    def commit(self, changes: Changes) -> None:
        """See Store."""
        with self._transaction() as (connection, mirror):
            queries.write(connection, changes)
            self._tell(connection, mirror, changes.events)
            if not mirror.apply(changes):
                self._mirror = None  # finished work that lives again is read anew

    def find(self, name: str) -> tuple[WorkloadRecord, tuple[TaskRecord, ...]] | None:
        """See Store."""
        with self._transaction() as (connection, mirror):
            pair = mirror.find(name)
            if pair is not None:
                return pair
            found = queries.find(connection, name)
            return None if found is None else found[1:]

    def page(
        self, *, states: Collection[WorkloadState] = (), project: str = "", after: str = "", limit: int = 100
    ) -> tuple[tuple[WorkloadRecord, ...], str]:
        """See Store."""
        before = rules.read_cursor(after)
        with self._transaction() as (connection, _):
            return queries.page(connection, states, project, before, limit)

    def tasks_of(self, ids: Collection[str]) -> tuple[TaskRecord, ...]:
        """See Store."""
        with self._transaction() as (connection, mirror):
            live = {i: pair[1] for i in set(ids) if (pair := mirror.get(i)) is not None}
            found = {**live, **queries.tasks_of(connection, set(ids) - live.keys())}
            return tuple(task for i in sorted(found) for task in found[i])

    def counts(self) -> dict[WorkloadState, int]:
        """See Store."""
        with self._transaction() as (connection, _):
            return {**dict.fromkeys(get_args(WorkloadState), 0), **queries.counts(connection)}

    def wish(self, name: str, wish: Wish, *, now_ms: int) -> WorkloadRecord:
        """See Store."""
        with self._transaction() as (connection, mirror):
            pair = mirror.find(name)
            found = queries.find(connection, name) if pair is None else None
            old = pair[0] if pair is not None else found[1] if found is not None else None
            record = rules.wished(old, name, wish)
            if record is not old:
                queries.set_wish(connection, record)
                if found is None:
                    mirror.replace(record)
                else:
                    mirror.add(found[0], record, found[2])
            return record

    def queues(self) -> tuple[Queue, ...]:
        """See Store."""
        return self.live().queues

    def set_queue(self, queue: Queue, *, now_ms: int) -> None:
        """See Store."""
        with self._transaction() as (connection, mirror):
            changed, told = rules.set_queues(mirror.queues, (queue,), now_ms)
            queries.set_queues(connection, changed)
            self._tell(connection, mirror, told)
            mirror.set_queues(changed)

    def delete_queue(self, name: str, *, now_ms: int) -> None:
        """See Store."""
        with self._transaction() as (connection, mirror):
            rules.refuse_queue_deletion(mirror.queues, name, mirror.unfinished(name))
            queries.remove_queues(connection, (name,))
            self._tell(connection, mirror, (rules.queue_deleted(name, now_ms),))
            mirror.set_queues((), deleted=(name,))

    def events(
        self, *, after: int = 0, workload: str = "", limit: int = 100, newest: bool = False
    ) -> tuple[Event, ...]:
        """See Store."""
        with self._transaction() as (connection, mirror):
            if after >= mirror.last_event:
                return ()
            return queries.read_events(connection, max(after, 0), workload, limit, newest)

    def close(self) -> None:
        """See Store."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[tuple[Connection, Mirror]]:
        """Alone with the database, and with the mirror of what is in it."""
        with self._lock, in_words(self._path):
            if self._closed:
                raise StoreFailed(f"{self._path}: is closed")
            if identity(self._path) != self._file:  # what is written to it now, nobody would find again
                raise StoreFailed(
                    f"{self._path}: was moved or deleted while in use; put it back, or start again"
                )
            try:
                with self._engine.begin() as connection:
                    if self._mirror is None:
                        self._mirror = queries.load_mirror(connection)
                    yield connection, self._mirror
            except Refused:
                raise  # before anything was changed
            except BaseException:
                self._mirror = None
                raise

    def _tell(self, connection: Connection, mirror: Mirror, events: Sequence[Event]) -> None:
        before, last = mirror.last_event, mirror.last_event + len(events)
        queries.add_events(connection, rules.numbered(events, before))
        if last // _SWEEP > before // _SWEEP and last > self._kept_events:
            queries.forget_events(connection, last - self._kept_events)
        mirror.last_event = last


def _again(
    connection: Connection, seen: tuple[str, tuple[str, ...]], key: str, digest: str
) -> tuple[WorkloadRecord, ...]:
    first_digest, ids = seen
    if first_digest != digest:
        raise rules.refuse_key(key)
    records = queries.by_ids(connection, ids)
    return tuple(records[i] for i in ids if i in records)


def _new_id(name: str) -> str:
    """An id that was never used before, that tells a person whose it is, and that is fit for a path."""
    return f"{name}-{secrets.token_hex(5)}"
