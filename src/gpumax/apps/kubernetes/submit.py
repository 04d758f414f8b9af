"""A file, from bytes to objects of the cluster: every fault at once, then all of it or nothing."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from typing import Final, Literal

from gpumax.apps.kubernetes.create import New, dry_run, make, prepare
from gpumax.apps.kubernetes.queues import known_queues, write_queue
from gpumax.apps.kubernetes.request import Item, Request, out
from gpumax.apps.kubernetes.site import Site, confined
from gpumax.apps.server.again import again
from gpumax.apps.server.naming import with_names
from gpumax.apps.server.shapes import Fate, Fates, PlaceOut
from gpumax.apps.server.views import devices, hold, reason_of
from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.settings import DEFAULT_QUEUE
from gpumax.engines.kubernetes.work.manifest import Ground
from gpumax.engines.kubernetes.work.records import Work, name_of, read
from gpumax.engines.kubernetes.work.unfit import unfit
from gpumax.errors import BadFile, Fault
from gpumax.formats.parsed import Parsed
from gpumax.formats.text import parse_text
from gpumax.formats.workload import load_workloads
from gpumax.model.queue import Queue
from gpumax.model.spec import WorkloadSpec
from gpumax.model.workload import HOLDING
from gpumax.ports.store_rules import refuse_names

PATIENCE_S: Final = 4.0
"""How long an answer waits for the scheduler to have said something."""
CODE_S: Final = 1.0
"""How long it waits for the code where the reason is known."""
LOOK_S: Final = 0.25
_RESTRICTED: Final = re.compile('violates PodSecurity "restricted[:"]')


async def submit(site: Site, request: Request) -> Item:
    """Make all of a file, or tell what would come of it. What was applied before, and is the same, is left as it is."""
    source = request.text("source")
    parsed = _parsed(request, source)
    before = {name_of(work.jobs[0]): work for work in await site.works()}
    if not before:
        await site.need_namespace()
    named, _ = with_names(parsed, before.__contains__)
    queues, specs = await _load(site, named, request)
    around = await site.around(specs)
    news = await _prepare(site, named, specs, source, around)
    stay = _again(news, before, may=bool(source))
    wanted = [new for new in news if new.name not in stay]
    try:
        pods = await dry_run(site, wanted)
    except ApiRefused as error:
        if around.confined is not None or not _RESTRICTED.search(error.message):
            raise
        # What holds for the whole cluster stands on no namespace.
        around = around._replace(confined=confined(await site.space()))
        news = await _prepare(site, named, specs, source, around)
        wanted = [new for new in news if new.name not in stay]
        pods = await dry_run(site, wanted)
    if request.text("dry_run") == "1":
        from gpumax.apps.kubernetes.imagine import imagine

        fates = [await write_queue(site, queue, dry=True) for queue in queues]
        kept = [_fate(new, before[new.name], stay) for new in news if new.name in stay]
        return out(Fates(items=[*fates, *kept, *await imagine(site, wanted, pods, queues)]))
    fates = [await write_queue(site, queue, dry=False) for queue in queues]
    await make(site, wanted)
    works = await _settled(site, [new.name for new in news])
    return out(Fates(items=[*fates, *(_fate(new, works.get(new.name), stay) for new in news)]))


def _parsed(request: Request, source: str) -> list[Parsed]:
    body = request.body
    if isinstance(body, bytes):
        return parse_text(body, source)
    return [Parsed(body, lambda _path: None, source)]


async def _load(
    site: Site, named: Sequence[Parsed], request: Request
) -> tuple[tuple[Queue, ...], tuple[WorkloadSpec, ...]]:
    """The queues and workloads of the file. Where queues may not be listed, those that it names are taken to be there."""
    default = request.text("project") or await site.default_queue() or DEFAULT_QUEUE
    known = await known_queues(site)
    if known is None:
        projects = {one.get("project") for _, one in _workloads(named)}
        known = [Queue(name) for name in sorted({default, *(p for p in projects if isinstance(p, str))})]
    queues, specs = load_workloads(
        named, base=request.text("base") or "/", queues=known, default_project=default
    )
    if not queues and not specs:
        raise BadFile([Fault("", None, "nothing to submit", "a workload or a queue")], request.text("source"))
    return queues, specs


def _workloads(named: Sequence[Parsed]) -> list[tuple[tuple[Parsed, str], dict[str, object]]]:
    """The workloads of a file in their order, each with where it stands: the document, and the path in it."""
    found = []
    for one in named:
        listed = isinstance(one.document, list)
        for index, part in enumerate(one.document if isinstance(one.document, list) else [one.document]):
            if isinstance(part, dict) and part.get("kind") != "queue":
                found.append(((one, f"[{index}]." if listed else ""), part))
    return found


async def _prepare(
    site: Site, named: Sequence[Parsed], specs: Sequence[WorkloadSpec], source: str, around: Ground
) -> list[New]:
    """The objects of each workload. BadFile with all that a cluster can't honour."""
    faults: list[Fault] = []
    for ((one, head), _), spec in zip(_workloads(named), specs, strict=True):
        for fault in unfit(spec, around):
            path = f"{head}{fault.path}"
            faults.append(fault._replace(path=path, line=one.line_of(path)))
    if faults:
        raise BadFile(faults, source)
    now_ms = site.now_ms()
    return [await asyncio.to_thread(prepare, spec, around, now_ms) for spec in specs]


def _again(news: Sequence[New], before: dict[str, Work], *, may: bool) -> frozenset[str]:
    """Workloads that are there already just as they are wanted. Conflict for all others whose names are taken.

    may: whether submitting something again means to leave it, as applying a file does.
    """
    records = {name: read(work)[0] for name, work in before.items()}
    if not may:
        refuse_names(
            [new.record.spec for new in news], {name: record.state for name, record in records.items()}
        )
        return frozenset()
    digests = {new.name: new.digest for new in news}

    def files(spec: WorkloadSpec) -> tuple[str, ...]:
        was = (before[spec.name].jobs[0].metadata.annotations or {}).get(keys.FILES, "")
        return () if was == digests[spec.name] else ("files",)

    return again([new.record.spec for new in news], records.get, files)


async def _settled(site: Site, names: Sequence[str]) -> dict[str, Work]:
    """Workloads as they are once the scheduler has said something of each of these, or after a while.

    Why a pod waits is written on it first; the code of the hold comes with an event, a moment later.
    """
    end_s = time.monotonic() + PATIENCE_S
    while True:
        works = {name_of(work.jobs[0]): work for work in await site.works()}
        said = [_said(works.get(name)) for name in names]
        if "" not in said:
            end_s = min(end_s, time.monotonic() + CODE_S)
        if all(each == "all" for each in said) or time.monotonic() >= end_s:
            return works
        await asyncio.sleep(LOOK_S)


def _said(work: Work | None) -> Literal["", "why", "all"]:
    """How much has been said of a workload."""
    if work is None:
        return ""
    record, tasks = read(work)
    if record.state != "pending" or record.hold is not None:
        return "all"
    return "why" if reason_of(record, tasks) else ""


def _fate(new: New, work: Work | None, stay: frozenset[str]) -> Fate:
    record, tasks = read(work) if work is not None else (new.record, ())
    return Fate(
        kind="workload",
        name=new.name,
        created=new.name not in stay,
        state=record.state,
        hold=hold(record.hold),
        reason=reason_of(record, tasks),
        places=[
            PlaceOut(task=task.name, node=task.node or "", devices=devices(task.devices), after=[])
            for task in tasks
            if task.state in HOLDING
        ],
        evictions=[],
    )
