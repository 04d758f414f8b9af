"""What the API's answers look like: the models that the OpenAPI document describes.

Amounts are as in files: GPUs and cores as numbers, memory with its unit; times are RFC 3339 in UTC; null is nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field

from gpumax.model.decision import Cause, HoldCode
from gpumax.model.explanation import (
    CHANGES,
    SHARE_RULES,
    TRIED_REASONS,
    Change,
    ShareRule,
    TriedReason,
)
from gpumax.model.records import EventKind, Wish, WorkloadState
from gpumax.model.workload import Preemptible, TaskState

Number = int | float
Amount = int | float | str
"""GPUs or cores as a number, memory as text with its unit, or "unlimited"."""


def _list(words: Mapping[Any, str]) -> str:
    """A closed list in one line."""
    return "; ".join(f"{word}: {meaning}" for word, meaning in words.items())


class FaultOut(BaseModel):
    """One fault of a request."""

    path: str = Field(description="Like `resources.gpu` or `query.limit`; empty for the whole.")
    line: int | None = Field(description="1-based, where the body has lines.")
    found: str
    wanted: str


class ErrorBody(BaseModel):
    """What was wrong."""

    message: str = Field(description="A sentence or two for a person.")
    faults: list[FaultOut] = Field(description="All faults of a body or query; empty where it has none.")


class Error(BaseModel):
    """The body of every answer whose status is 400 or more."""

    error: ErrorBody


class HoldOut(BaseModel):
    """Why a workload waits."""

    code: HoldCode
    message: str
    nodes: dict[str, int] = Field(description="How many nodes fail for which reason.")
    short: dict[str, Amount] = Field(description="What is missing.")
    forecast: str | None = Field(
        description="When some of it starts if all work ends at its max_duration and nothing else comes."
    )


class TaskCount(BaseModel):
    """How many tasks a workload has, how many of them run, and how many have done their work."""

    running: int
    done: int
    total: int


class ShareOfDevice(BaseModel):
    """What is held of one GPU of a node."""

    index: int
    milli: int = Field(description="Thousandths of the GPU.")


class _Workload(BaseModel):
    name: str
    id: str = Field(description="Stable over restarts; GPUMAX_RUN of its tasks.")
    project: str
    kind: str
    priority: int
    preemptible: Preemptible
    state: WorkloadState
    wish: Wish = Field(description="What was asked of it last; the state follows.")
    gpu: Number = Field(description="Held now; where it holds none, what its tasks ask for.")
    submitted: str
    started: str | None = Field(description="Of the current run.")
    ended: str | None
    runs: int
    evictions: int
    failures: int
    nodes: list[str] = Field(description="Where its tasks are now.")
    hold: HoldOut | None
    reason: str
    device_seconds: Number = Field(description="GPU time held so far: whole GPUs times seconds.")


class Workload(_Workload):
    """A workload in a list."""

    tasks: TaskCount


class Task(BaseModel):
    """One task of a workload."""

    index: int = Field(description="Its rank.")
    name: str
    group: str
    state: TaskState
    node: str | None
    devices: list[ShareOfDevice]
    started: str | None
    ended: str | None
    exit_code: int | None
    reason: str
    cause: Cause | None = Field(description="Of its last eviction.")
    for_: str = Field(serialization_alias="for", description="The workload that it was evicted for.")


class WorkloadDetail(_Workload):
    """A workload with its tasks and all that was asked for."""

    tasks: list[Task]
    spec: dict[str, Any] = Field(description="The workload file, every default written out.")
    checkpoint_dir: str


class Workloads(BaseModel):
    """A page of workloads, newest first."""

    items: list[Workload]
    next: str | None = Field(description="`after` of the next page; null at the end.")


class PlaceOut(BaseModel):
    """Where a task goes."""

    task: str
    node: str
    devices: list[ShareOfDevice]
    after: list[str] = Field(description="Tasks whose departure it waits for.")


class EvictionOut(BaseModel):
    """A task that has to go."""

    task: str
    cause: Cause
    for_: str = Field(serialization_alias="for", description="The workload that gains.")


class Fate(BaseModel):
    """What became, or would become, of one item of a submitted file."""

    kind: Literal["workload", "queue"]
    name: str
    created: bool = Field(description="Whether this request made or changed it.")
    state: WorkloadState | None = Field(description="null for a queue.")
    hold: HoldOut | None
    reason: str = Field(description="Why it could not start, where neither hold nor place says more.")
    places: list[PlaceOut]
    evictions: list[EvictionOut]


class Fates(BaseModel):
    """Queues and workloads of a submitted file, in its order: queues first."""

    items: list[Fate]


class QueueShare(BaseModel):
    """What a queue may hold of one resource, and what it holds and wants."""

    resource: Literal["gpu", "cpu", "memory"]
    quota: Amount
    share: Amount
    allocated: Amount
    demand: Amount


class DerivedOut(BaseModel):
    """How a queue came by its share of a resource."""

    queue: str
    resource: Literal["gpu", "cpu", "memory"]
    parent: str | None = Field(description="null: at the root; the cluster is divided.")
    rule: ShareRule = Field(description=_list(SHARE_RULES))
    share: Amount
    quota: Amount
    limit: Amount
    demand: Amount
    total: Amount = Field(description="What is divided among it and its siblings.")
    guaranteed: Amount = Field(description="What it gets of its quota.")
    left: Amount = Field(description="What remains beyond the quotas of all siblings.")


class TriedOut(BaseModel):
    """Why a pass made no room."""

    pass_: str = Field(serialization_alias="pass", validation_alias="pass")
    reason: TriedReason = Field(description=_list(TRIED_REASONS))
    message: str
    queue: str | None = Field(description="Whose work was looked at.")
    held: dict[str, Amount] = Field(description="What runs there of that kind.")
    until: str | None = Field(description="When that changes by itself.")


class NeedOut(BaseModel):
    """Something that would let it start: it was tried by deciding again, and is enough by itself."""

    change: Change = Field(description=_list(CHANGES))
    message: str
    nodes: dict[str, dict[str, Amount]] = Field(description="How much more on which nodes.")
    queues: dict[str, dict[str, Amount]] = Field(description="How much more for which queues.")
    at: str | None = Field(description="When it starts by itself.")


class Why(BaseModel):
    """Why a workload is where it is."""

    workload: str
    state: str
    sentences: list[str]
    hold: HoldOut | None
    queue: list[QueueShare]
    ahead: list[str] = Field(
        description="Workloads that wait, can start, and are served before it, first to last."
    )
    since: str | None = Field(description="When its run began, if it runs.")
    derived: list[DerivedOut] = Field(
        description="How the share of its queue, and of those above, came about."
    )
    tried: list[TriedOut] = Field(description="Why nobody made way for it.")
    needs: list[NeedOut] = Field(description="What would let it start; each is enough by itself.")


class EventOut(BaseModel):
    """Something that happened."""

    seq: int = Field(description="Rises with every event.")
    at: str
    kind: EventKind
    workload: str
    task: str
    message: str


class Events(BaseModel):
    """Events in the order in which they happened."""

    items: list[EventOut]
    next: int = Field(description="`after` of what comes next.")


class ByResource(BaseModel):
    """An amount a resource."""

    gpu: Amount
    cpu: Amount
    memory: Amount


class QueueOut(BaseModel):
    """A node of the quota tree."""

    name: str
    parent: str | None
    priority: int
    quota: ByResource
    limit: ByResource
    weight: ByResource
    preempt_min_runtime: Amount | None = Field(description="null: the parent's.")
    reclaim_min_runtime: Amount | None = Field(description="null: the parent's.")
    usage: dict[str, Number] | None = Field(description="Past use as parts of the cluster; null: none.")
    demote: list[Amount] | None = Field(
        description="GPU hours: with each that work has held its priority falls by one; null: the parent's."
    )
    fresh: str | None = Field(
        description="Where its work counts until the first of them; null: the parent's."
    )
    shares: list[QueueShare]
    waiting: int = Field(description="Workloads in it that wait.")
    running: int = Field(description="Workloads in it that run.")
    doubts: list[str] = Field(description="Settings that are allowed and hardly meant, in sentences.")


class Queues(BaseModel):
    """All queues by name."""

    items: list[QueueOut]
    next: None = None


class Part(BaseModel):
    """How much there is, and how much of it is free."""

    total: Amount
    free: Amount


class TaintOut(BaseModel):
    """Keeps tasks away that do not tolerate it."""

    key: str
    value: str
    effect: str


class NodeOut(BaseModel):
    """A machine."""

    name: str
    pool: str
    state: Literal["ready", "not ready", "cordoned"]
    gpu: Part
    unhealthy: int = Field(
        description="GPUs that can't be used; of `gpu` they are in the total and not free."
    )
    cpu: Part
    memory: Part
    tasks: int = Field(description="Tasks that hold room on it.")
    labels: dict[str, str]
    taints: list[TaintOut]


class Nodes(BaseModel):
    """All nodes by name."""

    items: list[NodeOut]


class Holder(BaseModel):
    """A task that holds a part of a GPU."""

    workload: str
    task: str
    milli: int


class Resident(BaseModel):
    """A group of processes that has a part of a GPU. Amounts are bytes."""

    group: str = Field(description="The broker's name of it.")
    workload: str = Field(description="Whose it is; empty where it is no workload's.")
    mode: Literal["fair", "strict"]
    share: float = Field(description="Of the time: 0 to 1.")
    guaranteed: int
    limit: int
    swap: bool = Field(description="Whether its memory may be moved to host memory.")
    resident: int = Field(description="On the GPU now.")
    swapped: int = Field(description="In host memory now.")
    pinned: int = Field(description="On the GPU, and can't be moved.")
    processes: list[int]
    checkpointed: list[int] = Field(
        description="Those of them that the driver has off the GPU, contexts and all, or on their way."
    )
    works: bool = Field(description="Whether it may submit work right now.")
    waits: str | None = Field(description="Why it waits, in words; null: it works, or rests.")
    hangs: str | None = Field(
        default=None, description="Which of its processes neither goes on nor rests, in words; null: all do."
    )


class Unfenced(BaseModel):
    """A process that uses a GPU and hasn't declared it."""

    pid: int
    bytes: int
    why: str
    away: bool = Field(default=False, description="The driver has it off the GPU while others need the room.")
    command: str = Field(description="What runs there; empty where nobody may know.")
    workload: str = Field(
        default="",
        description="Whose it is: a workload; of a cluster the pod with a part in which it runs. Empty: nobody's.",
    )


