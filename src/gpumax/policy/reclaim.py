"""Reclaim: a queue within its share takes back what others hold above theirs."""

from __future__ import annotations

from gpumax.policy.fairness import Fairness
from gpumax.policy.take import take
from gpumax.policy.world import World


def reclaim(world: World) -> None:
    """Serve waiting work of queues within their share; what stays unserved stays in `world.waiting`."""
    take(world, Fairness, world.waiting)
