"""Stop, suspend, resume, delete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from gpumax.apps.kubernetes.look import show
from gpumax.apps.kubernetes.request import Item, Request
from gpumax.apps.kubernetes.site import Site
from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.client.connection import Request as Call
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.client.views import View
from gpumax.engines.kubernetes.work.job_sets import JOB_SETS, jobs_of
from gpumax.engines.kubernetes.work.records import Work, name_of, read
from gpumax.engines.kubernetes.work.views import JOBS
from gpumax.errors import Refused
from gpumax.model.records import Wish
from gpumax.ports.store_rules import wished

_WISHES: Final[dict[str, tuple[Wish, bool]]] = {
    "stop": ("stop", True),
    "suspend": ("suspend", True),
    "resume": ("run", False),
}


async def act(site: Site, request: Request) -> Item:
    """Make Jobs suspended or not; of one that is stopped that is never undone. Conflict where it is over already."""
    name, verb = request.words
    work = _ours(await site.work(name), verb)
    wish, suspend = _WISHES[verb]
    wished(read(work)[0], name, wish)
    told = {keys.WISH: "stop" if wish == "stop" else None}
    patch: dict[str, Any] = {"metadata": {"annotations": told}, "spec": {"suspend": suspend}}
    if work.made is not None:
        made = await site.api.patch(JOB_SETS, work.made.metadata.name, patch, site.namespace)
        return show(site, work._replace(jobs=tuple(jobs_of(made, work.jobs)), made=made))
    jobs = [await site.api.patch(JOBS, job.metadata.name, patch, site.namespace) for job in work.jobs]
    return show(site, work._replace(jobs=tuple(jobs)))


async def delete(site: Site, request: Request) -> Item:
    """Its Jobs, and with the first of them all that was made for it. The answer is the workload as it was."""
    work = _ours(await site.work(request.words[0]), "delete")
    await forget(site, work)
    return show(site, work)


def _ours(work: Work, verb: str) -> Work:
    """The workload, if Jobs make its pods, or a set that we made: of other kinds nobody but their makers know what that means."""
    if not work.ours:
        name = name_of(work.jobs[0])
        raise Refused(
            f"{name} is a {work.kind}; gpumax can {verb} Jobs alone, so do that to the {work.kind} with kubectl"
        )
    return work


async def forget(site: Site, work: Work) -> None:
    """Delete all of a workload. One that is gone by now is no trouble."""
    with _gone_by_now():
        if work.made is not None:
            await delete_this(site, JOB_SETS, work.made)
            return
    for job in reversed(work.jobs):
        with _gone_by_now():
            await delete_this(site, JOBS, job)


@contextmanager
def _gone_by_now() -> Iterator[None]:
    try:
        yield
    except ApiRefused as error:
        if error.code != 404:
            raise


async def delete_this(site: Site, kind: Kind[Any], one: View) -> None:
    """This very object, with what it owns: without a word about them a Job's pods would stay."""
    body = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Background",
        "preconditions": {"uid": one.metadata.uid},
    }
    path = kind.path(site.namespace, one.metadata.name)
    await site.api.write(Call("DELETE", path, body=msgspec.json.encode(body)))
