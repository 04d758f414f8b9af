"""Reclaim: a queue within its share takes back what others hold above theirs."""

from __future__ import annotations

from collections.abc import Iterator

from gpumax.policy.detour import Detour
from gpumax.policy.fairness import Fairness
from gpumax.policy.gang import Gang, Want
from gpumax.policy.ground import Ground
from gpumax.policy.rights import Rights
from gpumax.policy.take import take
from gpumax.policy.world import World


def reclaim(world: World) -> None:
    """Serve waiting work of queues within their share; what stays unserved stays in `world.waiting`."""
    ground = Ground(world)

    def rights(gang: Gang, wants: list[Want]) -> Iterator[Rights]:
        fair = Fairness(gang, wants)
        yield fair
        if fair.eligible(gang):
            yield Detour(ground, gang, wants)

    take(world, rights, world.waiting)
