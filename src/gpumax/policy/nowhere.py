"""Why no GPU and no node of the cluster can ever serve an ask."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gpumax.model.node import Device
from gpumax.model.workload import NodeTerm
from gpumax.policy.ask import Ask, Filter
from gpumax.policy.words import listed, some
from gpumax.policy.world import World
from gpumax.units import format_memory


def no_such_device(world: World, ask: Ask) -> str:
    """What the GPUs that there are lack, in words; empty where one of them would do."""
    alternatives = [gpu for gpu in ask.gpu if gpu is not None]
    refusals = world.fits.refusals(ask.filter)
    rows = [row for row, why in enumerate(refusals) if why is None]
    if not rows or not alternatives:
        return ""
    if any(world.nodes.usable(gpu)[0][rows].any() for gpu in alternatives):
        return ""
    where = " where it may run" if len(rows) < len(refusals) else ""
    devices = [
        device
        for row in rows
        for device in world.nodes.nodes[row].devices
        if device.healthy and not device.slices
    ]
    if not devices:
        return f"there is no healthy whole GPU{where}"
    asked = {gpu.model for gpu in alternatives}
    if "" not in asked and not any(device.model in asked for device in devices):
        return f"there is no {listed(sorted(asked), 'or')}{where}, only {_models(devices)}"
    sizes = [device.memory_mib for device in devices if "" in asked or device.model in asked]
    if not max(sizes):
        return f"the memory of the GPUs{where} isn't known"
    what = "GPU" if "" in asked else listed(sorted(asked), "or")
    return f"the largest {what}{where} has {format_memory(max(sizes))}"


def _models(devices: Iterable[Device]) -> str:
    return listed(sorted({device.model or "GPUs of unknown model" for device in devices}))


MOST_VALUES: Final = 5
"""Of a label that is told."""


def no_such_label(world: World, ask: Ask) -> str:
    """The label that it wants and no node has, and what they have instead; empty where no single label is to blame."""
    nodes = world.nodes.nodes
    for key, wanted in _wanted(ask.filter):
        there = {node.labels[key] for node in nodes if key in node.labels}
        if there.isdisjoint(wanted):
            told = f"no node has {key} {listed(sorted(wanted), 'or')}"
            return (
                f"{told}, only {some(sorted(there), MOST_VALUES)}"
                if there
                else f"{told}, nor any other {key}"
            )
    return ""


def _wanted(wanted: Filter) -> Iterable[tuple[str, frozenset[str]]]:
    """Labels without one of whose values no node is wanted."""
    for key, value in wanted.selector:
        yield key, frozenset((value,))
    terms = wanted.affinity.required if wanted.affinity is not None else None
    if terms:
        each = [_values(term) for term in terms]
        for key in each[0]:
            if all(key in own for own in each):
                yield key, frozenset().union(*(own[key] for own in each))


def _values(term: NodeTerm) -> dict[str, frozenset[str]]:
    """By label, the values that the term takes."""
    return {row.key: frozenset(row.values) for row in term.labels if row.operator == "In"}
