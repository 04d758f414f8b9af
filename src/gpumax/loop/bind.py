"""A decision made into records and orders. Pure but for the ids and meeting points that it is handed.

Places that wait for others to leave are not bound: when those have left, a later cycle decides again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec.structs import replace

from gpumax.loop.ends import GANG_REFUSED, eviction_reason
from gpumax.loop.launch import Master, launch
from gpumax.loop.lifecycle import below_minimum
from gpumax.loop.roster import Roster
from gpumax.model.decision import Decision, Eviction, Hold, Place
from gpumax.model.records import Changes, Event, EventKind, TaskRecord, WorkloadRecord
from gpumax.model.workload import ACTIVE, HOLDING
from gpumax.ports.engine import Order, Refusal, Start, Stop
from gpumax.words import plural

Meet = Callable[[WorkloadRecord, tuple[TaskRecord, ...]], Master]
"""Where the tasks of a run meet, given the workload as it is with the new starts."""


class Binding(msgspec.Struct, frozen=True):
    """Rows to commit first, and the orders that make them true."""

    changes: Changes = Changes()
    orders: tuple[Order, ...] = ()


def bind(
    roster: Roster, decision: Decision, now_ms: int, *, data: Path, new_id: Callable[[], str], meet: Meet
) -> Binding:
    """Bind what can start now, have go what is evicted, and write down holds that changed."""
    draft = _Draft(roster, now_ms)
    for eviction in decision.evictions:
        draft.evict(eviction)
    starting: dict[str, list[Place]] = {}
    waiting: dict[str, None] = {}
    for place in decision.places:
        id_ = roster.owners[place.task]
        if place.after:
            waiting[id_] = None
        else:
            starting.setdefault(id_, []).append(place)
    for id_, places in starting.items():
        draft.start(id_, places, new_id, meet, data)
    for name in (roster.pairs[id_][0].name for id_ in waiting if id_ not in starting):
        draft.hold(Hold(name, "WaitsForEvictions", "room is being freed for it; it starts when that is done"))
    for hold in decision.holds:
        draft.hold(hold)
    return draft.binding()


def unbind(roster: Roster, refusals: tuple[Refusal, ...], now_ms: int) -> Binding:
    """Give back what the engine refused to start. Where a gang is then below its minimum, the rest of it goes, too."""
    draft = _Draft(roster, now_ms)
    refused = {refusal.attempt: refusal.why for refusal in refusals}
    for record, tasks in roster.live.workloads:
        if any(task.attempt in refused for task in tasks):
            draft.give_back(draft.touch(record.id), refused)
    return draft.binding()


class _Draft:
    """Rows while they are changed, by workload id."""

    def __init__(self, roster: Roster, now_ms: int) -> None:
        self.now_ms = now_ms
        self._roster = roster
        self.records: dict[str, WorkloadRecord] = {}  # of those that were touched
        self.tasks: dict[str, list[TaskRecord]] = {}
        self.events: list[Event] = []
        self.orders: list[Order] = []
        self._evicted: set[str] = set()

    def touch(self, id_: str) -> WorkloadRecord:
        """A workload's record as it is by now; its rows may be changed from here on."""
        if id_ not in self.records:
            record, tasks = self._roster.pairs[id_]
            self.records[id_], self.tasks[id_] = record, list(tasks)
        return self.records[id_]

    def evict(self, eviction: Eviction) -> None:
        id_ = self._roster.owners[eviction.task]
        record = self.touch(id_)
        index = next(i for i, task in enumerate(self.tasks[id_]) if task.name == eviction.task)
        task = self.tasks[id_][index]
        reason = eviction_reason(eviction.cause, eviction.beneficiary)
        self.tasks[id_][index] = replace(
            task,
            state="releasing",
            reason=reason,
            cause=eviction.cause,
            beneficiary=eviction.beneficiary,
        )
        if id_ not in self._evicted:
            self._evicted.add(id_)
            self.records[id_] = replace(record, evictions=record.evictions + 1)
        self._tell("Evicted", reason, record.name, task.name)
        self.orders.append(Stop(task.attempt or "", record.spec.grace_ms))

    def start(self, id_: str, places: list[Place], new_id: Callable[[], str], meet: Meet, data: Path) -> None:
        record, rows = self.touch(id_), self.tasks[id_]
        if not any(task.state in HOLDING for task in rows):
            record = replace(record, runs=record.runs + 1, started_ms=self.now_ms)
        record = replace(record, state="running", hold=None, reason="")
        index_of = {task.name: index for index, task in enumerate(rows)}
        started = []
        for place in places:
            index = index_of[place.task]
            rows[index] = _bound(rows[index], place, new_id())
            started.append(index)
        self.records[id_] = record
        tasks = tuple(rows)
        master = meet(record, tasks)
        self.orders += [
            Start(launch(record, tasks, tasks[index], data=data, master=master)) for index in sorted(started)
        ]
        nodes = ", ".join(sorted({place.node for place in places}))
        self._tell("Placed", f"{len(places)} of {plural(len(tasks), 'task')} start on {nodes}", record.name)

    def hold(self, hold: Hold) -> None:
        """Write a hold down where it says something new; its counts of nodes alone are not, and its forecast is no event."""
        id_ = self._roster.ids[hold.workload]
        record = self.touch(id_)
        old = record.hold
        news = old is None or (old.code, old.message, old.short) != (hold.code, hold.message, hold.short)
        if news or (old is not None and old.forecast_ms != hold.forecast_ms):
            self.records[id_] = replace(record, hold=hold)
        if news:
            self._tell("Held", f"{hold.code}: {hold.message}", hold.workload)

    def give_back(self, record: WorkloadRecord, refused: dict[str, str]) -> None:
        id_, rows = record.id, self.tasks[record.id]
        why = next(refused[task.attempt] for task in rows if task.attempt in refused)
        record = self.records[id_] = replace(record, reason=f"could not start: {why}")
        for index, task in enumerate(rows):
            if task.attempt in refused and task.state == "bound":
                rows[index] = replace(
                    task, state="pending", reason=refused[task.attempt], attempt=None, node=None, devices=()
                )
                self._tell("Refused", refused[task.attempt], record.name, task.name)
        if not any(task.state in HOLDING for task in rows):
            self.records[id_] = record = replace(
                record, state="pending", runs=record.runs - 1, started_ms=None
            )
        elif below_minimum(record, rows):
            for index, task in enumerate(rows):
                if task.state in ACTIVE:
                    rows[index] = replace(task, state="releasing", reason=GANG_REFUSED)
                    self.orders.append(Stop(task.attempt or "", record.spec.grace_ms))

    def binding(self) -> Binding:
        touched = list(self.records)
        if len(touched) > 1:
            # In the order of the records, as all that is told of them.
            touched = [id_ for id_ in self._roster.pairs if id_ in self.records]
        was = {id_: self._roster.pairs[id_] for id_ in touched}
        changes = Changes(
            workloads=tuple(self.records[id_] for id_ in touched if self.records[id_] != was[id_][0]),
            tasks=tuple(
                task
                for id_ in touched
                for task, old in zip(self.tasks[id_], was[id_][1], strict=True)
                if task != old
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
