"""Queue objects: our own, and those of KAI and Run:ai, become queues of the tree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from gpumax.engines.kubernetes.times import moment_ms
from gpumax.engines.kubernetes.views import Document
from gpumax.errors import Fault
from gpumax.formats.lines import format_path
from gpumax.formats.queues import QUEUE
from gpumax.formats.shape import Bad, show
from gpumax.model.queue import Queue

OWN: Final = "gpumax.dev"
KAI: Final = "scheduling.run.ai"
_CAMEL: Final = {
    "preemptMinRuntime": "preempt_min_runtime",
    "reclaimMinRuntime": "reclaim_min_runtime",
}
_MEGABYTE: Final = 1_000_000
"""The peer counts memory in these."""


class QueueRead(NamedTuple):
    """A queue, None where it can't be read; and what is wrong with its object."""

    queue: Queue | None
    faults: tuple[Fault, ...] = ()


def read_queue(document: Document) -> QueueRead:
    """The queue of an object of either kind; told apart by its API group."""
    spec = document.get("spec")
    spec = spec if isinstance(spec, dict) else {}
    group = str(document.get("apiVersion", "")).rpartition("/")[0]
    wrongs: list[Fault] = []
    fields = _of_kai(spec, wrongs) if group == KAI else _of_own(spec)
    meta = document.get("metadata") or {}
    fields["name"] = meta.get("name")
    fields["created"] = (moment_ms(meta.get("creationTimestamp")) or 0) / 1000
    try:
        queue = QUEUE.read(fields)
    except Bad as bad:
        return QueueRead(
            None, (*wrongs, *(_told(wrong.path, wrong.found, wrong.wanted) for wrong in bad.wrongs))
        )
    return QueueRead(None if wrongs else queue, tuple(wrongs))


def _told(path: tuple[Any, ...], found: str, wanted: str) -> Fault:
    names = {ours: theirs for theirs, ours in _CAMEL.items()}
    inner = tuple(names.get(part, part) if isinstance(part, str) else part for part in path)
    return Fault(format_path(("metadata" if path[:1] == ("name",) else "spec", *inner)), None, found, wanted)


def _of_own(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of formats, in the spelling of the API."""
    return {_CAMEL.get(key, key): value for key, value in spec.items() if value is not None}


def _of_kai(spec: Mapping[str, Any], faults: list[Fault]) -> dict[str, Any]:
    """quota and limit -1: unlimited; of cpu millicores, of memory megabytes. An unset limit is unlimited here, as it is meant."""
    fields: dict[str, Any] = {
        ours: spec[theirs]
        for theirs, ours in (
            ("parentQueue", "parent"),
            ("priority", "priority"),
            ("preemptMinRuntime", "preempt_min_runtime"),
            ("reclaimMinRuntime", "reclaim_min_runtime"),
        )
        if spec.get(theirs) not in (None, "")
    }
    resources = spec.get("resources")
    for resource, own in sorted(resources.items()) if isinstance(resources, dict) else ():
        if not isinstance(own, dict) or resource not in ("gpu", "cpu", "memory"):
            path = f"spec.resources.{str(resource)[:40]}"
            faults.append(
                Fault(path, None, show(own), "gpu, cpu or memory with quota, limit, overQuotaWeight")
            )
            continue
        # Theirs is 1 where it is unset; ours is the quota.
        fields.setdefault("weight", {})[resource] = 1
        for theirs, ours in (("quota", "quota"), ("limit", "limit"), ("overQuotaWeight", "weight")):
            value = own.get(theirs)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                path = f"spec.resources.{resource}.{theirs}"
                faults.append(Fault(path, None, show(value), "a number; -1 for unlimited"))
                continue
            fields.setdefault(ours, {})[resource] = _amount(resource, value) if ours != "weight" else value
    return fields


def _amount(resource: str, value: float) -> object:
    if value == -1:
        return "unlimited"
    if resource == "cpu":
        return value / 1000
    return int(value * _MEGABYTE) if resource == "memory" else value
