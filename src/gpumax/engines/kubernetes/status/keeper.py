"""Keeps the status of our objects true: looks once in a while, and writes what is new, however much has changed.

A look costs our own objects and those who wait (all workloads only while somebody has a place that others have yet to leave); a status is made anew
only where what it is made from, or its object, is another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from gpumax.engines.kubernetes.client.cache import Key
from gpumax.engines.kubernetes.client.informer import Informer
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.kinds import GANGS, QUEUES
from gpumax.engines.kubernetes.status.words import gang_status, news, queue_status
from gpumax.engines.kubernetes.tallies import find, tallies, waits
from gpumax.engines.kubernetes.views import Document
from gpumax.errors import Fault
from gpumax.model.decision import Decision
from gpumax.model.snapshot import Snapshot

EVERY_S: Final = 2.0
"""How often is looked, and so how often at most an object is written."""
MOST: Final = 50
"""Writes of one look; the others' turn comes with the next."""
Write = Callable[[Kind[Any], Key, str, Document], Awaitable[None]]
"""Writes the status of an object of this kind, name and uid."""


class Shown(NamedTuple):
    """What status is made from. stamp: another where any of it may be. queues, gangs: what is wrong with a queue, and with a gang's pods,
    by the names of the queue and the workload.
    """

    stamp: object
    snapshot: Snapshot
    decision: Decision
    queues: Mapping[str, Sequence[Fault]]
    gangs: Callable[[str], Sequence[Fault]]


class _Row(NamedTuple):
    """An object that should have a status. made_of: all that the status follows from."""

    kind: Kind[Any]
    key: Key
    made_of: tuple[Any, ...]


_Place = tuple[Kind[Any], Key]


class Keeper:
    """All within one event loop. `shows` gives what there is to tell; None where we don't steer, or nothing was decided yet."""

    def __init__(
        self,
        informers: Mapping[Kind[Any], Informer[Any]],
        shows: Callable[[], Shown | None],
        write: Write,
        every_s: float = EVERY_S,
    ) -> None:
        self._informers = informers
        self._shows = shows
        self._write = write
        self._every_s = every_s
        self._seen: object = (
            None  # what the last look was made on; None where it left something to be written
        )
        self._turn = 0
        self._turns: dict[_Place, int] = {}  # in which look each was written last
        self._well: dict[
            _Place, tuple[tuple[Any, ...], Any]
        ] = {}  # whose status is as it should be: made of what, on which object

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            shown = self._shows()
            if shown is not None:
                await self.look(shown)

    async def look(self, shown: Shown) -> None:
        """Write what is new. Those who have waited for longest come first, so that nobody's status gets old for the many of somebody else."""
        stamp = (shown.stamp, *(one.cache.version for one in self._informers.values()))
        if stamp == self._seen:
            return
        rows = [row for row in (*self._queues(shown), *self._gangs(shown)) if not self._is_well(row)]
        self._turn += 1
        left = MOST
        for row in sorted(rows, key=lambda row: self._turns.get((row.kind, row.key), 0)):
            if left and await self._told(row):
                left -= 1
                self._turns[row.kind, row.key] = self._turn
        self._forget()
        # What was written comes back as a change, and is looked at once more.
        self._seen = stamp if left == MOST else None

    def _queues(self, shown: Shown) -> Iterator[_Row]:
        if QUEUES in self._informers:
            known = tallies(shown.snapshot, shown.decision)
            for key in self._informers[QUEUES].cache.objects:
                yield _Row(QUEUES, key, (known.get(key[1]), shown.queues.get(key[1], ())))

    def _gangs(self, shown: Shown) -> Iterator[_Row]:
        if GANGS in self._informers and (there := self._informers[GANGS].cache.objects):
            names = {f"{space}/gang/{name}": (space, name) for space, name in there}
            rows = find(shown.snapshot.workloads, names)
            why = {wait.workload: wait for wait in waits(shown.snapshot, shown.decision)}
            for name, key in names.items():
                yield _Row(GANGS, key, (rows.get(name), why.get(name), shown.gangs(name)))

    def _is_well(self, row: _Row) -> bool:
        made_of, one = self._well.get((row.kind, row.key), ((), None))
        # A row of a snapshot that is equal is the same object, and tells so at once.
        return made_of == row.made_of and one is self._informers[row.kind].cache.objects.get(row.key)

    async def _told(self, row: _Row) -> bool:
        """Whether there was anything to write."""
        one = self._informers[row.kind].cache.objects.get(row.key)
        if one is None:
            return False
        wanted = queue_status(*row.made_of) if row.kind is QUEUES else gang_status(*row.made_of)
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        fresh = news(wanted, one.status, moment, one.metadata.generation)
        if fresh is None:
            self._well[row.kind, row.key] = row.made_of, one
            return False
        await self._write(row.kind, row.key, one.metadata.uid, fresh)
        return True

    def _forget(self) -> None:
        """Objects that are gone."""
        there = {(kind, key) for kind, one in self._informers.items() for key in one.cache.objects}
        for known in (self._turns, self._well):
            for place in known.keys() - there:
                del known[place]
