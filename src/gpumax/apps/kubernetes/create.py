"""Objects of workloads are made: asked about first, then all of them, suspended until the last is there."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from gpumax.apps.kubernetes.act import delete_this
from gpumax.apps.kubernetes.site import Site
from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.client.connection import Request as Call
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.work import manifest
from gpumax.engines.kubernetes.work.container import PORT, ROOT, first_task
from gpumax.engines.kubernetes.work.manifest import Bundle, Item, bundle
from gpumax.engines.kubernetes.work.pack import pack
from gpumax.engines.kubernetes.work.views import PODS
from gpumax.loop.launch import Master, launch
from gpumax.model.records import TaskRecord, WorkloadRecord
from gpumax.model.spec import WorkloadSpec
from gpumax.ports.store_rules import begin

Pods = dict[str, dict[str, Any]]
"""By the name of a Job, metadata and spec of a pod of it."""


class New(NamedTuple):
    """A workload to be made. digest: of the files that it brings along; empty for none."""

    record: WorkloadRecord
    tasks: tuple[TaskRecord, ...]
    objects: Bundle
    digest: str

    @property
    def name(self) -> str:
        """Its name."""
        return self.record.name


def prepare(spec: WorkloadSpec, around: manifest.Ground, now_ms: int) -> New:
    """The objects of a workload. BadFile where its files are too many."""
    # A directory that isn't here is one of the image; nobody means to bring a whole machine along.
    brings = spec.workdir != "/" and Path(spec.workdir).is_dir()
    packed = pack(Path(spec.workdir)) if brings else b""
    record, tasks, _ = begin(spec, uuid.uuid4().hex, now_ms)
    master = Master(manifest.meeting(spec, around), PORT)
    launches = {
        group.name: launch(record, tasks, first_task(tasks, group), data=ROOT, master=master)
        for group in spec.groups
    }
    objects = bundle(record, tasks, launches, around, packed, brings=brings)
    digest = hashlib.sha256(packed).hexdigest() if packed else ""
    if digest:
        objects.made[0].body["metadata"]["annotations"][keys.FILES] = digest
    return New(record, tasks, objects, digest)


async def dry_run(site: Site, news: Sequence[New]) -> Pods:
    """Have the API server look at every object, with all that has a say there, and at a pod of each Job.

    Returns, by the name of the Job, the pod that it would make; the template, where that may not be asked. ApiRefused for the first object
    that the server won't take.
    """
    pods: Pods = {}
    for new in news:
        for item in (*new.objects.made, *new.objects.others):
            await _asked(site, item.kind, item.body)
        for item in new.objects.jobs:
            pods[item.name] = await _pod_of(site, item)
    return pods


async def _pod_of(site: Site, item: Item) -> dict[str, Any]:
    template = item.body["spec"]["template"]
    meta = {**template["metadata"], "generateName": f"{item.name}-"}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}
    try:
        answer = await _asked(site, PODS, body)
    except ApiRefused as error:
        # Who may make Jobs need not be allowed to make pods; and a quota that is full now is not full for ever.
        if error.code != 403 or not any(
            word in error.message for word in ("cannot create", "exceeded quota")
        ):
            raise
        answer = b""
    seen = msgspec.json.decode(answer) if answer else body
    return {"metadata": {**seen["metadata"], "labels": template["metadata"]["labels"]}, "spec": seen["spec"]}


async def _asked(site: Site, kind: Kind[Any], body: Mapping[str, Any]) -> bytes:
    """The object as it would be; empty where somebody who has a say can't be asked without consequences."""
    call = Call("POST", kind.path(site.namespace), {"dryRun": "All"}, msgspec.json.encode(body))
    try:
        return await site.api.write(call)
    except ApiRefused as error:
        if "does not support dry run" not in error.message:
            raise
        return b""


async def make(site: Site, news: Sequence[New]) -> None:
    """Make all of them; where one can't be made, none stays."""
    done: list[Item] = []
    try:
        for new in news:
            await _one(site, new, done)
        for item in done:
            await site.api.patch(item.kind, item.name, {"spec": {"suspend": False}}, site.namespace)
    except BaseException:  # Ctrl-C, too, which cancels us
        for item in [item for new in news for item in new.objects.made]:
            await _undo(site, item, {new.record.id for new in news})
        raise


async def _one(site: Site, new: New, done: list[Item]) -> None:
    first, *rest = new.objects.made
    head = await site.api.create(first.kind, first.body, site.namespace)
    done.append(first)
    owner = {
        "apiVersion": first.kind.api_version, "kind": first.kind.name, "name": first.name, "uid": head.metadata.uid,
    }  # fmt: skip
    for item in (*new.objects.others, *rest):
        body = {**item.body, "metadata": {**item.body["metadata"], "ownerReferences": [owner]}}
        await site.api.create(item.kind, body, site.namespace)
        if item in rest:
            done.append(item)


async def _undo(site: Site, item: Item, ours: set[str]) -> None:
    """Delete what has this name, if we made it: of a create that nobody answered nothing is known but this."""
    with suppress(ApiRefused):
        there = await site.api.get(item.kind, item.name, site.namespace)
        if (there.metadata.labels or {}).get(keys.RUN) in ours:
            await delete_this(site, item.kind, there)
