"""New places for work that has to leave its own."""

from __future__ import annotations

from collections.abc import Iterable

from gpumax.policy.gang import Spot, Want
from gpumax.policy.place import Placer, ways
from gpumax.policy.topology import scopes, wished
from gpumax.policy.victims import Part, Trial
from gpumax.policy.world import World


def rehome(world: World, trial: Trial, part: Part) -> list[Spot]:
    """New places for all tasks of a part that has to go; empty where they don't all fit.

    On room that is free now, or, where the trial says so, also on what others leave.
    """
    _hide(trial, part)
    spots = _together(world, trial, part) if wished(part.workload) else _anywhere(world, trial, part)
    _hide(trial, part, -1)
    for spot in spots:
        trial.ledger.expect(spot.held)
    return spots


def _hide(trial: Trial, part: Part, sign: int = 1) -> None:
    """A part that leaves keeps nobody of its own away from the new places (1); it keeps others away (-1)."""
    crowd = trial.ledger.now.crowd
    for held in part.helds:
        if held.tied is not None and crowd is not None:
            crowd.hide(held.tied, held.row, sign)


def rehouse(world: World, trial: Trial, parts: Iterable[Part]) -> bool:
    """Find new places for all of these, the largest first; whether that was possible."""
    for part in sorted(parts, key=lambda part: (*part.amounts, part.core, part.rank), reverse=True):
        spots = rehome(world, trial, part)
        if not spots:
            return False
        trial.moved[part] = spots
    return True


def _anywhere(world: World, trial: Trial, part: Part) -> list[Spot]:
    asks = [world.asks.of(part.workload, task) for task in part.tasks]
    # Free room only shrinks while parts are moved: where an ask found none, it will find none.
    if not trial.homeless.isdisjoint(asks):
        return []
    ledger = trial.ledger if len(asks) == 1 else trial.ledger.copy()
    placer = Placer(world.fits, world.scores)
    spots: list[Spot] = []
    for task, ask in zip(part.tasks, asks, strict=True):
        spot = placer.spot(ledger, Want(task, ask, ()), tuple(range(len(ask.gpu))), later=trial.in_turn)
        if spot is None:
            if not spots and ask.filter.tied is None:
                trial.homeless.add(ask)
            return []
        spots.append(spot)
    trial.ledger = ledger
    return spots


def _together(world: World, trial: Trial, part: Part) -> list[Spot]:
    """New places for a part of a workload that wishes something of the topology; empty where there are none.

    A minimum moves as a whole, to wherever it may stand; an extra stays in the domains in which it stands.
    """
    if part.core:
        moved_before = any(extra.gone for extra in part.rest)
    else:
        moved_before = any(part in core.rest for core in trial.gone)
    within = scopes(part.workload, world.domains, world.nodes.row_of, anew=part.core)
    if moved_before or within is None:
        return []
    wants = [Want(task, world.asks.of(part.workload, task), (), within.get(task.name)) for task in part.tasks]
    placer = Placer(world.fits, world.scores)
    for choices in ways(wants):
        found = placer.arrange(trial.ledger.copy(), wants, choices, later=trial.in_turn)
        if found is not None:
            trial.ledger = found[0]
            return found[1]
    return []
