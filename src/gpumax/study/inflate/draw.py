"""What comes, and in which order: drawn from a seed, the same for every rule."""

from __future__ import annotations

from random import Random

from msgspec.structs import replace

from gpumax.model.node import Node
from gpumax.model.trace import Arrival
from gpumax.units import MILLI


def milli(arrival: Arrival) -> int:
    """The milli-devices that an arrival asks for. What asks by memory counts whole devices: of which size isn't known yet."""
    return arrival.devices * (MILLI if arrival.gpu_memory_mib else arrival.milli)


def drawn(arrivals: tuple[Arrival, ...], target: int, seed: int) -> list[Arrival]:
    """The arrivals, by name and then shuffled, lengthened or shortened until they ask for `target` milli-devices.

    As the paper's simulator does it. Lengthened: by copies drawn with replacement, until the next would ask for more; its test
    counts one device of the next only, so that a last one of several devices may go beyond. Shortened: by leaving any out.
    """
    chance = Random(f"{seed} arrivals")  # noqa: S311  # a study's chance comes from its seed
    rows = sorted(arrivals, key=lambda arrival: arrival.name)
    chance.shuffle(rows)
    total = sum(map(milli, rows))
    while total > target:
        total -= milli(rows.pop(chance.randrange(len(rows))))
    originals, copies = list(rows), 0
    while total < target and total > 0:
        one = originals[chance.randrange(len(originals))]
        if total + milli(one) // max(one.devices, 1) > target:
            break
        total += milli(one)
        rows.append(replace(one, name=f"{one.name}-copy-{copies}"))
        copies += 1
    return rows


def shuffled(nodes: tuple[Node, ...], seed: int) -> tuple[Node, ...]:
    """The nodes in an order drawn from the seed, renamed so that this is the order of their names.

    Rules that find two nodes equal take the first. An order that is fixed for the whole run is worth several percent of the
    capacity against one drawn anew for each arrival, which leaves holes everywhere.
    """
    chance = Random(f"{seed} nodes")  # noqa: S311
    rows = sorted(nodes, key=lambda node: node.name)
    chance.shuffle(rows)
    digits = len(str(len(rows)))
    return tuple(replace(node, name=f"{at:0{digits}d}-{node.name}") for at, node in enumerate(rows))
