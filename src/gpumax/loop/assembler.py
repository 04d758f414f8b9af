"""Snapshots made one after the other: what has not changed since the last one is taken over from it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping
from operator import attrgetter
from typing import Final, NamedTuple

from gpumax.loop.assemble import whole, workload_of
from gpumax.loop.attained import Ladder, ladders, stands
from gpumax.model.node import Node
from gpumax.model.queue import Queue
from gpumax.model.records import FINISHED, Live, Pair
from gpumax.model.rows import difference
from gpumax.model.snapshot import Policy, Snapshot
from gpumax.model.workload import HOLDING, Workload
from gpumax.ports.engine import AttemptSeen

_NAME: Final = attrgetter("name")


class Assembler:
    """Gives what `assemble` gives; only rows that have changed are made anew.

    checkpointed: by attempt, when its checkpoint last changed; another object whenever one has.
    """

    def __init__(self) -> None:
        self.checkpointed: Mapping[str, int] = {}
        self._pairs: tuple[Pair, ...] = ()
        self._by_id: dict[str, Pair] = {}  # that are not finished
        self._owners: dict[str, str] = {}  # ids by task and by attempt
        self._attempts: tuple[AttemptSeen, ...] = ()
        self._barred: frozenset[str] = frozenset()
        self._promised: frozenset[str] = frozenset()
        self._ground = _Ground((), {})
        self._queues: tuple[Queue, ...] = ()
        self._sorted: tuple[Queue, ...] = ()
        self._ladders: dict[str, Ladder] = {}
        self._until: dict[str, int] = {}  # by id: when time alone makes a row another
        self._rows = _Rows()

    def assemble(
        self,
        live: Live,
        nodes: tuple[Node, ...],
        attempts: tuple[AttemptSeen, ...],
        now_ms: int,
        policy: Policy,
        barred: frozenset[str],
        promised: frozenset[str],
    ) -> Snapshot:
        """The snapshot of a moment; see `assemble`. attempts: as the engine sees them."""
        changed = self._read(live.workloads)
        if self._look_at(live.queues):
            changed = set(self._by_id)
        stirred = self._see(attempts) | (promised ^ self._promised)
        changed |= {self._owners[name] for name in stirred if name in self._owners}
        changed |= {id_ for id_ in barred ^ self._barred if id_ in self._by_id}
        changed |= {id_ for id_, until_ms in self._until.items() if until_ms <= now_ms}
        self._barred, self._promised = barred, promised
        made = [self._by_id[id_] for id_ in changed]
        for record, tasks in made:
            row = workload_of(record, tasks, self.checkpointed, promised, record.id in barred)
            row, until_ms = stands(row, self._ladders.get(record.spec.project), record, tasks, now_ms)
            self._rows.put(row)
            self._until.pop(record.id, None)
            if until_ms is not None:
                self._until[record.id] = until_ms
        return Snapshot(
            now_ms=now_ms,
            nodes=self._there(nodes, live, made),
            queues=self._sorted,
            workloads=self._rows.all(),
            policy=policy,
        )

    @property
    def next_ms(self) -> int | None:
        """When time alone makes a row another, as the last snapshot has them; None for never."""
        return min(self._until.values(), default=None)

    def _look_at(self, queues: tuple[Queue, ...]) -> bool:
        """Whether whatever was made of other queues may stand otherwise with these."""
        if queues == self._queues:
            return False
        self._queues, self._sorted = queues, tuple(sorted(queues, key=_NAME))
        before, self._ladders = self._ladders, ladders(queues)
        return self._ladders != before

    def _read(self, pairs: tuple[Pair, ...]) -> set[str]:
        """Ids of the workloads that are others than they were. Those that have gone go."""
        gone, come = difference(self._pairs, pairs)
        self._pairs = pairs
        for record, tasks in gone:
            for task in tasks:
                self._owners.pop(task.name, None)
                self._owners.pop(task.attempt or "", None)
            self._by_id.pop(record.id, None)
        changed = set()
        for record, tasks in come:
            if record.state in FINISHED:
                continue
            changed.add(record.id)
            self._by_id[record.id] = (record, tasks)
            for task in tasks:
                self._owners[task.name] = record.id
                if task.attempt is not None:
                    self._owners[task.attempt] = record.id
        for record, _ in gone:
            if record.id not in self._by_id:
                self._rows.drop(record.name)
                self._until.pop(record.id, None)
        return changed

    def _see(self, attempts: tuple[AttemptSeen, ...]) -> set[str]:
        """Attempts that have saved their work since."""
        gone, come = difference(self._attempts, attempts)
        self._attempts = attempts
        before = {attempt.attempt: attempt.checkpointed_ms for attempt in gone}
        now = {attempt.attempt: attempt.checkpointed_ms for attempt in come}
        saved = {id_ for id_ in before.keys() | now.keys() if before.get(id_) != now.get(id_)}
        if saved:
            # What others were given stays as it was.
            table = dict(self.checkpointed)
            for id_ in saved:
                table.pop(id_, None)
                saved_ms = now.get(id_)
                if saved_ms is not None:
                    table[id_] = saved_ms
            self.checkpointed = table
        return saved

    def _there(self, nodes: tuple[Node, ...], live: Live, made: Collection[Pair]) -> tuple[Node, ...]:
        """The nodes with all that tasks hold, as `whole` has them; rows that were taken over hold nothing that these nodes lack."""
        if nodes is not self._ground.nodes:
            found = whole(nodes, live)
            if found != nodes:
                return found
            devices = {node.name: frozenset(device.index for device in node.devices) for node in nodes}
            self._ground = _Ground(nodes, devices)
        elif not all(map(self._ground.holds, made)):
            self._ground = _Ground((), {})
            return whole(nodes, live)
        return nodes


class _Ground(NamedTuple):
    """Nodes that have all that the last rows hold, and the indexes of their devices."""

    nodes: tuple[Node, ...]
    devices: Mapping[str, frozenset[int]]

    def holds(self, pair: Pair) -> bool:
        """Whether all is there that the tasks of a workload hold."""
        for task in pair[1]:
            if task.state in HOLDING and task.node is not None:
                there = self.devices.get(task.node)
                if there is None or not there.issuperset([share.index for share in task.devices]):
                    return False
        return True


class _Rows:
    """Workloads by name, in its order."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._rows: list[Workload] = []
        self._all: tuple[Workload, ...] | None = ()

    def put(self, row: Workload) -> None:
        """Take one in, in the place of the one of its name."""
        at = bisect_left(self._names, row.name)
        if at < len(self._names) and self._names[at] == row.name:
            self._rows[at] = row
        else:
            self._names.insert(at, row.name)
            self._rows.insert(at, row)
        self._all = None

    def drop(self, name: str) -> None:
        """Let one go, if it is there."""
        at = bisect_left(self._names, name)
        if at < len(self._names) and self._names[at] == name:
            del self._names[at], self._rows[at]
            self._all = None

    def all(self) -> tuple[Workload, ...]:
        """All of them; the same object until something changes."""
        if self._all is None:
            self._all = tuple(self._rows)
        return self._all
