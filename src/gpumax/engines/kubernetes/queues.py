"""Queue objects: our own, and those of KAI and Run:ai, become queues of the tree."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from gpumax.engines.kubernetes.documents import at
from gpumax.engines.kubernetes.times import moment_ms
from gpumax.engines.kubernetes.views import Document
from gpumax.errors import Fault
from gpumax.formats.kai import GROUP, read_kai_queue
from gpumax.formats.lines import format_path
from gpumax.formats.queues import QUEUE
from gpumax.formats.shape import Bad, show
from gpumax.model.queue import Queue

_CAMEL: Final = {"preemptMinRuntime": "preempt_min_runtime", "reclaimMinRuntime": "reclaim_min_runtime"}
_NAMES: Final = {ours: theirs for theirs, ours in _CAMEL.items()}


class QueueRead(NamedTuple):
    """A queue, None where it can't be read; and what is wrong with its object."""

    queue: Queue | None
    faults: tuple[Fault, ...] = ()


def read_queue(document: Document) -> QueueRead:
    """The queue of an object of either kind; told apart by its API group."""
    name, spec = at(document, "metadata", "name"), document.get("spec")
    created_s = (moment_ms(at(document, "metadata", "creationTimestamp")) or 0) / 1000
    if not isinstance(spec, dict | None):  # stored before there was a schema
        return QueueRead(None, (Fault("spec", None, show(spec), "an object"),))
    try:
        if str(document.get("apiVersion", "")).startswith(f"{GROUP}/"):
            return QueueRead(read_kai_queue(name, spec, created_s))
        fields = {_CAMEL.get(key, key): value for key, value in (spec or {}).items() if value is not None}
        return QueueRead(QUEUE.read({**fields, "name": name, "created": created_s}))
    except Bad as bad:
        return QueueRead(None, tuple(fault_of(wrong.path, wrong.found, wrong.wanted) for wrong in bad.wrongs))


def fault_of(path: tuple[Any, ...], found: str, wanted: str) -> Fault:
    """A fault of a queue at a path of ours, in the spelling of the API."""
    inner = tuple(_NAMES.get(part, part) if isinstance(part, str) else part for part in path)
    return Fault(format_path(("metadata" if path[:1] == ("name",) else "spec", *inner)), None, found, wanted)
