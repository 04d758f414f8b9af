"""A submitted file, from bytes to what became of each of its items."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from gpumax.apps.server.again import again
from gpumax.apps.server.naming import with_names
from gpumax.apps.server.shapes import EvictionOut, Fate, PlaceOut
from gpumax.apps.server.site import Site
from gpumax.apps.server.views import devices, hold, reason_of
from gpumax.errors import BadFile, Conflict, Fault
from gpumax.formats.parsed import Parsed
from gpumax.formats.text import parse_text
from gpumax.formats.workload import load_workloads
from gpumax.loop.whatif import Imagined
from gpumax.model.decision import Cause, Decision
from gpumax.model.queue import Queue
from gpumax.model.records import Live, TaskRecord, WorkloadRecord
from gpumax.model.spec import WorkloadSpec
from gpumax.model.workload import HOLDING
from gpumax.ports.clock import Clock
from gpumax.ports.store import Store

PROJECT: Final = "default"
"""Of workloads that name none and whose submitter has none; its queue is there from the first start on."""

_TRIES: Final = 5
"""How often a made name is made anew because another submit was quicker."""


class Submission(msgspec.Struct, frozen=True):
    """What came with a request. base: the absolute directory of relative paths; source: what to call the file."""

    body: bytes
    base: str = "/"
    project: str = PROJECT
    source: str = ""
    key: str = ""

    def digest(self) -> str:
        """Equal for equal requests."""
        parts = (self.base.encode(), self.project.encode(), self.source.encode(), self.body)
        return hashlib.sha256(b"".join(b"%d:%s" % (len(part), part) for part in parts)).hexdigest()


class _Read(msgspec.Struct, frozen=True):
    """A file's queues and workloads. made: names that nobody wrote; known: the queues as they are.

    stay: workloads of the file that are there already just as it says.
    """

    queues: tuple[Queue, ...]
    specs: tuple[WorkloadSpec, ...]
    made: frozenset[str]
    known: dict[str, Queue]
    stay: tuple[WorkloadRecord, ...]

    @property
    def new(self) -> tuple[WorkloadSpec, ...]:
        """Workloads that aren't there."""
        there = {record.name for record in self.stay}
        return tuple(spec for spec in self.specs if spec.name not in there)

    def ordered(self, records: Iterable[WorkloadRecord]) -> tuple[WorkloadRecord, ...]:
        """These records and those that stay, as they come in the file; of a request that is sent again made names are others."""
        place = {spec.name: index for index, spec in enumerate(self.specs)}
        found = {record.name: record for record in (*self.stay, *records)}
        return tuple(sorted(found.values(), key=lambda record: place.get(record.name, 0)))


def make_first_queue(store: Store, clock: Clock) -> None:
    """Make the queue that `gpumax run` uses, at the very first start only: whoever deletes it later means it."""
    if not store.queues() and not store.events(limit=1, newest=True):
        store.set_queue(Queue(PROJECT), now_ms=clock.now_ms())


def submit(site: Site, submission: Submission) -> list[Fate]:
    """Record all of a file, or nothing, and wait for the cycle that saw it."""
    parsed = parse_text(submission.body, submission.source)
    now_ms, before = site.clock.now_ms(), frozenset(_going(site.store.live()))
    read, records = _record(site, submission, parsed, now_ms)
    site.settle()
    repeated = any(record.submitted_ms < now_ms for record in records)
    going = [row for row in _going(site.store.live()) if repeated or row not in before]
    fates = [_of_queue(queue, read.known) for queue in read.queues]
    return fates + [_of_workload(site, record, now_ms, going) for record in records]


def _record(
    site: Site, submission: Submission, parsed: Sequence[Parsed], now_ms: int
) -> tuple[_Read, tuple[WorkloadRecord, ...]]:
    for tries_left in reversed(range(_TRIES)):
        # One at a time, or equal commands that are submitted at once would make the same name.
        with site.naming:
            read = _read(site, submission, parsed)
            try:
                records = site.store.submit(
                    read.new,
                    queues=read.queues,
                    key=submission.key,
                    digest=submission.digest(),
                    now_ms=now_ms,
                )
            except Conflict:
                if not tries_left or not any(site.store.find(name) for name in read.made):
                    raise
                # A submit that wrote its name was quicker.
                continue
        return read, read.ordered(records)
    raise AssertionError("the last try has returned or raised")


