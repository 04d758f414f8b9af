"""What tasks print: as it is, or as it comes, over all attempts until the workload is finished."""

from __future__ import annotations

import asyncio
import codecs
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final

from gpumax.apps.kubernetes.request import Request
from gpumax.apps.kubernetes.site import Site
from gpumax.engines.kubernetes.client.connection import Request as Call
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.documents import at
from gpumax.engines.kubernetes.work.records import Work, current, read, size_of
from gpumax.engines.kubernetes.work.views import PODS, Job, SeenPod
from gpumax.errors import NotFound
from gpumax.model.records import FINISHED

LOOK_S: Final = 1.0
"""How often it is looked whether a task has begun, or its workload is finished."""
SILENCE_S: Final = 3600.0
"""A task may print nothing for long."""
QUIET_S: Final = 2.0
"""After so long without a word it is looked whether the task still runs."""
_PRINTS: Final = frozenset(("Running", "Succeeded", "Failed"))


async def get_log(site: Site, request: Request) -> AsyncIterator[bytes]:
    """The log of a task. Empty where it has printed nothing yet; with `follow` as server-sent events."""
    name, rank = request.words[0], int(request.words[1])
    tail = request.text("tail")
    if request.text("follow") not in ("", "0"):
        async for piece in _followed(site, name, rank, tail):
            yield piece
        return
    pod, job = task_pod(await site.work(name), rank)
    if pod is not None:
        async for piece in _printed(site, job, pod, {"tailLines": tail}):
            yield piece


def task_pod(work: Work, rank: int) -> tuple[SeenPod | None, Job]:
    """The pod of a task, None where it has none now; and its Job. NotFound where there is no such task."""
    index = rank
    for job in work.jobs:
        if 0 <= index < size_of(job):
            return current(job, work.pods).get(index), job
        index -= size_of(job)
    name, count = read(work)[0].name, sum(size_of(job) for job in work.jobs)
    raise NotFound(f"{name} has no task {rank}; wanted one of 0 to {count - 1}")


async def _printed(site: Site, job: Job, pod: SeenPod, query: dict[str, str]) -> AsyncGenerator[bytes]:
    """What the task's container has printed; nothing where it hasn't begun or its node has forgotten it."""
    if pod.status.phase not in _PRINTS:
        return
    container = str(at(job.spec, "template", "spec", "containers", 0, "name") or "")
    path = PODS.path(site.namespace, pod.metadata.name, "log")
    call = Call("GET", path, {"container": container, **query})
    try:
        async with site.api.connection.stream(call, SILENCE_S) as pieces:
            async for piece in pieces:
                yield piece
    except ApiRefused as error:
        if error.code not in (400, 404):
            raise


async def _followed(site: Site, name: str, rank: int, tail: str) -> AsyncIterator[bytes]:
    """Attempt after attempt; the last event says how the workload ended."""
    heard, run = "", ""
    while True:
        try:
            work = await site.recent(name)
        except NotFound:
            if not run:
                raise
            yield _event({"state": "deleted"}, "end")
            return
        record, _ = read(work)
        pod, job = task_pod(work, rank)
        if run and record.id != run:
            yield _event({"state": "deleted"}, "end")
            return
        run = record.id
        if pod is not None and pod.metadata.uid != heard and pod.status.phase in _PRINTS:
            # Lines are counted back from the end of what was there when we came; later attempts are new as a whole.
            query = {"follow": "true", "tailLines": tail if not heard else ""}
            heard = pod.metadata.uid
            alive = partial(_lives, site, name, rank, heard)
            async for piece in _as_events(_while(alive, _printed(site, job, pod, query))):
                yield piece
            continue
        if record.state in FINISHED:
            yield _event({"state": record.state}, "end")
            return
        await asyncio.sleep(LOOK_S)


async def _lives(site: Site, name: str, rank: int, uid: str) -> bool:
    """Whether the pod of this attempt still runs."""
    try:
        pod, _ = task_pod(await site.recent(name), rank)
    except NotFound:
        return False
    return pod is not None and pod.metadata.uid == uid and pod.status.phase == "Running"


async def _while(alive: Callable[[], Awaitable[bool]], pieces: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    """The pieces, until they end, or nothing came for a while and whoever they are of is gone: a lost node never ends its logs."""
    following = asyncio.ensure_future(anext(pieces, b""))
    try:
        while True:
            await asyncio.wait({following}, timeout=QUIET_S)
            if following.done():
                if not (piece := following.result()):
                    return
                yield piece
                following = asyncio.ensure_future(anext(pieces, b""))
            elif not await alive():
                return
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await pieces.aclose()


async def _as_events(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    async for piece in pieces:
        if text := decoder.decode(piece):
            yield _event(text)
    if text := decoder.decode(b"", final=True):
        yield _event(text)


def _event(data: object, kind: str = "") -> bytes:
    head = f"event: {kind}\n" if kind else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()
