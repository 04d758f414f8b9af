"""What would come of workloads that aren't made: their pods are shown to an assembly as if they were there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gpumax.apps.kubernetes.create import New, Pods
from gpumax.apps.kubernetes.site import Site
from gpumax.apps.server.shapes import EvictionOut, Fate, PlaceOut
from gpumax.apps.server.views import devices, hold
from gpumax.engines.kubernetes.assembly import Assembly
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.grouping.kinds import SET_MEMBER
from gpumax.engines.kubernetes.kinds import GANGS, QUEUES
from gpumax.engines.kubernetes.once import look
from gpumax.engines.kubernetes.unsound import of_unsound_queues
from gpumax.engines.kubernetes.views import Pod
from gpumax.engines.kubernetes.work.manifest import Item
from gpumax.engines.kubernetes.work.queues import queue_body
from gpumax.model.decision import Decision
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Policy
from gpumax.policy.decide import decide

BLIND = "what the scheduler would say can't be seen from here: nodes and pods of the whole cluster may not be listed"


async def imagine(site: Site, news: Sequence[New], pods: Pods, queues: Sequence[Queue]) -> list[Fate]:
    """What a scheduler would decide about work with such pods, with these queues set."""
    try:
        assembly = await look(site.api, site.scheduler)
    except ApiRefused as error:
        if error.code != 403:
            raise
        return [_fate(new, Decision(), {}, BLIND) for new in news]
    for queue in queues:
        assembly.see_queue(queue.name, {"apiVersion": QUEUES.api_version, **queue_body(queue)})
    for new in news:
        show(assembly, new, pods, site.namespace)
    snapshot = assembly.snapshot(site.now_ms(), Policy())
    decision = of_unsound_queues(snapshot, decide(snapshot), assembly.queue_faults)
    faults = {name: "; ".join(map(str, own)) for name, own in assembly.faults.items()}
    return [_fate(new, decision, faults, "", site.namespace) for new in news]


def show(assembly: Assembly, new: New, pods: Pods, namespace: str) -> None:
    """Let the assembly see the workload as if it were there."""
    for item in new.objects.others:
        if item.kind is GANGS:
            assembly.see_gang(f"{namespace}/gang/{item.name}", item.body)
    owners: list[dict[str, Any]] = []
    if new.objects.whole is not None:
        owners = [_owner(new.objects.whole, new.record.id)]
        assembly.see_owner(new.record.id, new.objects.whole.body)
    for item in new.objects.jobs:
        uid = f"{new.record.id}-{item.name}"
        assembly.see_owner(
            uid, {**item.body, "metadata": {**item.body["metadata"], "ownerReferences": owners}}
        )
        for index in range(item.body["spec"]["completions"]):
            pod = _pod(new, item, pods[item.name], uid, namespace, index)
            assembly.see_pod(f"{namespace}/{pod.metadata.name}", pod)


def _owner(item: Item, uid: str) -> dict[str, Any]:
    return {
        "apiVersion": item.kind.api_version,
        "kind": item.kind.name,
        "name": item.name,
        "uid": uid,
        "controller": True,
    }


def _pod(new: New, item: Item, seen: dict[str, Any], uid: str, namespace: str, index: int) -> Pod:
    """As the Job would make it."""
    meta = {
        **seen["metadata"],
        "name": f"{item.name}-{index}",
        "namespace": namespace,
        "ownerReferences": [_owner(item, uid)],
    }
    if new.objects.whole is not None:
        member = item.name.removeprefix(f"{new.name}-").removesuffix("-0")
        meta["labels"] = {**meta["labels"], SET_MEMBER: member}
    document = {"metadata": meta, "spec": seen["spec"], "status": {"phase": "Pending"}}
    return msgspec.json.decode(msgspec.json.encode(document), type=Pod)


def _fate(new: New, decision: Decision, faults: dict[str, str], reason: str, namespace: str = "") -> Fate:
    kind, name = ("gang", new.name) if len(new.objects.jobs) > 1 else ("job", new.objects.jobs[0].name)
    kind, name = ("jobset", new.name) if new.objects.whole is not None else (kind, name)
    workload = f"{namespace}/{kind}/{name}"
    ranks = {
        f"{namespace}/{item.name}-{index}": task.name
        for item, group in zip(new.objects.jobs, new.record.spec.groups, strict=True)
        for index, task in enumerate(task for task in new.tasks if task.group == group.name)
    }
    wrong = next((faults[pod] for pod in ranks if pod in faults), "")
    return Fate(
        kind="workload",
        name=new.name,
        created=False,
        state="pending",
        hold=hold(next((row for row in decision.holds if row.workload == workload), None)),
        reason=reason or wrong,
        places=[
            PlaceOut(task=ranks[row.task], node=row.node, devices=devices(row.devices), after=list(row.after))
            for row in decision.places
            if row.task in ranks
        ],
        evictions=[
            EvictionOut(task=row.task, cause=row.cause, for_=new.name)
            for row in decision.evictions
            if row.beneficiary == workload
        ],
    )
