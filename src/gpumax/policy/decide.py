"""The one door of the policy: a snapshot in, a decision out."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from gpumax.errors import BadFile, Fault
from gpumax.model.decision import Decision
from gpumax.model.snapshot import Snapshot
from gpumax.policy.allocate import allocate
from gpumax.policy.answer import places
from gpumax.policy.consolidate import consolidate
from gpumax.policy.doubts import below_minimum, overfull
from gpumax.policy.forecast import QUICK, Effort
from gpumax.policy.hold import holds
from gpumax.policy.preempt import preempt
from gpumax.policy.reclaim import reclaim
from gpumax.policy.stale import stale
from gpumax.policy.world import World

PASSES: Final[dict[str, Callable[[World], None]]] = {
    "allocate": allocate, "consolidate": consolidate, "reclaim": reclaim, "preempt": preempt, "stale": stale,
}  # fmt: skip
"""Least disruptive first; this is the order in which they run, whatever the order in which they are named."""


def decide(snapshot: Snapshot, passes: Iterable[str] = tuple(PASSES), *, effort: Effort = QUICK) -> Decision:
    """What follows from a snapshot. Pure: equal snapshots give equal decisions.

    passes: the names of those to run. Raises BadFile for a name that is none. effort: how far forecasts look ahead.
    """
    wanted = set(passes)
    if unknown := sorted(wanted - PASSES.keys()):
        raise BadFile([Fault("passes", None, ", ".join(unknown), f"some of {', '.join(PASSES)}")])
    with _no_collection():
        return _decide(snapshot, wanted, effort)


def decided(snapshot: Snapshot, wanted: Iterable[str]) -> World:
    """The world after these passes: what an explanation looks into."""
    world, wanted = World(snapshot), set(wanted)
    world.warnings += overfull(world)
    for name, run in PASSES.items():
        if name in wanted:
            run(world)
            if world.released:
                # Somebody for whom room was kept has found other room: what was kept is for everybody again.
                world.released = False
                allocate(world)
    return world


def _decide(snapshot: Snapshot, wanted: set[str], effort: Effort) -> Decision:
    world = decided(snapshot, wanted)
    return Decision(
        places=tuple(places(world)),
        evictions=tuple(world.evictions),
        holds=holds(world, partial(decided, wanted=wanted), effort),
        shares=world.shares,
        warnings=(*world.warnings, *below_minimum(world)),
    )


@contextmanager
def _no_collection() -> Iterator[None]:
    """A decision makes many small objects that all live to its end: to search them for garbage costs a third of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
