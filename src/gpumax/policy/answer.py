"""The places of a world as an answer names them."""

from __future__ import annotations

from collections.abc import Iterable

from gpumax.model.decision import Place
from gpumax.policy.world import World


def places(world: World) -> Iterable[Place]:
    """Places gang by gang. A gang starts whole: if one place of its minimum waits, all wait for the same tasks."""
    for gang in world.placed.values():
        waits = any(spot.after for spot in gang.placed[: gang.together])
        everyone = tuple(sorted({name for spot in gang.placed for name in spot.after})) if waits else ()
        for spot in gang.placed:
            held = spot.held
            after = everyone or spot.after
            yield Place(spot.want.task.name, world.nodes.names[held.row], world.ledger.shares(held), after)
