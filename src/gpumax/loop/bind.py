"""A decision made into records and orders. Pure but for the ids and meeting points that it is handed.

Places that wait for others to leave are not bound: when those have left, a later cycle decides again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import msgspec
from msgspec.structs import replace

from gpumax.loop.ends import GANG_REFUSED, eviction_reason
from gpumax.loop.launch import Master, launch
from gpumax.loop.lifecycle import below_minimum
from gpumax.model.decision import Decision, Eviction, Hold, Place
from gpumax.model.records import Changes, Event, EventKind, Live, TaskRecord, WorkloadRecord
from gpumax.model.workload import ACTIVE, HOLDING
from gpumax.ports.engine import Order, Refusal, Start, Stop
from gpumax.words import plural

Pair = tuple[WorkloadRecord, tuple[TaskRecord, ...]]

Meet = Callable[[WorkloadRecord, tuple[TaskRecord, ...]], Master]
"""Where the tasks of a run meet, given the workload as it is with the new starts."""


class Binding(msgspec.Struct, frozen=True):
    """Rows to commit first, and the orders that make them true."""

    changes: Changes = Changes()
    orders: tuple[Order, ...] = ()


def merge(live: Live, changes: Changes) -> Live:
    """The rows as they are after the changes; what doesn't change is the same object as before."""
    records = {record.id: record for record in changes.workloads}
    rows: dict[str, dict[int, TaskRecord]] = {}
    for task in changes.tasks:
        rows.setdefault(task.workload_id, {})[task.index] = task
    touched = {*records, *rows, *changes.deleted}
    if not touched:
        return live
    gone = set(changes.deleted)

    def changed(pair: Pair) -> Pair:
        record, tasks = pair
        fresh = rows.get(record.id)
        if fresh is not None:
            tasks = tuple(fresh.get(task.index, task) for task in tasks)
        return (records.get(record.id, record), tasks)

    pairs = [
        pair if pair[0].id not in touched else changed(pair)
        for pair in live.workloads
        if pair[0].id not in gone
    ]
    return Live(live.queues, tuple(pairs))


def bind(
    live: Live, decision: Decision, now_ms: int, *, data: Path, new_id: Callable[[], str], meet: Meet
) -> Binding:
    """Bind what can start now, have go what is evicted, and write down holds that changed."""
    draft = _Draft(live, now_ms)
    for eviction in decision.evictions:
        draft.evict(eviction)
    starting: dict[str, list[Place]] = {}
    waiting: dict[str, None] = {}
    for place in decision.places:
        name = draft.owner[place.task]
        if place.after:
            waiting[name] = None
        else:
            starting.setdefault(name, []).append(place)
    for name, places in starting.items():
        draft.start(name, places, new_id, meet, data)
    for name in (name for name in waiting if name not in starting):
        draft.hold(Hold(name, "WaitsForEvictions", "room is being freed for it; it starts when that is done"))
    for hold in decision.holds:
        draft.hold(hold)
    return draft.binding()


def unbind(live: Live, refusals: tuple[Refusal, ...], now_ms: int) -> Binding:
    """Give back what the engine refused to start. Where a gang is then below its minimum, the rest of it goes, too."""
    draft = _Draft(live, now_ms)
    refused = {refusal.attempt: refusal.why for refusal in refusals}
    for record, tasks in live.workloads:
        if any(task.attempt in refused for task in tasks):
            draft.give_back(draft.touch(record.name), refused)
    return draft.binding()


