"""The live records as the loop works on them, and what is looked up in them."""

from __future__ import annotations

from gpumax.model.records import Changes, Live, Pair, TaskRecord
from gpumax.model.rows import difference


class Roster:
    """Follows the records from one state to the next; what has not changed stays the same object.

    pairs: workloads with their tasks by id, in the order of the records; ids: by workload's name; owners: ids by task's name;
    put_off: ids of those who wait for something else than room, a pause after a failure or what the engine objects to.
    """

    def __init__(self, live: Live | None = None) -> None:
        self.live = Live()
        self.pairs: dict[str, Pair] = {}
        self.ids: dict[str, str] = {}
        self.owners: dict[str, str] = {}
        self.put_off: set[str] = set()
        self._told: tuple[Pair, ...] = ()  # by the store
        if live is not None:
            self.follow(live)

    def follow(self, live: Live) -> Live:
        """Be as the store says. What it says of rows that the loop itself has committed is no news."""
        gone, come = difference(self._told, live.workloads)
        self._told = live.workloads
        news = {record.id for record, _ in come}
        for record, _ in gone:
            if record.id not in news:
                self._drop(record.id)
        new = [record.id for record, _ in come if record.id not in self.pairs]
        for pair in come:
            if self.pairs.get(pair[0].id) != pair:
                self._put(pair)
        if new != [record.id for record, _ in live.workloads[len(live.workloads) - len(new) :]]:
            # Finished work that is to be deleted comes back to its old place.
            self.pairs = {record.id: self.pairs[record.id] for record, _ in live.workloads}
        if gone or come:
            self.live = Live(self.live.queues, tuple(self.pairs.values()))
        if live.queues != self.live.queues:
            self.live = Live(live.queues, self.live.workloads)
        return self.live

    def merge(self, changes: Changes) -> Live:
        """The rows as they are after changes of the loop's own."""
        records = {record.id: record for record in changes.workloads}
        rows: dict[str, dict[int, TaskRecord]] = {}
        for task in changes.tasks:
            rows.setdefault(task.workload_id, {})[task.index] = task
        for id_ in dict.fromkeys((*records, *rows)):
            if id_ in self.pairs:
                record, tasks = self.pairs[id_]
                fresh = rows.get(id_)
                if fresh is not None:
                    tasks = tuple(fresh.get(task.index, task) for task in tasks)
                self._put((records.get(id_, record), tasks))
        for id_ in changes.deleted:
            self._drop(id_)
        if records or rows or changes.deleted:
            self.live = Live(self.live.queues, tuple(self.pairs.values()))
        return self.live

    def _put(self, pair: Pair) -> None:
        record, tasks = pair
        if record.id not in self.pairs:
            self.ids[record.name] = record.id
            self.owners.update((task.name, record.id) for task in tasks)
        self.pairs[record.id] = pair
        if record.objection or record.retry_ms is not None:
            self.put_off.add(record.id)
        else:
            self.put_off.discard(record.id)

    def _drop(self, id_: str) -> None:
        pair = self.pairs.pop(id_, None)
        if pair is None:
            return
        record, tasks = pair
        self.put_off.discard(id_)
        for name, table in ((record.name, self.ids), *((task.name, self.owners) for task in tasks)):
            # The name may be somebody else's by now.
            if table.get(name) == id_:
                del table[name]
