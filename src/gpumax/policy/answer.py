"""The places of a world as an answer names them."""

from __future__ import annotations

from collections.abc import Iterable

from gpumax.model.decision import Place
from gpumax.policy.place import awaited
from gpumax.policy.world import World


def places(world: World) -> Iterable[Place]:
    """Places gang by gang. A gang starts whole: if one place of its minimum waits, all wait for the same tasks."""
    anew = _anew(world) if world.ledger.stirred else {}
    for gang in world.placed.values():
        afters = [spot.after for spot in gang.placed]
        if anew:
            afters = [anew.get(spot.want.task.name, spot.after) for spot in gang.placed]
        everyone = tuple(sorted(set().union(*afters))) if any(afters[: gang.together]) else ()
        for spot, after in zip(gang.placed, afters, strict=True):
            held = spot.held
            where = world.nodes.names[held.row]
            yield Place(spot.want.task.name, where, world.ledger.shares(held), everyone or after)


def _anew(world: World) -> dict[str, tuple[str, ...]]:
    """Whom places wait for on nodes where somebody who came later starts at once, on room that seemed free when they were found."""
    ledger = world.ledger.copy()
    found: dict[str, tuple[str, ...]] = {}
    spots = [spot for gang in world.placed.values() for spot in gang.placed]
    for spot in reversed(spots):
        if spot.after and spot.held.row in ledger.stirred:
            found[spot.want.task.name] = awaited(ledger, spot.held)
            ledger.later.take(spot.held, sign=-1)
    return found
