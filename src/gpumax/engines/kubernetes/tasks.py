"""A pod becomes a task: what it asks for, where it may go, and how far it has come."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.requests import read_request
from gpumax.engines.kubernetes.views import ABSENT, Pod
from gpumax.errors import Fault
from gpumax.formats.affinity import AFFINITY, TOLERATIONS
from gpumax.formats.lines import format_path
from gpumax.formats.shape import Bad, Shape, show
from gpumax.model.workload import Task, TaskState

T = TypeVar("T")
_LAST: Final[dict[str, TaskState]] = {"Succeeded": "succeeded", "Failed": "failed"}
NO_SELECTOR: Final[dict[str, str]] = {}


class TaskRead(NamedTuple):
    """A task, and what is wrong with the pod; a task with faults is not to be placed."""

    task: Task
    faults: tuple[Fault, ...] = ()


def task_name(pod: Pod) -> str:
    """As users name it."""
    return f"{pod.metadata.namespace}/{pod.metadata.name}"


def state_of(pod: Pod) -> TaskState:
    """How far the pod has come. One that was told to go before it had a place holds nothing."""
    last = _LAST.get(pod.status.phase)
    if last is not None:
        return last
    if pod.metadata.deletion_timestamp is not None:
        return "releasing" if pod.spec.node_name else "failed"
    if pod.spec.node_name:
        return "running" if pod.status.phase == "Running" else "bound"
    return "gated" if pod.spec.scheduling_gates else "pending"


def read_task(pod: Pod, *, agents: bool = False) -> TaskRead:
    """The task, in the group "", with all faults of the pod itself. agents: whether the cluster has any."""
    faults: list[Fault] = []
    asked = read_request(pod, faults, agents=agents)
    labels = pod.metadata.labels or {}
    selector = pod.spec.node_selector or NO_SELECTOR
    if asked.vendor:
        selector = {**selector, keys.VENDOR: asked.vendor}
    if asked.agent:
        selector = {**selector, keys.AGENT: asked.agent}
    state = state_of(pod)
    task = Task(
        name=task_name(pod),
        state=state,
        node=pod.spec.node_name or None if state in ("bound", "running", "releasing") else None,
        priority=_priority(labels, faults),
        selector=selector,
        affinity=_parsed("affinity", pod.spec.affinity, faults),
        tolerations=_parsed("tolerations", pod.spec.tolerations, faults) or (),
        labels=labels,
        request=asked.request,
    )
    return TaskRead(task, tuple(faults))


def _priority(labels: Mapping[str, str], faults: list[Fault]) -> int:
    """Its order inside the gang."""
    said = keys.said(keys.TASK_PRIORITY, labels)
    if said is None:
        return 0
    key, value = said
    digits = value.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) < 10:
        return int(value)
    faults.append(Fault(f"metadata.labels[{key}]", None, show(value), "a whole number"))
    return 0


def _parsed(field: str, written: msgspec.Raw, faults: list[Fault]) -> Any:
    """What a part of the pod that is kept as bytes means; None where it says nothing."""
    if written is ABSENT:
        return None
    meaning, wrongs = _meaning(field, bytes(written))
    faults += wrongs
    return meaning


_SHAPES: Final[dict[str, Shape[Any]]] = {"affinity": AFFINITY, "tolerations": TOLERATIONS}


@lru_cache(8192)
def _meaning(field: str, written: bytes) -> tuple[Any, tuple[Fault, ...]]:
    """Read once for all pods that say the same."""
    document = msgspec.json.decode(written)
    if document is None:
        return None, ()
    try:
        return _SHAPES[field].read(document), ()
    except Bad as bad:
        return None, tuple(
            Fault(format_path(("spec", field, *wrong.path)), None, wrong.found, wrong.wanted)
            for wrong in bad.wrongs
        )
