"""Tells streams that something was committed, so that none of them asks the database over and over."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING

from gpumax.model.queue import Queue
from gpumax.model.records import Changes, Event, Live, TaskRecord, Wish, WorkloadRecord, WorkloadState
from gpumax.model.spec import WorkloadSpec

if TYPE_CHECKING:
    from gpumax.ports.store import Store


class Feed:
    """A count of commits that coroutines wait on and any thread raises. `closed`: the server ends, streams do, too."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self.count = 0
        self.closed = False

    def bump(self) -> None:
        """Something was committed."""
        with self._lock:
            self.count += 1
            self._wake()

    def close(self) -> None:
        """The server ends."""
        with self._lock:
            self.closed = True
            self._wake()

    async def wait(self, count: int, timeout_s: float) -> None:
        """Until the count is another than this, the server ends, or the time is over."""
        mine = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            if self.count != count or self.closed:
                return
            self._waiting.add(mine)
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(mine[1].wait(), timeout_s)
        finally:
            with self._lock:
                self._waiting.discard(mine)

    def _wake(self) -> None:
        for loop, event in self._waiting:
            # A loop that is closed has nobody waiting any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(event.set)
        self._waiting.clear()


class TellingStore:
    """A store that tells the feed of every write."""

    def __init__(self, store: Store, feed: Feed) -> None:
        self._store = store
        self._feed = feed

    def live(self) -> Live:
        """As the store's."""
        return self._store.live()

    def submit(
        self,
        specs: Sequence[WorkloadSpec],
        *,
        queues: Sequence[Queue] = (),
        key: str,
        digest: str,
        now_ms: int,
    ) -> tuple[WorkloadRecord, ...]:
        """As the store's."""
        made = self._store.submit(specs, queues=queues, key=key, digest=digest, now_ms=now_ms)
        self._feed.bump()
        return made

    def commit(self, changes: Changes) -> None:
        """As the store's."""
        self._store.commit(changes)
        self._feed.bump()

    def find(self, name: str) -> tuple[WorkloadRecord, tuple[TaskRecord, ...]] | None:
        """As the store's."""
        return self._store.find(name)

    def page(
        self, *, states: Collection[WorkloadState] = (), project: str = "", after: str = "", limit: int = 100
    ) -> tuple[tuple[WorkloadRecord, ...], str]:
        """As the store's."""
        return self._store.page(states=states, project=project, after=after, limit=limit)

    def tasks_of(self, ids: Collection[str]) -> tuple[TaskRecord, ...]:
        """As the store's."""
        return self._store.tasks_of(ids)

    def wish(self, name: str, wish: Wish, *, now_ms: int) -> WorkloadRecord:
        """As the store's."""
        record = self._store.wish(name, wish, now_ms=now_ms)
        self._feed.bump()
        return record

    def queues(self) -> tuple[Queue, ...]:
        """As the store's."""
        return self._store.queues()

    def set_queue(self, queue: Queue, *, now_ms: int) -> None:
        """As the store's."""
        self._store.set_queue(queue, now_ms=now_ms)
        self._feed.bump()

    def delete_queue(self, name: str, *, now_ms: int) -> None:
        """As the store's."""
        self._store.delete_queue(name, now_ms=now_ms)
        self._feed.bump()

    def events(
        self, *, after: int = 0, workload: str = "", limit: int = 100, newest: bool = False
    ) -> tuple[Event, ...]:
        """As the store's."""
        return self._store.events(after=after, workload=workload, limit=limit, newest=newest)

    def counts(self) -> dict[WorkloadState, int]:
        """As the store's."""
        return self._store.counts()

    def close(self) -> None:
        """As the store's."""
        self._store.close()
