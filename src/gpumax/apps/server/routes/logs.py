"""What tasks print."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from gpumax.apps.server.logs import follow_log, log_path, read_log, tail_offset
from gpumax.apps.server.parameters import LastEventId, Name, refusals
from gpumax.apps.server.routes.workloads import find
from gpumax.apps.server.site import Here
from gpumax.apps.server.sse import MOST_ID, TYPE, resumed, stream
from gpumax.errors import NotFound
from gpumax.model.records import FINISHED

router = APIRouter(prefix="/workloads", tags=["workloads"])


@router.get(
    "/{name}/tasks/{index}/log",
    summary="Read or follow a task's log",
    operation_id="getLog",
    response_class=Response,
    responses={
        200: {
            "description": "The log as it is; with follow its pieces as they come: `data` is JSON text, `id` the byte behind "
            "it, and the event `end` comes when the workload is finished and all was sent.",
            "content": {"text/plain": {"schema": {"type": "string"}}, TYPE: {"schema": {"type": "string"}}},
        },
        **refusals(404),
    },
)  # fmt: skip
async def get_log(
    site: Here,
    name: Name,
    index: Annotated[int, Path(ge=0, le=MOST_ID, description="The task's rank.")],
    tail: Annotated[int | None, Query(ge=0, le=MOST_ID, description="Begin with the last so many lines.")] = None,
    follow: Annotated[bool, Query(description="Go on until the workload is finished.")] = False,
    last_event_id: LastEventId = None,
) -> Response:  # fmt: skip
    """Empty where the task has printed nothing yet."""
    record, tasks = await run_in_threadpool(find, site, name)
    if index >= len(tasks):
        raise NotFound(f"{name} has no task {index}; wanted one of 0 to {len(tasks) - 1}")
    path = log_path(site.about.data, record.id, index)
    if not follow:
        return StreamingResponse(read_log(path, tail), media_type="text/plain; charset=utf-8")

    def how_it_ended() -> str | None:
        found = site.store.find(name)
        if found is None or found[0].id != record.id:
            return "deleted"
        return found[0].state if found[0].state in FINISHED else None

    async def state() -> str | None:
        return await run_in_threadpool(how_it_ended)

    begin = resumed(last_event_id, await run_in_threadpool(tail_offset, path, tail))
    return stream(follow_log(path, begin, site.feed, state))
