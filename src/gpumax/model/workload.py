"""What people submit, as policy sees it: workloads, their groups and tasks, and what a task asks for."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

TaskState = Literal["pending", "gated", "bound", "running", "releasing", "succeeded", "failed"]
ACTIVE: Final = frozenset(("bound", "running"))
"""States that count for the queue and for the gang's minimum."""
HOLDING: Final = frozenset(("bound", "running", "releasing"))
"""States that hold room on a node."""

Preemptible = bool | Literal["semi"]
"""Whether work may be evicted; semi: what is above the minimum of its groups may. Any text is true: compare, don't ask."""
NON_PREEMPTIBLE_FROM: Final = 100
"""Workloads of this priority or higher are non-preemptible unless they say otherwise."""


QUEUE_NAME: Final = "kubernetes.io/metadata.name"
"""The one label of a queue, by which terms of affinity between tasks select it: its name, as namespaces have it."""


class DeviceShare(msgspec.Struct, frozen=True, order=True, gc=False):
    """What a task holds of one device: milli-devices, or slices by profile."""

    index: int
    milli: int = 0
    slices: dict[str, int] = {}


class DeviceAsk(msgspec.Struct, frozen=True, gc=False):
    """Devices that one task asks for: `devices` different ones of a node, of each `milli`, or `memory_mib` of its memory.

    model: empty for any. Whole devices have milli 1000; memory_mib is 0 where the ask is by milli.
    """

    devices: int
    milli: int = 1000
    memory_mib: int = 0
    model: str = ""


class Expression(msgspec.Struct, frozen=True):
    """One match expression, as Kubernetes has them for labels."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    values: tuple[str, ...] = ()


class NodeTerm(msgspec.Struct, frozen=True):
    """Expressions on node labels and on node fields (`metadata.name`), all of which must hold."""

    labels: tuple[Expression, ...] = ()
    fields: tuple[Expression, ...] = ()


class TaskTerm(msgspec.Struct, frozen=True):
    """Tasks that are meant, and the node label whose equal values mean together.

    labels: expressions on their labels, all of which must hold; None: no task is meant. queues, queue_labels: tasks of these,
    and of those with such labels; where both are unset, of the carrier's own queue. same, other: labels of the carrier whose
    values theirs must equal, or must not.
    """

    key: str
    labels: tuple[Expression, ...] | None = None
    queues: tuple[str, ...] = ()
    queue_labels: tuple[Expression, ...] | None = None
    same: tuple[str, ...] = ()
    other: tuple[str, ...] = ()


class Company(msgspec.Struct, frozen=True):
    """Tasks to be near, or away from: all of `required` must hold; each task that is meant in `preferred` adds its weight."""

    required: tuple[TaskTerm, ...] = ()
    preferred: tuple[tuple[int, TaskTerm], ...] = ()


class Affinity(msgspec.Struct, frozen=True):
    """Node affinity: one of `required` must hold (None: no such wish); each of `preferred` that holds adds its weight.

    near, apart: affinity and anti-affinity between tasks.
    """

    required: tuple[NodeTerm, ...] | None = None
    preferred: tuple[tuple[int, NodeTerm], ...] = ()
    near: Company = Company()
    apart: Company = Company()


class Toleration(msgspec.Struct, frozen=True):
    """Lets a task onto nodes with matching taints. An empty key with Exists tolerates everything."""

    key: str = ""
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str = ""
    effect: str = ""


class DeviceLimit(msgspec.Struct, frozen=True):
    """Up to what a task may use of each of its devices, in milli and in MiB of its memory; 0: no more than it asks for.

    Placement counts what is asked for alone: limits may exceed a device together.
    """

    milli: int = 0
    memory_mib: int = 0


class Request(msgspec.Struct, frozen=True, gc=False):
    """What one task asks for. gpu: alternatives, tried in order; empty: no device.

    slices: of sliced devices of one node, by profile, instead of gpu.
    """

    gpu: tuple[DeviceAsk, ...] = ()
    cpu_milli: int = 0
    memory_mib: int = 0
    extended: dict[str, int] = {}
    slices: dict[str, int] = {}
    limit: DeviceLimit | None = None


class Task(msgspec.Struct, frozen=True, gc=False):
    """One schedulable unit: a pod or a process. promised: the decision before had it start when others have left."""

    name: str
    group: str = ""
    state: TaskState = "pending"
    node: str | None = None
    devices: tuple[DeviceShare, ...] = ()
    priority: int = 0
    selector: dict[str, str] = {}
    affinity: Affinity | None = None
    tolerations: tuple[Toleration, ...] = ()
    labels: dict[str, str] = {}
    request: Request = Request()
    promised: bool = False


class Segments(msgspec.Struct, frozen=True):
    """So many tasks at a time, in the order of their names, inside one domain of a level."""

    size: int
    required: str | None = None
    preferred: str | None = None


class TopologyWish(msgspec.Struct, frozen=True):
    """How tasks stand together. name: of the topology; the levels are among its own."""

    name: str
    required: str | None = None
    preferred: str | None = None
    segments: Segments | None = None


class Group(msgspec.Struct, frozen=True, gc=False):
    """Tasks of one role; at least `min` of them run, or none of the gang. min 0 only for groups that hold groups."""

    name: str
    min: int
    parent: str | None = None
    topology: TopologyWish | None = None


class Workload(msgspec.Struct, frozen=True, gc=False):
    """What a person submitted. groups is never empty: tasks that name no group are in the group "".

    stale_since_ms: when it fell below its minimum; None where it hasn't, or only now.
    pool: empty for any. checkpointed_ms: the moment to which an eviction throws it back, where it saves its work.
    """

    name: str
    queue: str
    priority: int = 50
    preemptible: Preemptible = True
    submitted_ms: int = 0
    started_ms: int | None = None
    checkpointed_ms: int | None = None
    max_duration_ms: int | None = None
    pool: str = ""
    labels: dict[str, str] = {}
    groups: tuple[Group, ...] = ()
    tasks: tuple[Task, ...] = ()
    stale_since_ms: int | None = None
    topology: TopologyWish | None = None


Document = dict[str, Any]
"""A parsed file: plain dicts, lists, text and numbers."""
