"""What happened, and what happens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from gpumax.apps.server import shapes, views
from gpumax.apps.server.parameters import AfterSeq, LastEventId, refusals
from gpumax.apps.server.routes.workloads import find
from gpumax.apps.server.site import Here, Site
from gpumax.apps.server.sse import COMMENT, TYPE, Silence, message, resumed, stream

router = APIRouter(tags=["events"])

_AT_ONCE = 500

Of = Annotated[str, Query(description="Of this workload only.", max_length=253)]


@router.get("/events", summary="List events", operation_id="listEvents", responses=refusals(404))
def list_events(
    site: Here,
    workload: Of = "",
    after: AfterSeq = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="Rows at most.")] = 100,
    newest: Annotated[bool, Query(description="The last ones instead of the first ones.")] = False,
) -> shapes.Events:
    """Events behind `after`, oldest first. Of a workload that is deleted, too, as long as they are kept."""
    found = site.store.events(after=after, workload=workload, limit=limit, newest=newest)
    if workload and not found and not site.store.events(workload=workload, limit=1):
        find(site, workload)
    items = [views.event(event) for event in found]
    return shapes.Events(items=items, next=items[-1].seq if items else after)


@router.get(
    "/watch",
    summary="Watch events as they happen",
    operation_id="watch",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events: `data` is an event as in the list, `id` its seq.",
            "content": {TYPE: {"schema": {"type": "string"}}},
        },
        **refusals(),
    },
)
async def watch(
    site: Here,
    after: Annotated[int | None, AfterSeq.__metadata__[0]] = None,
    workload: Of = "",
    last_event_id: LastEventId = None,
) -> Response:
    """From behind `after` on; unset: from now on."""
    if after is None and last_event_id is None:
        newest = await run_in_threadpool(site.store.events, limit=1, newest=True)
        after = newest[-1].seq if newest else 0
    return stream(_messages(site, resumed(last_event_id, after or 0), workload))


async def _messages(site: Site, after: int, workload: str) -> AsyncIterator[bytes]:
    yield COMMENT
    silence = Silence()
    while not site.feed.closed:
        # The count first: what is committed while the events are read is not missed.
        count = site.feed.count
        found = await run_in_threadpool(site.store.events, after=after, workload=workload, limit=_AT_ONCE)
        for event in found:
            after = event.seq
            yield message(views.event(event).model_dump_json().encode(), id=after)
            silence.end()
        if not silence.left_s():
            yield COMMENT
            silence.end()
        if len(found) < _AT_ONCE:
            await site.feed.wait(count, silence.left_s())
