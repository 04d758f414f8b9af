"""What in a snapshot does not agree with itself, and what is made of it: it is counted as it stands, and said."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gpumax.policy.words import amounts, some
from gpumax.policy.world import World


def overfull(world: World) -> Iterator[str]:
    """A sentence for each node that gives more than it has; asked before anything is decided."""
    room, nodes = world.ledger.now, world.nodes
    columns = {"cpu": room.cpu, "memory": room.memory, "tasks": room.tasks, **room.extended}
    short = np.any([free < 0 for free in columns.values()], axis=0)
    for row in np.flatnonzero(short).tolist():
        over = {name: -int(free[row]) for name, free in columns.items() if free[row] < 0}
        yield f"what runs on node {nodes.names[row]} holds {amounts(over)} more than there is; nothing that needs it is placed there"


def below_minimum(world: World) -> Iterator[str]:
    """A sentence about the gangs that run with less than their minimum when the decision is carried out."""
    names = [
        workload.name
        for workload in world.census.below()
        # Who goes in this decision is no concern of the next.
        if workload.name not in world.placed
        and not any(task.name in world.evicted for task in workload.tasks)
    ]
    if names:
        one = len(names) == 1
        yield (
            f"{some(names)} run{'s' * one} below {'its' if one else 'their'} minimum: what is left of a gang holds its room "
            "until it is whole again or its grace has passed"
        )
