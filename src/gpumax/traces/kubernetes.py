"""Kubernetes: `kubectl get pods -A -o json`, or what `--watch --output-watch-events` prints. Pods of one gang are one workload."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from gpumax.formats.snapshot_shapes import CLASSES
from gpumax.traces import cells
from gpumax.traces.cells import BadCell
from gpumax.traces.collect import NEVER_RAN, Collector
from gpumax.traces.objects import Document, at, listed, objects, text
from gpumax.traces.source import Source
from gpumax.units import MILLI

NO_POD: Final = "told of no pod"
PART_OF_GANG: Final = "told of another pod of a gang"
EARLIER: Final = "told of an earlier state of a pod"

_GPU: Final = ("nvidia.com/gpu", "amd.com/gpu", "intel.com/gpu", "gpu.intel.com/i915", "habana.ai/gaudi")
_SLICE: Final = re.compile(r"nvidia\.com/mig-([1-7])g\..+")
_PARTS: Final = ("gpu-fraction", "gpumax.dev/gpu-fraction")
_QUEUES: Final = (
    "gpumax.dev/queue", "kai.scheduler/queue", "runai/queue", "kueue.x-k8s.io/queue-name", "scheduling.volcano.sh/queue-name",
    "volcano.sh/queue-name", "yunikorn.apache.org/queue", "queue",
)  # fmt: skip
_GANGS: Final = (
    "pod-group-name", "scheduling.k8s.io/group-name", "scheduling.x-k8s.io/pod-group", "kueue.x-k8s.io/pod-group-name",
    "yunikorn.apache.org/app-id",
)  # fmt: skip
_ALONE: Final = frozenset(
    ("ReplicaSet", "ReplicationController", "Deployment", "StatefulSet", "DaemonSet", "Node")
)
"""Owners whose pods come and go each for itself."""
_MODEL: Final = ("nvidia.com/gpu.product", "cloud.google.com/gke-accelerator", "amd.com/gpu.product-name")
_COLUMNS: Final = {
    "name": "metadata.name", "submitted": "metadata.creationTimestamp", "started": "status.startTime",
    "queue": "metadata.labels", "gpu": "spec.containers.resources", "max_duration": "spec.activeDeadlineSeconds",
}  # fmt: skip


class _Pod(NamedTuple):
    """What a trace needs of a pod. ended_ms: None while it runs."""

    line: int
    name: str
    gang: str
    queue: str
    created_ms: int
    started_ms: int | None
    ended_ms: int | None
    gpu: int
    cpu: int
    memory: int
    model: str
    priority: str
    deadline: str


def read_kubernetes(source: Source, collector: Collector, *, timed: bool) -> None:
    """Give every gang, and every pod without one, to the collector."""
    pods: dict[str, _Pod] = {}
    for line, document in objects(source, collector.bad_row):
        document = document["object"] if isinstance(document.get("object"), dict) else document
        if text(document, "kind") not in ("Pod", "") or at(document, "spec", "containers") is None:
            collector.passed(NO_POD)
            continue
        try:
            pod = _pod(line, document)
        except BadCell as bad:
            collector.bad_row(line, bad.column, bad.found, bad.wanted)
            continue
        # Of a pod that is told of again and again, the last word counts.
        if (key := text(document, "metadata", "uid") or pod.name) in pods:
            collector.passed(EARLIER)
        pods[key] = pod
    gangs: dict[str, list[_Pod]] = {}
    for pod in pods.values():
        gangs.setdefault(pod.gang or f"{pod.name}\n", []).append(pod)
    for gang in gangs.values():
        _take(collector, gang, timed=timed)


def _take(collector: Collector, gang: list[_Pod], *, timed: bool) -> None:
    """One workload: on as many devices as its pods held at once, from the first that came to the last that ended."""
    began = [pod for pod in gang if pod.started_ms is not None]
    used = began if timed else gang
    for _ in range(len(gang) - 1):
        collector.passed(PART_OF_GANG)
    if not used:
        collector.passed(NEVER_RAN)
        return
    first = min(used, key=lambda pod: (pod.created_ms, pod.name))
    most = _at_once(used)
    row = {
        "name": first.gang or first.name,
        "queue": first.queue,
        "submitted": _seconds(first.created_ms),
        "models": first.model,
        "cpu_milli": str(most[1]),
        "memory_mib": str(most[2]),
        "priority": first.priority,
        "max_duration": first.deadline,
        "devices_per_task": str(-(-max(pod.gpu for pod in used) // MILLI)),
        **_devices(most[0], used),
    }
    if began:
        row["started"] = _seconds(min(pod.started_ms or 0 for pod in began))
        ends = [pod.ended_ms for pod in began]
        if None in ends:
            row["running"] = "yes"
        else:
            row["ended"] = _seconds(max(end or 0 for end in ends))
    collector.take(first.line, row, _COLUMNS)


def _devices(milli: int, pods: list[_Pod]) -> dict[str, str]:
    """Whole devices; or of each a part, where the pods are all alike in that."""
    parts = {pod.gpu for pod in pods}
    if len(parts) == 1 and 0 < (part := parts.pop()) < MILLI:
        return {"devices": str(milli // part), "gpu_milli": str(part)}
    return {"devices": str(-(-milli // MILLI))}


def _at_once(pods: list[_Pod]) -> tuple[int, int, int]:
    """The most that pods held at the same time: those that replace others are no more."""
    changes: list[tuple[int, int, _Pod]] = []
    for pod in pods:
        begin = pod.created_ms if pod.started_ms is None else pod.started_ms
        changes.append((begin, 1, pod))
        if pod.ended_ms is not None:
            changes.append((max(pod.ended_ms, begin + 1), -1, pod))
    most, now = (0, 0, 0), (0, 0, 0)
    for _, sign, pod in sorted(changes, key=lambda change: change[:2]):
        now = (now[0] + sign * pod.gpu, now[1] + sign * pod.cpu, now[2] + sign * pod.memory)
        most = max(most, now)
    return most


def _seconds(ms: int) -> str:
    return f"{ms // 1000}.{ms % 1000:03}"


def _pod(line: int, document: Document) -> _Pod:
    name = f"{text(document, 'metadata', 'namespace') or 'default'}/{text(document, 'metadata', 'name')}"
    labels = {**_texts(document, "metadata", "annotations"), **_texts(document, "metadata", "labels")}
    created = cells.moment("metadata.creationTimestamp", text(document, "metadata", "creationTimestamp"))
    started = text(document, "status", "startTime")
    gpu, cpu, memory = _requests(document, labels)
    selector = _texts(document, "spec", "nodeSelector")
    return _Pod(
        line, name, _gang(document, labels),
        _first(labels, _QUEUES) or text(document, "metadata", "namespace") or "default",
        created,
        # The kubelet's clock may be behind that of the API server, which knows whole seconds only.
        max(created, cells.moment("status.startTime", started)) if started else None,
        _ended(document),
        gpu, cpu, memory,
        _first(selector, _MODEL),
        str(CLASSES.get(text(document, "spec", "priorityClassName"), "")),
        text(document, "spec", "activeDeadlineSeconds"),
    )  # fmt: skip


def _gang(document: Document, labels: Mapping[str, str]) -> str:
    """The workload that the pod is part of, with its namespace; empty: none."""
    name = _first(labels, _GANGS)
    if not name:
        owners = [
            text(owner, "name")
            for owner in listed(document, "metadata", "ownerReferences")
            if text(owner, "kind") not in _ALONE
        ]
        name = owners[0] if owners else ""
    return f"{text(document, 'metadata', 'namespace') or 'default'}/{name}" if name else ""


def _ended(document: Document) -> int | None:
    """When its last container ended."""
    states = listed(document, "status", "containerStatuses")
    ends = [text(state, "state", "terminated", "finishedAt") for state in states]
    if text(document, "status", "phase") in ("Succeeded", "Failed"):
        found = [cells.moment("finishedAt", end) for end in ends if end]
        conditions = listed(document, "status", "conditions")
        changes = [text(condition, "lastTransitionTime") for condition in conditions]
        found = found or [cells.moment("lastTransitionTime", change) for change in changes if change]
        return max(found, default=None)
    deleted = text(document, "metadata", "deletionTimestamp")
    return cells.moment("metadata.deletionTimestamp", deleted) if deleted else None


def _requests(document: Document, labels: Mapping[str, str]) -> tuple[int, int, int]:
    """Milli-devices, millicores and MiB of all containers."""
    gpu = cpu = memory = 0
    for container in listed(document, "spec", "containers"):
        # A limit without a request is the request.
        wanted = {**_texts(container, "resources", "limits"), **_texts(container, "resources", "requests")}
        gpu += sum(cells.milli(name, wanted[name]) for name in _GPU if name in wanted)
        gpu += sum(_slices(name, amount) for name, amount in wanted.items())
        cpu += cells.milli("cpu", wanted.get("cpu", "0"))
        memory += cells.memory("memory", wanted.get("memory", "0"))
    if not gpu and (part := _first(labels, _PARTS)):
        gpu = cells.milli("gpu-fraction", part)
    return gpu, cpu, memory


def _slices(name: str, amount: str) -> int:
    """What hardware slices are worth of a device: g of 7 compute parts each, rounded up."""
    match = _SLICE.fullmatch(name)
    return 0 if match is None else cells.count(name, amount) * -(-int(match[1]) * MILLI // 7)


def _texts(document: object, *keys: str) -> dict[str, str]:
    found = at(document, *keys)
    pairs: Iterable[tuple[Any, Any]] = found.items() if isinstance(found, dict) else ()
    return {str(key): str(value) for key, value in pairs if isinstance(value, str | int | float)}


def _first(labels: Mapping[str, str], names: Iterable[str]) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")
