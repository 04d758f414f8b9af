"""What happened, as far as the cluster still knows: what its objects say of their past, and what was told of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from gpumax.apps.kubernetes.request import Item, Request, out
from gpumax.apps.kubernetes.site import Site, works
from gpumax.apps.server import shapes
from gpumax.apps.server.views import event
from gpumax.engines.kubernetes.client.errors import ApiRefused, NoAnswer
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.telling import GONE
from gpumax.engines.kubernetes.times import moment_ms
from gpumax.engines.kubernetes.work.records import Work, read
from gpumax.engines.kubernetes.work.views import EVENTS, JOBS, PODS, HappenedEvent
from gpumax.model.decision import HOLD_CODES
from gpumax.model.records import Event, EventKind, TaskRecord

PAUSE_S: Final = 1.0
"""Between two looks at least."""
BLIND_S: Final = 3.0
"""Between two looks where nothing may be watched."""
COMMENT: Final = b": \n\n"
_ENDS: Final[dict[str, EventKind]] = {"Complete": "Succeeded", "Failed": "Failed"}
_COURSE: Final[tuple[EventKind, ...]] = (
    "Submitted", "Warned", "Held", "Placed", "Evicted", "Exited", "Suspended", "Succeeded", "Failed",
)  # fmt: skip


async def list_events(site: Site, request: Request) -> Item:
    """Events behind `after`, oldest first."""
    name, after = request.text("workload"), request.number("after", 0)
    limit = request.number("limit", 100)
    found = [one for one in await _all(site, name) if one.seq > after]
    if not found:
        await (site.work(name) if name else site.need_namespace())
    shown = found[-limit:] if request.text("newest") not in ("", "0") else found[:limit]
    return out(shapes.Events(items=[event(one) for one in shown], next=shown[-1].seq if shown else after))


async def watch(site: Site, request: Request) -> AsyncIterator[bytes]:
    """Events from behind `after` on, as server-sent events."""
    name, after = request.text("workload"), request.number("after", 0)
    yield COMMENT
    known = {_key(one) for one in await _all(site, "") if one.seq <= after}
    async with _changes(site) as changed:
        while True:
            for one in await _all(site, name):
                if _key(one) not in known:
                    known.add(_key(one))
                    yield b"data: " + event(one).model_dump_json().encode() + b"\n\n"
            await changed()
            yield COMMENT


def _key(one: Event) -> tuple[Any, ...]:
    return one.at_ms, one.kind, one.workload, one.task, one.message


@asynccontextmanager
async def _changes(site: Site) -> AsyncIterator[Any]:
    """A function that returns when something has changed in the namespace, and never at once."""
    stirred = asyncio.Event()
    async with AsyncExitStack() as stack:
        tasks = [asyncio.create_task(_follow(site, kind, stirred)) for kind in (PODS, JOBS, EVENTS)]
        for task in tasks:
            stack.callback(task.cancel)

        async def changed() -> None:
            await asyncio.sleep(PAUSE_S)
            await stirred.wait()
            stirred.clear()

        yield changed


async def _follow(site: Site, kind: Kind[Any], stirred: asyncio.Event) -> None:
    while True:
        try:
            async for _ in site.api.watch(kind, site.namespace).events():
                stirred.set()
        except NoAnswer:
            await asyncio.sleep(PAUSE_S)
        except ApiRefused:
            await asyncio.sleep(BLIND_S)
            stirred.set()


async def _all(site: Site, name: str) -> list[Event]:
    """All events, oldest first, numbered by their times."""
    jobs, pods, told, sets = await asyncio.gather(site.all(JOBS), site.all(PODS), site.events(), site.sets())
    found: list[Event] = []
    for work in works(jobs, pods, told, site.scheduler, sets or ()):
        found += _of(work, told)
    found = [one for one in found if name in ("", one.workload)]
    # Most times are whole seconds: within one, what comes first in the course of things came first.
    found.sort(key=lambda one: (one.at_ms // 1000, _COURSE.index(one.kind), _key(one)))
    return _numbered(found)


def _numbered(found: Sequence[Event]) -> list[Event]:
    numbered, last = [], 0
    for one in found:
        last = max(last + 1, one.at_ms * 1000)
        numbered.append(Event(one.at_ms, one.kind, one.message, one.workload, one.task, last))
    return numbered


def _of(work: Work, told: Sequence[HappenedEvent]) -> Iterator[Event]:
    """Of one workload."""
    record, tasks = read(work)
    many = f"{len(tasks)} tasks" if len(tasks) > 1 else "1 task"
    yield Event(record.submitted_ms, "Submitted", f"{many}, submitted to {record.spec.project}", record.name)
    for task in tasks:
        yield from _of_task(record.name, task)
    for job in work.jobs:
        for row in job.status.conditions or ():
            at_ms = moment_ms(row.last_transition_time)
            if row.status == "True" and at_ms is not None and row.type in _ENDS:
                yield Event(at_ms, _ENDS[row.type], row.message or row.reason, record.name)
            elif row.status == "True" and at_ms is not None and row.type == "Suspended":
                yield Event(at_ms, "Suspended", "suspended", record.name)
    by_uid = {task.attempt: task.name for task in tasks if task.attempt}
    names = {pod.metadata.name for pod in work.pods} | {job.metadata.name for job in work.jobs}
    heads = tuple(f"{job.metadata.name}-" for job in work.jobs)
    for one in told:
        own = one.regarding.name
        if own in names or (one.regarding.kind == "Pod" and own.startswith(heads) and own.count("-") >= 2):
            happened = _told(record.name, by_uid.get(one.regarding.uid, ""), one)
            if happened is not None:
                yield happened


def _of_task(name: str, task: TaskRecord) -> Iterator[Event]:
    if task.started_ms is not None:
        yield Event(task.started_ms, "Placed", f"on {task.node}", name, task.name)
    if task.ended_ms is not None:
        said = f"exit code {task.exit_code}" if task.exit_code is not None else task.state
        yield Event(task.ended_ms, "Exited", task.reason or said, name, task.name)


def _told(name: str, task: str, one: HappenedEvent) -> Event | None:
    """What is of interest beside what objects say: holds, evictions, and warnings."""
    at_ms = moment_ms(one.event_time) or moment_ms(one.last_timestamp)
    if at_ms is None:
        return None
    if one.reason in HOLD_CODES:
        return Event(at_ms, "Held", f"{one.reason}: {one.note}", name, task)
    if one.reason in GONE:
        return Event(at_ms, "Evicted", one.note, name, task)
    if one.type == "Warning":
        return Event(at_ms, "Warned", f"{one.reason}: {one.note}", name, task)
    return None
