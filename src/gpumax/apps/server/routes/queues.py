"""The quota tree."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from gpumax.apps.server import cluster, shapes
from gpumax.apps.server.parameters import QueueName, refusals
from gpumax.apps.server.routes.workloads import read_body
from gpumax.apps.server.site import Here, Site
from gpumax.errors import BadFile, Fault, NotFound
from gpumax.formats.text import parse_text
from gpumax.formats.workload import load_workloads
from gpumax.model.queue import Queue

router = APIRouter(prefix="/queues", tags=["queues"])

_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "A queue as `gpumax schema queue` describes it, without its name.",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "application/yaml": {"schema": {"type": "string"}},
        },
    }
}


@router.get("", summary="List queues", operation_id="listQueues", responses=refusals())
def list_queues(site: Here) -> shapes.Queues:
    """All queues by name, with what each may hold now, holds and wants."""
    return shapes.Queues(items=_queues(site))


@router.get("/{name}", summary="Show a queue", operation_id="getQueue", responses=refusals(404))
def get_queue(site: Here, name: QueueName) -> shapes.QueueOut:
    """One queue."""
    return _queue(site, name)


@router.put(
    "/{name}", summary="Create or replace a queue", operation_id="setQueue",
    responses=refusals(409, 413), openapi_extra=_BODY,
)  # fmt: skip
async def put_queue(request: Request, site: Here, name: QueueName) -> shapes.QueueOut:
    """What the body leaves out gets its default, not what it was."""
    body = await read_body(request)
    return await run_in_threadpool(_set, site, name, body)


@router.delete("/{name}", summary="Delete a queue", operation_id="deleteQueue", responses=refusals(404, 409))
def delete_queue(site: Here, name: QueueName) -> shapes.QueueOut:
    """One that has no queues below it and no unfinished work. The answer is the queue as it was."""
    old = _queue(site, name)
    site.store.delete_queue(name, now_ms=site.clock.now_ms())
    site.settle()
    return old


def _set(site: Site, name: str, body: bytes) -> shapes.QueueOut:
    site.store.set_queue(_read(site, name, body), now_ms=site.clock.now_ms())
    site.settle()
    return _queue(site, name)


def _read(site: Site, name: str, body: bytes) -> Queue:
    """The queue of a body, checked as one in a workload file is. BadFile with every fault."""
    documents = parse_text(body)
    parsed = documents[0]
    fields = parsed.document
    if len(documents) > 1 or not isinstance(fields, dict):
        raise BadFile([Fault("", None, "something else", "one queue, as an object")])
    if fields.get("name", name) != name or fields.get("kind", "queue") != "queue":
        raise BadFile([Fault("", None, "another name or kind", f"the queue {name!r}; leave out both")])
    whole = parsed._replace(document={**fields, "name": name, "kind": "queue"})
    queues, _ = load_workloads([whole], base="/", queues=site.store.queues(), default_project="")
    return queues[0]


def _queues(site: Site) -> list[shapes.QueueOut]:
    shares = site.seen().decision.shares
    live = site.store.live()
    return cluster.queues(live.queues, shares, cluster.counts(live))


def _queue(site: Site, name: str) -> shapes.QueueOut:
    found = next((queue for queue in _queues(site) if queue.name == name), None)
    if found is None:
        raise NotFound(f"no queue named {name!r}")
    return found
