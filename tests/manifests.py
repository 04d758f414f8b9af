"""Clusters written as the API's objects, so that a test shows what a user would apply."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import yaml

from gpumax.engines.kubernetes.assembly import Assembly
from gpumax.engines.kubernetes.budgets import Budget
from gpumax.engines.kubernetes.grouping.find import Kinds
from gpumax.engines.kubernetes.grouping.kinds import KINDS
from gpumax.engines.kubernetes.offers import Slice, slice_of
from gpumax.engines.kubernetes.views import NodeObject, Pod
from gpumax.model.decision import Decision
from gpumax.model.node import Device
from gpumax.model.snapshot import Policy, Snapshot
from gpumax.policy.decide import decide

Document = dict[str, Any]
NOW_MS = 1_700_000_000_000
CREATED = "2023-11-14T20:00:00Z"


def pod(
    name: str,
    *,
    owner: Document | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    gpu: float = 0,
    node: str = "",
    phase: str = "Pending",
    scheduler: str = "gpumax",
    namespace: str = "ml",
    **spec: Any,
) -> Document:
    """A pod of one container; `spec` adds fields of its spec."""
    resources = {"limits": {"nvidia.com/gpu": str(gpu)}} if gpu else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{namespace}-{name}",
            "creationTimestamp": CREATED,
            "labels": dict(labels or {}),
            "annotations": dict(annotations or {}),
            "ownerReferences": [reference(owner)] if owner else [],
        },
        "spec": {
            "schedulerName": scheduler,
            "nodeName": node,
            "containers": [{"name": "main", "resources": resources}],
            **spec,
        },
        "status": {"phase": phase},
    }


def node(name: str, gpu: int = 8, **labels: str) -> Document:
    """A ready node with so many GPUs, 64 cores and 512 GiB."""
    amounts = {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": str(gpu)}
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {},
        "status": {
            "capacity": amounts,
            "allocatable": dict(amounts),
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def offer(node: str, *devices: Device) -> Document:
    """What the agent of a node publishes."""
    named = {device.index: f"GPU-{node}-{device.index}" for device in devices}
    return {"kind": "ResourceSlice", **slice_of(node, f"uid-{node}", devices, named)}


def queue(name: str, gpu: float = 8, **spec: Any) -> Document:
    """A queue with so many GPUs as its quota; of the rest it may have what it wants."""
    quota = {"gpu": gpu, "cpu": "unlimited", "memory": "unlimited"}
    return {
        "apiVersion": "gpumax.dev/v1alpha1",
        "kind": "Queue",
        "metadata": {"name": name, "creationTimestamp": CREATED},
        "spec": {"quota": quota, **spec},
    }


def reference(owner: Document) -> Document:
    """How an object names the one that it belongs to."""
    meta = owner["metadata"]
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
    }


def written(text: str) -> Document:
    """An object as a user writes it, with what the API server adds."""
    document: Document = yaml.safe_load(text)
    meta = document["metadata"]
    meta.setdefault("namespace", "ml")
    meta.setdefault("uid", f"uid-{document['kind']}-{meta['name']}")
    meta.setdefault("creationTimestamp", CREATED)
    return document


def owned(document: Document, owner: Document) -> Document:
    """The object, belonging to another."""
    document["metadata"]["ownerReferences"] = [reference(owner)]
    return document


def as_pod(document: Document) -> Pod:
    """What is read of a pod."""
    return msgspec.json.decode(json.dumps(document), type=Pod)


def as_node(document: Document) -> NodeObject:
    """What is read of a node."""
    return msgspec.json.decode(json.dumps(document), type=NodeObject)


def see(assembly: Assembly, *documents: Document) -> None:
    """Show objects, each where it belongs."""
    for document in documents:
        kind, meta = document["kind"], document["metadata"]
        where = f"{meta.get('namespace')}/{meta['name']}"
        if kind == "Node":
            assembly.see_node(meta["name"], as_node(document))
        elif kind == "ResourceSlice":
            assembly.see_slice(meta["name"], msgspec.json.decode(json.dumps(document), type=Slice))
        elif kind == "PodDisruptionBudget":
            budget = msgspec.json.decode(json.dumps(document), type=Budget)
            assembly.see_budget(meta["namespace"], meta["name"], budget)
        elif kind == "Queue":
            assembly.see_queue(meta["name"], document)
        elif kind == "Topology":
            assembly.see_topology(meta["name"], document)
        elif kind in ("Gang", "PodGroup"):
            native = document["apiVersion"].startswith("scheduling.k8s.io/")
            name = f"{meta['namespace']}/{'podgroup' if native else 'gang'}/{meta['name']}"
            assembly.see_gang(name, document)
        elif kind == "Pod":
            assembly.see_pod(where, as_pod(document))
            assembly.see_owner(meta["uid"], document)
        else:
            assembly.see_owner(meta["uid"], document)


def assembled(*documents: Document, kinds: Kinds = KINDS) -> Assembly:
    """All objects, shown in their order."""
    assembly = Assembly(kinds=kinds)
    see(assembly, *documents)
    return assembly


def snapshot(*documents: Document, kinds: Kinds = KINDS) -> Snapshot:
    """What the objects come to."""
    return assembled(*documents, kinds=kinds).snapshot(NOW_MS, Policy())


def decided(*documents: Document) -> Decision:
    """What follows from the objects."""
    return decide(snapshot(*documents))


def gangs(found: Snapshot) -> dict[str, dict[str, tuple[int, int]]]:
    """Of each workload, by group: how many start together, of how many that there are."""
    return {
        workload.name: {
            group.name: (group.min, sum(task.group == group.name for task in workload.tasks))
            for group in workload.groups
        }
        for workload in found.workloads
    }


def several(count: int, name: str, **fields: Any) -> Sequence[Document]:
    """Pods that are alike but for their number."""
    return [pod(f"{name}-{number}", **fields) for number in range(count)]
