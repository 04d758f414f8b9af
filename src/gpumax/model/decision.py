"""The answer: places, evictions, holds and the shares they rest on."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from gpumax.model.amounts import Resource
from gpumax.model.workload import DeviceShare

Cause = Literal["reclaim", "preempt", "consolidate", "stale"]

HoldCode = Literal[
    "QueueNotFound", "QueueInvalid", "QueueNotLeaf", "GangIncomplete", "OverLimit", "OverQuotaNonPreemptible", "NoNodeMatches",
    "NoRoom", "GangNoRoom", "Topology", "TaskAffinity", "WaitsForEvictions", "Reserved",
]  # fmt: skip

HOLD_CODES: Final[dict[HoldCode, str]] = {
    "QueueNotFound": "its queue does not exist",
    "QueueInvalid": "its queue is there and can't be used, since something is wrong with its object; only clusters have such queues",
    "QueueNotLeaf": "its queue has queues below it; work goes to leaves only",
    "GangIncomplete": "fewer tasks are ready to be placed than its minimum",
    "OverLimit": "its queue, or one above, would go over its limit",
    "OverQuotaNonPreemptible": "what is never evicted must fit the quota of its queue and of every queue above",
    "NoNodeMatches": "no node could take one of its tasks even if it were empty",
    "NoRoom": "nodes match, but none has room now",
    "GangNoRoom": "the tasks of the gang's minimum have no room together",
    "Topology": "no domain of the required topology level has room for it",
    "TaskAffinity": "nodes have room, but not near the tasks that it must be near, or not away from those it must be away from",
    "WaitsForEvictions": "an earlier decision is freeing room for it",
    "Reserved": "the room that it would fit in is kept for a gang that has waited for longer",
}

NodeReason = Literal[
    "NotReady", "Cordoned", "WrongPool", "TaintNotTolerated", "SelectorMismatch", "AffinityMismatch", "ModelMismatch",
    "NotEnoughGpu", "NotEnoughSlices", "NotEnoughCpu", "NotEnoughMemory", "NotEnoughExtended", "TooManyTasks",
    "TaskAffinityMismatch", "TaskAntiAffinityMismatch", "KeptAwayByTask", "TopologyMismatch",
]  # fmt: skip

NODE_REASONS: Final[dict[NodeReason, str]] = {
    "NotReady": "it is not ready",
    "Cordoned": "it is cordoned: nothing new goes there",
    "WrongPool": "it is in another pool than the workload asks for",
    "TaintNotTolerated": "it has a taint that the task does not tolerate",
    "SelectorMismatch": "its labels are not those of the task's selector",
    "AffinityMismatch": "it is none of the nodes that the task's affinity requires",
    "ModelMismatch": "none of its devices is of a model that the task asks for",
    "NotEnoughGpu": "too few of its devices have room for what the task asks of each",
    "NotEnoughSlices": "its sliced devices can't take all the slices that the task asks for",
    "NotEnoughCpu": "it has too few cores left",
    "NotEnoughMemory": "it has too little host memory left",
    "NotEnoughExtended": "it has too little of another resource left",
    "TooManyTasks": "it takes no more tasks",
    "TaskAffinityMismatch": "it has room, but the tasks that the task's affinity requires are not in its domain",
    "TaskAntiAffinityMismatch": "it has room, but tasks are in its domain that the task's anti-affinity keeps away from",
    "KeptAwayByTask": "it has room, but a task is in its domain whose anti-affinity keeps the task away",
    "TopologyMismatch": "it has room for the task, but stands in no domain that has room for all that must be together",
}
"""Why one node can't take a task; the first that applies, in this order."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a task goes. after: names of the tasks whose departure it waits for."""

    task: str
    node: str
    devices: tuple[DeviceShare, ...] = ()
    after: tuple[str, ...] = ()


class Eviction(msgspec.Struct, frozen=True, gc=False):
    """A task that has to go, and for which workload. restarts_on, devices: only where it is moved."""

    task: str
    cause: Cause
    beneficiary: str
    restarts_on: str | None = None
    devices: tuple[DeviceShare, ...] = ()


class Hold(msgspec.Struct, frozen=True, gc=False):
    """Not now, and why. nodes: how many nodes fail for which reason. short: milli-devices, millicores, MiB, or counts.

    forecast_ms: when some of it starts, if nothing else comes; None where nobody knows. reserved: room is kept for it then.
    """

    workload: str
    code: HoldCode
    message: str
    nodes: dict[str, int] = {}
    short: dict[str, int] = {}
    forecast_ms: int | None = None
    reserved: bool = False


class Share(msgspec.Struct, frozen=True, gc=False):
    """What a queue may hold of a resource, and what it holds and wants, in milli-devices, millicores or MiB."""

    queue: str
    resource: Resource
    quota: int
    share: int
    allocated: int
    demand: int


class Decision(msgspec.Struct, frozen=True):
    """Every waiting workload is in `places` or has one row in `holds`."""

    places: tuple[Place, ...] = ()
    evictions: tuple[Eviction, ...] = ()
    holds: tuple[Hold, ...] = ()
    shares: tuple[Share, ...] = ()
    warnings: tuple[str, ...] = ()
