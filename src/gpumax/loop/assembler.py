"""Snapshots made one after the other: what has not changed since the last one is taken over from it."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Final, NamedTuple

from gpumax.loop.assemble import whole, workload_of
from gpumax.loop.attained import Ladder, ladders, stands
from gpumax.model.node import Node
from gpumax.model.queue import Queue
from gpumax.model.records import FINISHED, Live, TaskRecord, WorkloadRecord
from gpumax.model.snapshot import Policy, Snapshot
from gpumax.model.workload import Workload

_NAME: Final = attrgetter("name")


class _Row(NamedTuple):
    """A workload as it was made last, and of what. until_ms: when time alone makes it another; None for never."""

    record: WorkloadRecord
    tasks: tuple[TaskRecord, ...]
    barred: bool
    workload: Workload
    until_ms: int | None


class Assembler:
    """Gives what `assemble` gives; only rows that have changed are made anew."""

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}
        self._checkpointed: Mapping[str, int] = {}
        self._promised: frozenset[str] = frozenset()
        self._nodes: tuple[Node, ...] | None = None  # that had all that the last rows hold
        self._queues: tuple[Queue, ...] = ()
        self._sorted: tuple[Queue, ...] = ()
        self._ladders: dict[str, Ladder] = {}

    def assemble(
        self,
        live: Live,
        nodes: tuple[Node, ...],
        now_ms: int,
        policy: Policy,
        checkpointed: Mapping[str, int],
        barred: frozenset[str],
        promised: frozenset[str],
    ) -> Snapshot:
        """The snapshot of a moment; see `assemble`."""
        # Attempts that saved their work since, tasks that were promised something or aren't any more.
        stirred = {attempt for attempt, _ in checkpointed.items() ^ self._checkpointed.items()}
        stirred |= promised ^ self._promised
        self._look_at(live.queues)
        rows: dict[str, _Row] = {}
        made = []
        for record, tasks in live.workloads:
            if record.state in FINISHED:
                continue
            row = self._rows.get(record.id)
            if (
                row is None
                or (row.until_ms is not None and row.until_ms <= now_ms)
                or row.record is not record
                or row.tasks is not tasks
                or row.barred is not (record.id in barred)
                or (stirred and any(task.attempt in stirred or task.name in stirred for task in tasks))
            ):
                workload = workload_of(record, tasks, checkpointed, promised, record.id in barred)
                ladder = self._ladders.get(record.spec.project)
                workload, until_ms = stands(workload, ladder, record, tasks, now_ms)
                row = _Row(record, tasks, record.id in barred, workload, until_ms)
                made.append((record, tasks))
            rows[record.id] = row
        # Rows that were taken over hold nothing that these nodes lack.
        held = live if nodes is not self._nodes else Live(live.queues, tuple(made))
        there = whole(nodes, held)
        self._nodes = nodes if there == nodes else None
        self._rows, self._checkpointed, self._promised = rows, checkpointed, promised
        return Snapshot(
            now_ms=now_ms,
            nodes=nodes if self._nodes is nodes else there,
            queues=self._sorted,
            workloads=tuple(sorted([row.workload for row in rows.values()], key=_NAME)),
            policy=policy,
        )

    @property
    def next_ms(self) -> int | None:
        """When time alone makes a row another, as the last snapshot has them; None for never."""
        if not self._ladders:
            return None
        moments = (row.until_ms for row in self._rows.values() if row.until_ms is not None)
        return min(moments, default=None)

    def _look_at(self, queues: tuple[Queue, ...]) -> None:
        """Whatever was made of other queues may stand otherwise with these."""
        if queues is self._queues:
            return
        self._queues, self._sorted = queues, tuple(sorted(queues, key=_NAME))
        steps = ladders(queues)
        if steps != self._ladders:
            self._ladders, self._rows = steps, {}
