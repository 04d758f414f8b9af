"""What the store keeps of a workload and its tasks, and what happened to them."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from gpumax.model.decision import Cause, Hold
from gpumax.model.queue import Queue
from gpumax.model.spec import WorkloadSpec
from gpumax.model.workload import DeviceShare, TaskState

WorkloadState = Literal["pending", "running", "suspended", "succeeded", "failed", "stopped"]
FINISHED: Final = frozenset(("succeeded", "failed", "stopped"))

Wish = Literal["run", "suspend", "stop", "delete"]
"""What the person wants of the workload; the loop makes it true."""

EventKind = Literal[
    "Submitted", "Placed", "Started", "Held", "Evicted", "Exited", "Retried", "Lost", "Suspended", "Resumed",
    "Stopping", "Suspending", "Deleting", "Stopped", "Succeeded", "Failed", "Deleted", "QueueSet", "QueueDeleted", "RuleBroken", "Refused",
    "CycleFailed", "JournalFailed", "Warned",
]  # fmt: skip


class TaskRecord(msgspec.Struct, frozen=True):
    """One task of a submitted workload. index is its rank. attempt names the current start, unique for all time.

    reason: why it is in its state, in words; cause, beneficiary: of its last eviction.
    """

    workload_id: str
    index: int
    name: str
    group: str
    state: TaskState = "pending"
    attempt: str | None = None
    node: str | None = None
    devices: tuple[DeviceShare, ...] = ()
    started_ms: int | None = None
    ended_ms: int | None = None
    exit_code: int | None = None
    reason: str = ""
    cause: Cause | None = None
    beneficiary: str = ""


class WorkloadRecord(msgspec.Struct, frozen=True):
    """A submitted workload. id: stable over restarts (GPUMAX_RUN).

    runs: how often it was started; failures: ends of its own fault (evictions never count); started_ms: of this run.
    failures_in_a_row: since a run that lasted; retry_ms: when it starts again after a failure, None where it waits for
    nothing but room. objection: what the engine says against a start, wherever it were.
    stale_since_ms: when tasks of it that run became too few for its minimum; None while they are enough.
    device_ms: milli-device-milliseconds it has held so far, finished attempts only.
    """

    id: str
    spec: WorkloadSpec
    submitted_ms: int
    state: WorkloadState = "pending"
    wish: Wish = "run"
    started_ms: int | None = None
    ended_ms: int | None = None
    runs: int = 0
    failures: int = 0
    failures_in_a_row: int = 0
    retry_ms: int | None = None
    objection: str = ""
    evictions: int = 0
    device_ms: int = 0
    stale_since_ms: int | None = None
    hold: Hold | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        """Unique among all workloads that are not deleted."""
        return self.spec.name


Pair = tuple[WorkloadRecord, tuple[TaskRecord, ...]]
"""A workload with its tasks in rank order."""


class Event(msgspec.Struct, frozen=True):
    """Something that happened. seq: given by the store, rising; 0 before that."""

    at_ms: int
    kind: EventKind
    message: str
    workload: str = ""
    task: str = ""
    seq: int = 0


class Live(msgspec.Struct, frozen=True):
    """All that the loop works on: every queue, and every workload that isn't finished with its tasks in rank order."""

    queues: tuple[Queue, ...] = ()
    workloads: tuple[Pair, ...] = ()


class Changes(msgspec.Struct, frozen=True):
    """Rows to write in one transaction: whole records by their keys, new events, and workloads to forget by id."""

    workloads: tuple[WorkloadRecord, ...] = ()
    tasks: tuple[TaskRecord, ...] = ()
    events: tuple[Event, ...] = ()
    deleted: tuple[str, ...] = ()