class SharedGpu(BaseModel):
    """What the broker says of a GPU of which parts are given out. Amounts are bytes."""

    bytes: int = Field(description="That may be given out.")
    used: int = Field(description="Given out, or not yet back from who has ended.")
    state: Literal["idle", "busy", "swaps"]
    holder: str | None = Field(description="Which group may submit now.")
    serial: bool = Field(description="Swapping cost too much, so its groups run one after another.")
    residents: list[Resident]
    unfenced: list[Unfenced]
    unlisted: int = Field(default=0, description="More of both than are listed here, on a cluster.")


class Gpu(BaseModel):
    """One GPU of a node."""

    node: str
    index: int
    model: str
    memory: str
    healthy: bool
    gone: bool = Field(
        description="It isn't there any more, but a task holds it; model and memory are empty then."
    )
    used: float = Field(description="0 to 1.")
    virtual: bool
    holders: list[Holder]
    shared: SharedGpu | None = Field(default=None, description="Where parts of it are given out; else null.")


class Gpus(BaseModel):
    """All GPUs, by node and index."""

    items: list[Gpu]


class Board(BaseModel):
    """What the last cycle saw and decided, in the file formats."""

    snapshot: dict[str, Any]
    decision: dict[str, Any]
    unfenced: list[dict[str, Any]] = Field(
        default=[],
        description="Processes that use a shared GPU and haven't declared it, with node and index.",
    )


class EngineStatus(BaseModel):
    """What makes decisions true here."""

    name: str
    devices: int
    nodes: int
    notes: list[str] = Field(description="What a user should know of it on this machine.")


class Status(BaseModel):
    """What the server is and does."""

    version: str
    pid: int
    data: str
    socket: str
    url: str | None
    started: str
    engine: EngineStatus
    trouble: list[str] = Field(description="What keeps the server from doing its work.")
    warnings: list[str] = Field(
        description="What the last decision found amiss: quotas that exceed what there is, nodes that give more than they have, "
        "gangs below their minimum."
    )
    loop: dict[str, Number]
    counts: dict[str, int] = Field(description="Workloads by state.")


class Health(BaseModel):
    """That the server answers and its loop runs."""

    ok: bool
