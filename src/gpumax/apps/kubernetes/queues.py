"""The quota tree: objects that belong to the whole cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from gpumax.apps.kubernetes.request import Item, Request, out
from gpumax.apps.kubernetes.site import Site
from gpumax.apps.server import cluster, shapes
from gpumax.apps.server.shapes import Fate
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.documents import at, number
from gpumax.engines.kubernetes.kinds import QUEUES, document
from gpumax.engines.kubernetes.queues import read_queue
from gpumax.engines.kubernetes.work.queues import queue_body, replaced, unhonoured
from gpumax.errors import BadFile, Denied, Fault, NotFound, Refused
from gpumax.formats.parsed import Parsed
from gpumax.formats.scalars import Amount, write_amount
from gpumax.formats.shape import Bad
from gpumax.formats.text import parse_text
from gpumax.formats.workload import load_workloads
from gpumax.model.amounts import RESOURCES, Resource
from gpumax.model.queue import Queue
from gpumax.model.workload import ACTIVE
from gpumax.ports.store_rules import refuse_queue_deletion, set_queues
from gpumax.units import UNLIMITED

MANAGER = "gpumax"


async def known_queues(site: Site) -> list[Queue] | None:
    """All queues; None where they may not be listed. Refused where the cluster has no such kind."""
    try:
        listed = await site.api.list(QUEUES)
    except ApiRefused as error:
        if error.code == 403:
            return None
        if error.code == 404:
            raise Refused(
                f"cluster {site.api.access.name} has no queues: gpumax isn't installed there; "
                "`gpumax up --kubernetes --install` adds its kinds of objects"
            ) from None
        raise
    reads = [read_queue(document(QUEUES, one)) for one in listed.items]
    return [read.queue for read in reads if read.queue is not None]


async def list_queues(site: Site, _: Request) -> Item:
    """All queues by name, with what each may hold now, holds and wants."""
    return out(shapes.Queues(items=await _all(site)))


async def get_queue(site: Site, request: Request) -> Item:
    """One queue."""
    return out(await _one(site, request.words[0]))


async def put_queue(site: Site, request: Request) -> Item:
    """Create or replace a queue; what the body leaves out gets its default."""
    name = request.words[0]
    known = await _needed(site)
    queue = _read(name, request.body, known)
    await write_queue(site, queue, dry=False, known=known)
    return out(await _one(site, name))


async def delete_queue(site: Site, request: Request) -> Item:
    """One that has no queues below it and no unfinished work, as far as work may be seen."""
    name = request.words[0]
    known = {queue.name: queue for queue in await _needed(site)}
    if name not in known:
        raise NotFound(f"no queue named {name!r} in cluster {site.api.access.name}")
    unfinished: list[str] = []
    try:
        seen = await site.seen()
        unfinished = [row.name for row in seen.snapshot.workloads if row.queue == name]
    except Denied:
        pass
    refuse_queue_deletion(known, name, unfinished)
    before = await _one(site, name)
    await site.api.delete(QUEUES, name)
    return out(before)


async def write_queue(site: Site, queue: Queue, *, dry: bool, known: Sequence[Queue] | None = None) -> Fate:
    """Make or set a queue. BadFile where an object can't say it; Conflict where its parents aren't there."""
    more = unhonoured(queue)
    if more:
        raise BadFile(
            [
                Fault(
                    more[0],
                    None,
                    f"{more[0]} of queue {queue.name}",
                    "settings that queues of a cluster have",
                )
            ]
        )
    known = known if known is not None else await known_queues(site) or []
    tree = {one.name: one for one in known}
    changed, _ = set_queues(tree, [queue], site.now_ms())
    if not dry and changed:
        body = queue_body(queue)
        try:
            await site.api.create(QUEUES, {"apiVersion": QUEUES.api_version, "kind": QUEUES.name, **body})
        except ApiRefused as error:
            if error.code != 409:
                raise
            await site.api.patch(QUEUES, queue.name, replaced(queue))
    return Fate(
        kind="queue", name=queue.name, created=bool(changed), state=None, hold=None, reason="", places=[], evictions=[]
    )  # fmt: skip


async def _needed(site: Site) -> list[Queue]:
    known = await known_queues(site)
    if known is None:
        raise Denied(
            f"queues of cluster {site.api.access.name} may not be listed by you; ask for the right to `list queues.gpumax.dev`"
        )
    return known


async def _all(site: Site) -> list[shapes.QueueOut]:
    """With shares as they follow from the whole cluster; as the scheduler wrote them where that may not be seen."""
    known = await _needed(site)
    try:
        seen = await site.seen()
    except Denied:
        return await _as_written(site, known)
    counts: Counter[tuple[str, str]] = Counter()
    for row in seen.snapshot.workloads:
        runs = any(task.state in ACTIVE for task in row.tasks)
        counts[row.queue, "running" if runs else "pending"] += 1
    return cluster.queues(known, seen.decision.shares, counts)


async def _as_written(site: Site, known: Sequence[Queue]) -> list[shapes.QueueOut]:
    """With what the scheduler wrote of each into its status, where it has."""
    status = {one.metadata.name: one.status for one in (await site.api.list(QUEUES)).items}
    return [
        row.model_copy(
            update={
                "shares": list(_shares(row, status.get(row.name))),
                "waiting": number(status.get(row.name), "waiting", "workloads", unset=0),
            }
        )
        for row in cluster.queues(known, (), {})
    ]


def _shares(row: shapes.QueueOut, status: object) -> Iterator[shapes.QueueShare]:
    for resource in RESOURCES if at(status, "share") else ():
        share, allocated, waits = (
            _amount(status, part, resource) for part in ("share", "allocated", "waiting")
        )
        demand = UNLIMITED if waits == UNLIMITED else allocated + waits
        yield shapes.QueueShare(
            resource=resource,
            quota=getattr(row.quota, resource),
            share=write_amount(resource, share),
            allocated=write_amount(resource, allocated),
            demand=write_amount(resource, demand),
        )


def _amount(status: object, part: str, resource: Resource) -> int:
    """An amount of a status; 0 where nothing that is one is written there."""
    try:
        return Amount(resource, "down", unlimited=True).read(at(status, part, resource))
    except Bad:
        return 0


async def _one(site: Site, name: str) -> shapes.QueueOut:
    found = next((queue for queue in await _all(site) if queue.name == name), None)
    if found is None:
        raise NotFound(f"no queue named {name!r} in cluster {site.api.access.name}")
    return found


def _read(name: str, body: object, known: Sequence[Queue]) -> Queue:
    """The queue of a body, checked as one in a workload file is. BadFile with every fault."""
    parsed = parse_text(body)[0] if isinstance(body, bytes) else Parsed(body, lambda _path: None)
    if not isinstance(parsed.document, dict):
        raise BadFile([Fault("", None, "something else", "one queue, as an object")])
    whole = parsed._replace(document={**parsed.document, "name": name, "kind": "queue"})
    queues, _ = load_workloads([whole], base="/", queues=known, default_project="")
    return queues[0]
