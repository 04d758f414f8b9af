"""Owners of pods: who is asked for, and how often."""

from __future__ import annotations

import asyncio
from threading import RLock
from typing import Any

from engines.kubernetes.stub import Json, Talk, api_of, bookmark, event, says, story, stub
from gpumax.engines.kubernetes.assembly import Assembly
from gpumax.engines.kubernetes.client.informer import Informer
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.feed import Feed
from gpumax.engines.kubernetes.grouping.kinds import KINDS
from gpumax.engines.kubernetes.owners import Owners
from gpumax.model.snapshot import Policy
from manifests import NOW_MS, as_pod, pod

JOBS = "/apis/batch/v1"
MANY = 50


def job(number: int) -> Json:
    """A Job of one pod."""
    name = f"j{number}"
    meta = {"name": name, "namespace": "ml", "uid": f"uid-{name}", "resourceVersion": str(number + 1)}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": {"parallelism": 1}}


async def jobs_there(talk: Talk) -> None:
    """All of them, as a streamed list."""
    await talk.begin()
    await talk.lines(*(event("ADDED", job(number)) for number in range(MANY)), bookmark(100, ends_list=True))
    await talk.for_ever()


@story
async def test_thousands_of_owners_are_listed_and_not_asked_for_one_by_one() -> None:
    """The first of a kind is asked for; with it the kind is followed, and its list brings the others."""
    async with stub() as served, api_of(served) as api:
        kind = {"name": "jobs", "kind": "Job", "namespaced": True, "verbs": ["watch"]}
        served.plays(JOBS, says(200, {"resources": [kind]}))
        served.plays(f"{JOBS}/jobs", jobs_there)
        for number in range(MANY):
            served.plays(f"{JOBS}/namespaces/ml/jobs/j{number}", says(200, job(number)))
        assembly, tasks = Assembly(), []
        feed = Feed(assembly, RLock(), lambda: None)

        def follow(kind: Kind[Any], handle: Any) -> Informer[Any]:
            informer: Informer[Any] = Informer(api, kind)
            informer.cache.on_change(handle)
            tasks.append(asyncio.create_task(informer.run()))
            return informer

        owners = Owners(api, KINDS, feed, follow)
        see_pods(assembly)
        tasks.append(asyncio.create_task(owners.run()))
        owners.wake()
        async with asyncio.timeout(20):
            while assembly.missing:
                await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(asked.path.startswith(f"{JOBS}/namespaces/") for asked in served.asked) == 1
    assert len(assembly.snapshot(NOW_MS, Policy()).workloads) == MANY


def see_pods(assembly: Assembly) -> None:
    """A pod of each Job."""
    for number in range(MANY):
        assembly.see_pod(f"ml/p{number}", as_pod(pod(f"p{number}", owner=job(number), gpu=1)))
    assert len(assembly.missing) == MANY
