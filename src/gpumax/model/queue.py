"""The quota tree."""

from __future__ import annotations

import msgspec

from gpumax.model.amounts import BOUNDLESS, NONE, Amounts


class Queue(msgspec.Struct, frozen=True):
    """A node of the quota tree. Work goes to leaves only.

    weight: thousandths, one a resource; divides what is left when every quota is served.
    usage: decayed past use in millionths of the cluster.
    A minimum runtime of None is the parent's, and so are demote and fresh.
    demote: thousandths of a GPU hour, rising: with each that work has held its priority falls by one. fresh: the queue
    in which it counts until the first of them.
    """

    name: str
    parent: str | None = None
    priority: int = 100
    quota: Amounts = NONE
    limit: Amounts = BOUNDLESS
    weight: Amounts = Amounts(1000, 1000, 1000)
    created_ms: int = 0
    preempt_min_runtime_ms: int | None = None
    reclaim_min_runtime_ms: int | None = None
    usage: Amounts = NONE
    demote: tuple[int, ...] | None = None
    fresh: str | None = None
