"""Labels and annotations that are read, by what they mean: ours first, then those of others whose manifests run here unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

OWN: Final = "gpumax.dev"
"""The domain of all our names."""

Keys = tuple[str, ...]
"""Names of one meaning; the first that is there counts."""

QUEUE: Final[Keys] = (f"{OWN}/queue", "kai.scheduler/queue", "runai/queue")
PRIORITY: Final[Keys] = (f"{OWN}/priority", "priorityClassName")
PREEMPTIBLE: Final[Keys] = (f"{OWN}/preemptible", "kai.scheduler/preemptibility")
TASK_PRIORITY: Final[Keys] = (f"{OWN}/task-priority", "kai.scheduler/task-priority")
MAX_DURATION: Final[Keys] = (f"{OWN}/max-duration",)

GANG: Final[Keys] = (f"{OWN}/gang", "pod-group-name", "scheduling.x-k8s.io/pod-group")
"""Of a pod: the gang that it is part of, in its namespace."""
GROUP: Final[Keys] = (f"{OWN}/group", "kai.scheduler/subgroup-name")
"""Of a pod: its group in the gang."""
MIN: Final[Keys] = (f"{OWN}/min", "kai.scheduler/batch-min-member")
"""How many tasks start together, where the kind of the owner doesn't say it."""

FRACTION: Final[Keys] = (f"{OWN}/gpu-fraction", "gpu-fraction")
MEMORY: Final[Keys] = (f"{OWN}/gpu-memory", "gpu-memory")
DEVICES: Final[Keys] = (f"{OWN}/gpu-devices", "gpu-fraction-num-devices")
CONTAINER: Final[Keys] = (f"{OWN}/gpu-container", "gpu-fraction-container-name")
"""Which container uses the part of a device; the first where none is named."""
FRACTION_LIMIT: Final[Keys] = (f"{OWN}/gpu-fraction-limit",)
MEMORY_LIMIT: Final[Keys] = (f"{OWN}/gpu-memory-limit",)
SWAP: Final[Keys] = (f"{OWN}/gpu-swap",)
"""Whether memory of a part may be moved to the node's own: `true` or `false`."""
MODE: Final[Keys] = (f"{OWN}/gpu-mode",)
"""How a part has its time: `fair` or `strict`."""

PART_ENV: Final[Keys] = (
    "NVIDIA_VISIBLE_DEVICES", "GPUMAX_SHARE", "GPUMAX_LIMIT", "GPUMAX_MODE", "GPUMAX_SWAP", "GPUMAX_GROUP", "GPUMAX_CONTEXT",
    "GPUMAX_SOCKET", "GPUMAX_DISABLE", "GPUMAX_REAL_LIBCUDA", "GPUMAX_REAL_LIBNVIDIA_ML",
)  # fmt: skip
"""Variables that say which part of which device a container has. Agents set them; the guard of decisions refuses them in pods."""

TOPOLOGY: Final[Keys] = (f"{OWN}/topology", "kai.scheduler/topology")
TOPOLOGY_REQUIRED: Final[Keys] = (f"{OWN}/topology-required", "kai.scheduler/topology-required-placement")
TOPOLOGY_PREFERRED: Final[Keys] = (f"{OWN}/topology-preferred", "kai.scheduler/topology-preferred-placement")
SEGMENT_SIZE: Final[Keys] = (f"{OWN}/segment-size", "kai.scheduler/segment-size")
SEGMENT_REQUIRED: Final[Keys] = (
    f"{OWN}/segment-required",
    "kai.scheduler/segment-topology-required-placement",
)
SEGMENT_PREFERRED: Final[Keys] = (
    f"{OWN}/segment-preferred",
    "kai.scheduler/segment-topology-preferred-placement",
)

GIVEN: Final = f"{OWN}/devices"
"""Of a pod: the parts of devices that it was given. The scheduler writes it together with the bind, and nobody else may."""
OFFERED: Final = f"{OWN}/gpus"
"""Of a node: the devices that its agent gives out, where they can't be published as ResourceSlices."""
RESIDENTS: Final = f"{OWN}/residents"
"""Of a node's ResourceSlice, or of the node where there are none: who shares its devices right now, as its agent says it for people to see."""
DRIVER: Final = f"gpu.{OWN}"
"""The name of the agent as a driver."""
PART: Final = f"{OWN}/gpu-part"
"""The resource by which a container gets its part where claims aren't served."""
CLAIM: Final = "gpumax"
"""A pod's own name for the claim to its part; claims themselves are called `gpumax-` and something."""

POOL: Final[Keys] = (f"{OWN}/pool", "kai.scheduler/node-pool", "runai/node-pool")
"""Of a node: its pool. Of work: the pool that it asks for."""

SCHEDULER: Final = f"{OWN}/scheduler"
"""Of a lease: pods of which schedulerName its holder schedules."""

WORKLOAD: Final = f"{OWN}/workload"
"""Of objects that a submitted workload consists of: its name."""
RUN: Final = f"{OWN}/run"
"""Of the same objects: which submit made them, unique for all time."""
FIRST_RANK: Final = f"{OWN}/first-rank"
"""Of a Job: the rank of its first task in the workload."""
FILE: Final = f"{OWN}/file"
"""Of a Job: the workload file that it was made of, every default written out, as JSON."""
FILES: Final = f"{OWN}/files"
"""Of a Job: the digest of the files that were brought along."""
WISH: Final = f"{OWN}/wish"
"""Of a Job: what a person asked of it last, where `suspend` alone doesn't say it."""

VENDOR: Final = f"{OWN}/vendor"
"""A label that nodes with devices get in a snapshot, and that whole devices of a vendor select: the vendor's resource name."""

READ: Final = frozenset().union(
    QUEUE, PRIORITY, PREEMPTIBLE, TASK_PRIORITY, MAX_DURATION, GANG, GROUP, MIN, FRACTION, MEMORY, DEVICES, CONTAINER,
    FRACTION_LIMIT, MEMORY_LIMIT, SWAP, MODE, TOPOLOGY, TOPOLOGY_REQUIRED, TOPOLOGY_PREFERRED, SEGMENT_SIZE, SEGMENT_REQUIRED,
    SEGMENT_PREFERRED, POOL,
)  # fmt: skip
"""All that users may write; another name in our domain is a slip. Of a pod's annotations no others are kept, but what was given to it."""

MADE: Final = frozenset((WORKLOAD, RUN))
"""What pods have of the workload that they were made for; nobody who schedules reads it."""


AGENT: Final = f"{OWN}/agent"
"""A label that nodes with an agent get in a snapshot, and that parts of devices select: `DRIVER` where it gives them out by claims, else `PART`."""


def said(keys: Keys, *places: Mapping[str, str]) -> tuple[str, str] | None:
    """The name that was used and its value: of the first place that has any of them."""
    for place in places:
        for key in keys:
            if key in place:
                return key, place[key]
    return None
