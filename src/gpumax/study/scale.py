"""The same work on a cluster of another size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import floor

import msgspec

from gpumax.errors import Refused
from gpumax.model.amounts import Amounts
from gpumax.model.node import Node
from gpumax.model.queue import Queue
from gpumax.model.study import Scenario
from gpumax.units import UNLIMITED
from gpumax.words import plural


def scaled(scenario: Scenario, part: Fraction) -> Scenario:
    """So large a part of the nodes, and of quotas and limits; of 1 the scenario itself. Refused where no node is left.

    Every kind of node keeps its part as nearly as whole nodes allow. Weights stay: only their ratios count.
    """
    if part == 1:
        return scenario
    nodes = tuple(_nodes(scenario.nodes, part))
    if not nodes:
        raise Refused(
            f"{float(part):g} of {plural(len(scenario.nodes), 'node')} is not even one; choose a larger scale"
        )
    return msgspec.structs.replace(
        scenario,
        nodes=nodes,
        queues=tuple(scaled_queue(queue, part) for queue in scenario.queues),
    )


def _nodes(nodes: Sequence[Node], part: Fraction) -> Iterator[Node]:
    """Evenly out of the list; the second of a node has a name of its own."""
    for number, node in enumerate(nodes):
        for copy in range(floor((number + 1) * part) - floor(number * part)):
            yield node if copy == 0 else msgspec.structs.replace(node, name=f"{node.name}-{copy + 1}")


def scaled_queue(queue: Queue, part: Fraction) -> Queue:
    """So large a part of its quota and limit."""
    return msgspec.structs.replace(
        queue, quota=_amounts(queue.quota, part), limit=_amounts(queue.limit, part)
    )


def _amounts(amounts: Amounts, part: Fraction) -> Amounts:
    values = msgspec.structs.asdict(amounts)
    # Down, so that the quotas of all never come to more than the cluster has.
    return Amounts(
        **{name: value if value >= UNLIMITED else floor(value * part) for name, value in values.items()}
    )