def imagine(site: Site, submission: Submission) -> list[Fate]:
    """What would become of a file; nothing is changed. Refuses what a submit would refuse."""
    read = _read(site, submission, parse_text(submission.body, submission.source))
    taken = [spec.name for spec in read.new if site.store.find(spec.name) is not None]
    if taken:
        raise Conflict(f"a workload of this name exists: {', '.join(taken)}; choose another name")
    site.seen()
    imagined = site.loop.what_if(read.new, read.queues)
    fates = [_of_queue(queue, read.known) for queue in read.queues]
    now_ms, stay = site.clock.now_ms(), {record.name: record for record in read.stay}
    return fates + [
        _of_workload(site, stay[spec.name], now_ms, ())
        if spec.name in stay
        else _imagined(spec.name, imagined)
        for spec in read.specs
    ]


def _read(site: Site, submission: Submission, parsed: Sequence[Parsed]) -> _Read:
    named, made = with_names(parsed, lambda name: site.store.find(name) is not None)
    known = site.store.queues()
    queues, specs = load_workloads(
        named, base=submission.base, queues=known, default_project=submission.project
    )
    if not queues and not specs:
        raise BadFile([Fault("", None, "nothing to submit", "a workload or a queue")], submission.source)

    def find(name: str) -> WorkloadRecord | None:
        pair = site.store.find(name)
        return None if pair is None else pair[0]

    # A command that is run again is new work; a file that is applied again says what there is to be.
    stay = again(specs, find) if submission.source else frozenset()
    records = tuple(record for name in sorted(stay) if (record := find(name)) is not None)
    return _Read(queues, specs, made, {queue.name: queue for queue in known}, records)


def _of_queue(queue: Queue, known: dict[str, Queue]) -> Fate:
    old = known.get(queue.name)
    as_before = old is not None and old == msgspec.structs.replace(
        queue, created_ms=queue.created_ms or old.created_ms
    )
    return Fate(
        kind="queue",
        name=queue.name,
        created=not as_before,
        state=None,
        hold=None,
        reason="",
        places=[],
        evictions=[],
    )


def _imagined(name: str, imagined: Imagined) -> Fate:
    snapshot, decision, objections = imagined
    tasks = {task.name for workload in snapshot.workloads if workload.name == name for task in workload.tasks}
    held = next((row for row in decision.holds if row.workload == name), None)
    return Fate(
        kind="workload",
        name=name,
        created=False,
        state="pending",
        hold=hold(held),
        reason=objections.get(name, ""),
        places=_decided(tasks, decision),
        evictions=_evictions(name, decision),
    )


def _of_workload(
    site: Site, submitted: WorkloadRecord, now_ms: int, going: Sequence[tuple[str, Cause, str]]
) -> Fate:
    """What the store knows of it now, and what the cycle decided where that is still to be carried out.

    going: who has made way for whom since it was submitted, or does so now.
    """
    found = site.store.find(submitted.name)
    record, tasks = found if found is not None and found[0].id == submitted.id else (submitted, ())
    seen = site.loop.last
    places = _taken(tasks)
    if record.state == "pending" and seen is not None:
        places = places or _decided({task.name for task in tasks}, seen.decision)
    # Work whose room is being freed has its places; that it waits for them is no hold.
    held = None if places and record.state == "pending" else record.hold
    return Fate(
        kind="workload",
        name=record.name,
        created=record.submitted_ms >= now_ms,
        state=record.state,
        hold=hold(held),
        reason=reason_of(record, tasks),
        places=places,
        evictions=[
            EvictionOut(task=task, cause=cause, for_=name)
            for task, cause, name in going
            if name == record.name
        ],
    )


def _taken(tasks: Iterable[TaskRecord]) -> list[PlaceOut]:
    return [
        PlaceOut(task=task.name, node=task.node or "", devices=devices(task.devices), after=[])
        for task in tasks
        if task.state in HOLDING
    ]


def _decided(tasks: set[str], decision: Decision) -> list[PlaceOut]:
    return [
        PlaceOut(task=row.task, node=row.node, devices=devices(row.devices), after=list(row.after))
        for row in decision.places
        if row.task in tasks
    ]


def _evictions(name: str, decision: Decision) -> list[EvictionOut]:
    """Tasks that would go for a workload."""
    return [
        EvictionOut(task=row.task, cause=row.cause, for_=name)
        for row in decision.evictions
        if row.beneficiary == name
    ]


def _going(live: Live) -> list[tuple[str, Cause, str]]:
    """Tasks that make way, or have made it and wait, with the cause and for whom: they know it until they run again.

    The last decision doesn't: it may be a later one than the one that had them evicted.
    """
    return [
        (task.name, task.cause, task.beneficiary)
        for _, tasks in live.workloads
        for task in tasks
        if task.cause is not None and task.state in ("releasing", "pending")
    ]
