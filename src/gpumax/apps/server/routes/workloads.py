"""Submit, look, act."""

from __future__ import annotations

import os.path
from typing import Annotated, Any, Final, get_args

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from gpumax.apps.server.errors import TooLarge
from gpumax.apps.server.parameters import After, Limit, Name, refusals
from gpumax.apps.server.shapes import Fates, Why, WorkloadDetail, Workloads
from gpumax.apps.server.site import Here, Site
from gpumax.apps.server.submit import PROJECT, Submission, imagine, submit
from gpumax.apps.server.views import detail, workload
from gpumax.apps.server.why import why
from gpumax.errors import BadFile, Fault, NotFound
from gpumax.model.node import Node
from gpumax.model.records import TaskRecord, Wish, WorkloadRecord, WorkloadState

router = APIRouter(prefix="/workloads", tags=["workloads"])

MOST_BYTES: Final = 16 << 20
"""The largest body."""

_FILE: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "A workload file, as `gpumax schema workload` describes it: workloads and queues, in several "
        "documents or a list.",
        "content": {
            "application/yaml": {"schema": {"type": "string"}},
            "application/json": {"schema": {"type": ["object", "array"]}},
        },
    }
}


def _nodes(site: Site) -> tuple[Node, ...]:
    seen = site.loop.last
    return () if seen is None else seen.snapshot.nodes


def find(site: Site, name: str) -> tuple[WorkloadRecord, tuple[TaskRecord, ...]]:
    """A workload with its tasks. NotFound."""
    found = site.store.find(name)
    if found is None:
        raise NotFound(f"no workload named {name!r}")
    return found


@router.get("", summary="List workloads, newest first", operation_id="listWorkloads", responses=refusals())
def list_workloads(
    site: Here,
    state: Annotated[str, Query(description="States to list, with commas between; unset: all.")] = "",
    project: Annotated[str, Query(description="Of this project only.", max_length=253)] = "",
    limit: Limit = 100,
    after: After = "",
) -> Workloads:
    """A page of workloads, finished ones too."""
    records, cursor = site.store.page(states=_states(state), project=project, after=after, limit=limit)
    tasks: dict[str, list[TaskRecord]] = {record.id: [] for record in records}
    for task in site.store.tasks_of(tasks):
        tasks[task.workload_id].append(task)
    nodes, now_ms = _nodes(site), site.clock.now_ms()
    items = [workload(record, tasks[record.id], nodes, now_ms) for record in records]
    return Workloads(items=items, next=cursor or None)


def _states(written: str) -> list[WorkloadState]:
    known: tuple[WorkloadState, ...] = get_args(WorkloadState)
    words = [word.strip() for word in written.split(",") if word.strip()]
    unknown = [word for word in words if word not in known]
    if unknown:
        raise BadFile([Fault("query.state", None, ", ".join(unknown)[:80], f"some of {', '.join(known)}")])
    return [state for state in known if state in words]


@router.post(
    "",
    summary="Submit a file",
    operation_id="submit",
    status_code=201,
    responses={200: {"model": Fates, "description": "A repeat or a dry run: nothing was made."}, **refusals(409, 413)},
    openapi_extra=_FILE,
)  # fmt: skip
async def post_workloads(
    request: Request,
    response: Response,
    site: Here,
    dry_run: Annotated[bool, Query(description="Change nothing; tell what would happen.")] = False,
    base: Annotated[str, Query(description="Directory that relative paths start from.", max_length=4096)] = "/",
    project: Annotated[str, Query(description="Of workloads that name none.", max_length=253)] = PROJECT,
    source: Annotated[
        str,
        Query(
            description="The file's name, for messages and names; with it, what is there already just as the file says stays as it is.",
            max_length=4096,
        ),
    ] = "",
    idempotency_key: Annotated[
        str, Header(description="The same key again repeats nothing.", max_length=200)
    ] = "",
) -> Fates:  # fmt: skip
    """All of the file is recorded, or nothing. The answer waits for the cycle that saw it, two seconds at most."""
    if not os.path.isabs(base):
        raise BadFile([Fault("query.base", None, repr(base)[:80], "an absolute path")])
    submission = Submission(await read_body(request), base, project or PROJECT, source, idempotency_key)
    fates = await run_in_threadpool(imagine if dry_run else submit, site, submission)
    response.status_code = 201 if not dry_run and any(fate.created for fate in fates) else 200
    return Fates(items=fates)


async def read_body(request: Request) -> bytes:
    """The body of a request. TooLarge."""
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > MOST_BYTES:
            raise TooLarge(f"the body is larger than {MOST_BYTES >> 20} MiB; submit it in parts")
        pieces.append(piece)
    return b"".join(pieces)


@router.get("/{name}", summary="Show a workload", operation_id="getWorkload", responses=refusals(404))
def get_workload(site: Here, name: Name) -> WorkloadDetail:
    """One workload with its tasks and what was asked for."""
    record, tasks = find(site, name)
    return detail(record, tasks, _nodes(site), site.clock.now_ms(), site.about.data)


@router.get(
    "/{name}/why", summary="Say why a workload is where it is", operation_id="why", responses=refusals(404)
)
def get_why(site: Here, name: Name) -> Why:
    """Why it waits, runs, was evicted or ended, in sentences."""
    return why(site, name)


@router.post(
    "/{name}/stop", summary="End a workload for good", operation_id="stop", responses=refusals(404, 409)
)
def stop(site: Here, name: Name) -> WorkloadDetail:
    """SIGTERM to its tasks, SIGKILL after their grace; it stays on record."""
    return _wish(site, name, "stop")


@router.post(
    "/{name}/suspend", summary="Take a workload off its GPUs", operation_id="suspend", responses=refusals(404, 409)
)  # fmt: skip
def suspend(site: Here, name: Name) -> WorkloadDetail:
    """Until it is resumed; checkpoints are kept."""
    return _wish(site, name, "suspend")


@router.post(
    "/{name}/resume", summary="Let a workload run again", operation_id="resume", responses=refusals(404, 409)
)
def resume(site: Here, name: Name) -> WorkloadDetail:
    """As soon as there is room."""
    return _wish(site, name, "run")


@router.delete(
    "/{name}", summary="Stop and forget a workload", operation_id="deleteWorkload", responses=refusals(404)
)
def delete(site: Here, name: Name) -> WorkloadDetail:
    """With its logs, and its checkpoints in the data directory. It is there until its tasks have ended."""
    return _wish(site, name, "delete")


def _wish(site: Site, name: str, wish: Wish) -> WorkloadDetail:
    _, before = find(site, name)
    now_ms = site.clock.now_ms()
    wished = site.store.wish(name, wish, now_ms=now_ms)
    site.settle()
    found = site.store.find(name)
    # What was deleted is shown as it was; by now the name may even be another's.
    record, tasks = found if found is not None and found[0].id == wished.id else (wished, before)
    return detail(record, tasks, _nodes(site), now_ms, site.about.data)
