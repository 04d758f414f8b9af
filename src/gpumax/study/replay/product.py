"""gpumax itself: its loop, with the simulated engine and a store in memory."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

from gpumax.engines.simulated.engine import SimulatedEngine
from gpumax.errors import Broken
from gpumax.loop.assemble import assemble
from gpumax.loop.cycle import Loop
from gpumax.loop.launch import NOWHERE, Master
from gpumax.model.decision import Decision
from gpumax.model.queue import Queue
from gpumax.model.records import Live, TaskRecord, WorkloadRecord
from gpumax.model.snapshot import Snapshot
from gpumax.policy.decide import decide
from gpumax.policy.forecast import NONE, QUICK
from gpumax.ports.store_fake import MemoryStore
from gpumax.ports.store_rules import begin
from gpumax.study.replay.players import Stage
from gpumax.study.replay.wanted import Wanted, spec_of

MOST_CYCLES: Final = 1_000
"""A moment after which the loop still isn't at rest is a fault of ours, not of the scenario."""
NO_FILES: Final = Path("/nonexistent/gpumax-study")
_UNHEARD: Final = logging.NullHandler()
"""What a server logs of its cluster is no news of a study; rules that were broken are counted in its result."""


class Gpumax:
    """The product's own loop. Nothing in it knows that it is a study."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        logging.getLogger("gpumax.loop").addHandler(_UNHEARD)
        self._store = MemoryStore()
        self._woken = False
        self._ids = count(1)
        now_ms = stage.clock.now_ms()
        for queue in _parents_first(stage):
            self._store.set_queue(queue, now_ms=now_ms)
        self.loop = Loop(
            self._store,
            SimulatedEngine(stage.world, stage.clock, wake=self._wake),
            _NoJournal() if stage.journal is None else stage.journal,
            stage.clock,
            NO_FILES,
            stage.scenario.policy,
            new_id=lambda: f"{next(self._ids):08}",
            meetings=_Nowhere(),
            think=partial(decide, effort=NONE if stage.journal is None else QUICK),
        )
        self._came = False
        self._counted: Decision | None = None
        self._able: dict[Hashable, bool] = {}

    def could_ever(self, work: Wanted, queue: str) -> bool:
        """See Player. As the policy itself has it."""
        key = (work.wish, work.arrival.priority, queue)
        if key not in self._able:
            spec = spec_of(work, queue, self.stage.scenario.grace_ms)
            record, tasks, _ = begin(spec, work.name, self.stage.clock.now_ms())
            live = Live(self._store.queues(), ((record, tasks),))
            nodes = tuple(self.stage.world.nodes.values())
            alone = assemble(live, nodes, self.stage.clock.now_ms(), self.stage.scenario.policy, {})
            self._able[key] = bool(decide(alone, effort=NONE).places)
        return self._able[key]

    def submit(self, works: Sequence[tuple[Wanted, str]]) -> None:
        """See Player."""
        specs = [spec_of(work, queue, self.stage.scenario.grace_ms) for work, queue in works]
        records = self._store.submit(specs, key="", digest="", now_ms=self.stage.clock.now_ms())
        for record, (work, _) in zip(records, works, strict=True):
            self.stage.expect(record.id, work)
        self._came = True

    def settle(self) -> int:
        """See Player. Who has left makes no difference while nobody waits: the next cycle sees it."""
        due_ms = self.loop.next_ms
        due = due_ms is not None and due_ms <= self.stage.clock.now_ms()
        if not (due or self._came or (self._woken and self.stage.books.waiting)):
            self._tell_journal()
            return 0
        self._came = False
        for cycles in range(1, MOST_CYCLES):
            self._woken = False
            self.loop.cycle()
            self._count_evictions()
            if not (self._woken and self.stage.books.waiting):
                self._tell_journal()
                return cycles
        raise Broken(f"the loop has not settled after {MOST_CYCLES} cycles of one moment")

    def next_ms(self) -> int | None:
        """See Player."""
        return self.loop.next_ms

    def _wake(self) -> None:
        self._woken = True

    def _tell_journal(self) -> None:
        """A server looks at once when something starts or ends, and its journal knows the moment; nothing follows from it here."""
        if self._woken and self.stage.journal is not None:
            self._woken = False
            self.loop.cycle()

    def _count_evictions(self) -> None:
        seen = self.loop.last
        if seen is not None and seen.decision is not self._counted:
            self._counted = seen.decision
            for eviction in seen.decision.evictions:
                self.stage.books.evicted(eviction.task, eviction.cause)


class _Nowhere:
    """Gangs of a study meet nowhere: nobody runs."""

    def meet(self, record: WorkloadRecord, tasks: tuple[TaskRecord, ...]) -> Master:
        """See Meetings."""
        return NOWHERE

    def sync(self, live: Live) -> None:
        """See Meetings."""


class _NoJournal:
    """Nobody wants to read it."""

    def write(self, snapshot: Snapshot, decision: Decision) -> None:
        """See Journal."""

    def close(self) -> None:
        """See Journal."""


def _parents_first(stage: Stage) -> list[Queue]:
    """The queues, each behind its parent and the queue for its fresh work."""
    known: dict[str, Queue] = {}
    rows = list(stage.queues)
    while rows:
        ready = [row for row in rows if {row.parent, row.fresh} <= {None, *known}]
        if not ready:
            break  # the store says what is wrong with the rest
        known.update((row.name, row) for row in ready)
        rows = [row for row in rows if row.name not in known]
    return [*known.values(), *rows]
