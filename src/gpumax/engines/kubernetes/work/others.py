"""Work whose pods no Job made: of other kinds, of gangs by label, or pods alone. Shown as if a Job had made them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.grouping.kinds import KINDS
from gpumax.engines.kubernetes.tasks import state_of
from gpumax.engines.kubernetes.views import Condition, Meta
from gpumax.engines.kubernetes.work.views import Job, JobStatus, SeenPod
from gpumax.model.names import natural
from gpumax.model.workload import ACTIVE

POD: Final = "Pod"
GANG: Final = "Gang"


def others(pods: Iterable[SeenPod]) -> Iterator[tuple[str, Job, tuple[SeenPod, ...]]]:
    """Of each workload: the kind that makes it, what stands for a Job, and its pods. pods: of our scheduler, and of no Job."""
    found: dict[tuple[str, str], list[SeenPod]] = {}
    for pod in pods:
        found.setdefault(_maker(pod), []).append(pod)
    for (kind, name), own in found.items():
        own.sort(key=lambda pod: (natural(pod.metadata.name), pod.metadata.name))
        yield kind, _stand_in(name, own), tuple(own)


def _maker(pod: SeenPod) -> tuple[str, str]:
    """By kind and name. The nearest owner stands for those above it."""
    gang = keys.said(keys.GANG, pod.metadata.labels or {}, pod.metadata.annotations or {})
    if gang is not None and gang[1]:
        return GANG, gang[1]
    owner = next((row for row in pod.metadata.owner_references or () if row.controller), None)
    known = KINDS.get((owner.group, owner.kind)) if owner is not None else None
    if owner is None or (known is not None and known.apart == "pod"):
        return POD, pod.metadata.name
    return owner.kind, owner.name


def _stand_in(name: str, pods: Sequence[SeenPod]) -> Job:
    first = pods[0]
    spec = msgspec.json.decode(msgspec.json.encode(first.spec))
    meta = {"labels": first.metadata.labels or {}, "annotations": first.metadata.annotations or {}}
    oldest = min(pod.metadata.creation_timestamp or "" for pod in pods)
    return Job(
        Meta(name, first.metadata.namespace, first.metadata.uid, creation_timestamp=oldest),
        {"completions": len(pods), "template": {"metadata": meta, "spec": spec}},
        JobStatus(conditions=tuple(_ends(pods))),
    )


def _ends(pods: Sequence[SeenPod]) -> Iterator[Condition]:
    states = {state_of(pod) for pod in pods}
    if states == {"succeeded"}:
        yield Condition("Complete", "True")
    elif "failed" in states and not states & (ACTIVE | {"pending", "gated"}):
        yield Condition("Failed", "True", message="its pods have failed")