class _Draft:
    """Rows while they are changed, by workload name."""

    def __init__(self, live: Live, now_ms: int) -> None:
        self.now_ms = now_ms
        self._was = {pair[0].spec.name: pair for pair in live.workloads}
        self._live = live
        self.records: dict[str, WorkloadRecord] = {}  # of those that were touched
        self.tasks: dict[str, list[TaskRecord]] = {}
        self.events: list[Event] = []
        self.orders: list[Order] = []
        self._evicted: set[str] = set()

    @cached_property
    def owner(self) -> dict[str, str]:
        """The workload of each task."""
        return {task.name: pair[0].spec.name for pair in self._live.workloads for task in pair[1]}

    def touch(self, name: str) -> WorkloadRecord:
        """A workload's record as it is by now; its rows may be changed from here on."""
        if name not in self.records:
            record, tasks = self._was[name]
            self.records[name], self.tasks[name] = record, list(tasks)
        return self.records[name]

    def evict(self, eviction: Eviction) -> None:
        name = self.owner[eviction.task]
        record = self.touch(name)
        index = next(i for i, task in enumerate(self.tasks[name]) if task.name == eviction.task)
        task = self.tasks[name][index]
        reason = eviction_reason(eviction.cause, eviction.beneficiary)
        self.tasks[name][index] = replace(
            task,
            state="releasing",
            reason=reason,
            cause=eviction.cause,
            beneficiary=eviction.beneficiary,
        )
        if name not in self._evicted:
            self._evicted.add(name)
            self.records[name] = replace(record, evictions=record.evictions + 1)
        self._tell("Evicted", reason, name, task.name)
        self.orders.append(Stop(task.attempt or "", record.spec.grace_ms))

    def start(
        self, name: str, places: list[Place], new_id: Callable[[], str], meet: Meet, data: Path
    ) -> None:
        record, rows = self.touch(name), self.tasks[name]
        if not any(task.state in HOLDING for task in rows):
            record = replace(record, runs=record.runs + 1, started_ms=self.now_ms)
        record = replace(record, state="running", hold=None, reason="")
        index_of = {task.name: index for index, task in enumerate(rows)}
        started = []
        for place in places:
            index = index_of[place.task]
            rows[index] = _bound(rows[index], place, new_id())
            started.append(index)
        self.records[name] = record
        tasks = tuple(rows)
        master = meet(record, tasks)
        self.orders += [
            Start(launch(record, tasks, tasks[index], data=data, master=master)) for index in sorted(started)
        ]
        nodes = ", ".join(sorted({place.node for place in places}))
        self._tell("Placed", f"{len(places)} of {plural(len(tasks), 'task')} start on {nodes}", name)

    def hold(self, hold: Hold) -> None:
        """Write a hold down where it says something new; its counts of nodes alone are not, and its forecast is no event."""
        record = self.touch(hold.workload)
        old = record.hold
        news = old is None or (old.code, old.message, old.short) != (hold.code, hold.message, hold.short)
        if news or (old is not None and old.forecast_ms != hold.forecast_ms):
            self.records[hold.workload] = replace(record, hold=hold)
        if news:
            self._tell("Held", f"{hold.code}: {hold.message}", hold.workload)

    def give_back(self, record: WorkloadRecord, refused: dict[str, str]) -> None:
        name, rows = record.name, self.tasks[record.name]
        why = next(refused[task.attempt] for task in rows if task.attempt in refused)
        record = self.records[name] = replace(record, reason=f"could not start: {why}")
        for index, task in enumerate(rows):
            if task.attempt in refused and task.state == "bound":
                rows[index] = replace(
                    task, state="pending", reason=refused[task.attempt], attempt=None, node=None, devices=()
                )
                self._tell("Refused", refused[task.attempt], name, task.name)
        if not any(task.state in HOLDING for task in rows):
            self.records[name] = record = replace(
                record, state="pending", runs=record.runs - 1, started_ms=None
            )
        elif below_minimum(record, rows):
            for index, task in enumerate(rows):
                if task.state in ACTIVE:
                    rows[index] = replace(task, state="releasing", reason=GANG_REFUSED)
                    self.orders.append(Stop(task.attempt or "", record.spec.grace_ms))

    def binding(self) -> Binding:
        # In the order of the records, as all that is told of them.
        touched = [name for name in self._was if name in self.records]
        changes = Changes(
            workloads=tuple(
                self.records[name] for name in touched if self.records[name] != self._was[name][0]
            ),
            tasks=tuple(
                task
                for name in touched
                for task, was in zip(self.tasks[name], self._was[name][1], strict=True)
                if task != was
            ),
            events=tuple(self.events),
        )
        return Binding(changes, tuple(self.orders))

    def _tell(self, kind: EventKind, message: str, workload: str, task: str = "") -> None:
        self.events.append(Event(self.now_ms, kind, message, workload, task))


def _bound(task: TaskRecord, place: Place, attempt: str) -> TaskRecord:
    return replace(
        task,
        state="bound",
        attempt=attempt,
        node=place.node,
        devices=place.devices,
        started_ms=None,
        ended_ms=None,
        exit_code=None,
        reason="",
        cause=None,
        beneficiary="",
    )
