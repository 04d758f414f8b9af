"""What was true at one moment: all that one decision needs."""

from __future__ import annotations

from typing import Literal

import msgspec

from gpumax.model.node import Node
from gpumax.model.queue import Queue
from gpumax.model.workload import Workload

Strategy = Literal["pack", "spread", "dense"]


class Placement(msgspec.Struct, frozen=True):
    """How nodes are filled, for work with GPUs and for work without. dense: so that the fewest GPUs end up without cores or memory.

    Where the nodes that fit are of several strategies, dense ones count as packed.
    """

    gpu: Strategy = "pack"
    cpu: Strategy = "pack"


class Policy(msgspec.Struct, frozen=True):
    """Options of the policy. fairness_k: millionths. max_evictions 0: no bound. pools: placement by pool.

    reserve_after_ms: a gang that waits at the head for longer gets a reservation.
    """

    placement: Placement = Placement()
    fairness_k: int = 1_000_000
    max_evictions: int = 0
    search_steps: int = 10_000
    pools: dict[str, Placement] = {}
    stale_grace_ms: int = 60_000
    reserve_after_ms: int = 3_600_000


class Topology(msgspec.Struct, frozen=True):
    """How nodes stand together: node labels, the widest level first."""

    name: str
    levels: tuple[str, ...]


class Snapshot(msgspec.Struct, frozen=True):
    """The state of a cluster. Every row is sorted by name; equal states are equal byte by byte."""

    now_ms: int = 0
    nodes: tuple[Node, ...] = ()
    queues: tuple[Queue, ...] = ()
    workloads: tuple[Workload, ...] = ()
    policy: Policy = Policy()
    topologies: tuple[Topology, ...] = ()
