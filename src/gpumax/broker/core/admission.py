"""Whether a group can be had on these devices, beside those that are there: guarantees, shares and host memory add up."""

from __future__ import annotations

from gpumax.broker.core.shapes import WHOLE, GroupSpec, MemoryShare
from gpumax.broker.core.state import Device, Group, State


def objection(state: State, spec: GroupSpec) -> str:
    """Why it can't, in words, whatever an existing group of that name has; empty: it can."""
    if not 1 <= spec.share <= WHOLE:
        return f"share {spec.share / WHOLE:g}; it's between 0.001 and 1"
    if not spec.memory:
        return "no device"
    for name, memory in spec.memory.items():
        device = state.devices.get(name)
        if device is None:
            return f"device {name} isn't of this node"
        others = [g for g in state.groups.values() if name in g.spec.memory and g.name != spec.name]
        text = _on_device(device, spec, memory, others)
        if text:
            return text
    return _host_memory(state, spec)


def _on_device(device: Device, spec: GroupSpec, memory: MemoryShare, others: list[Group]) -> str:
    name, capacity = device.spec.name, device.spec.capacity
    if not 0 <= memory.guarantee <= memory.limit:
        return f"{gib(memory.guarantee)} guaranteed, limit {gib(memory.limit)} on {name}; a guarantee is within the limit"
    if memory.limit > capacity:
        return f"limit of {gib(memory.limit)}; {name} has {gib(capacity)}"
    given = sum(g.share_of(name).guarantee for g in others)
    if given + memory.guarantee > capacity:
        return f"{gib(memory.guarantee)} guaranteed; {name} has {gib(capacity - given)} left to guarantee"
    shares = sum(g.spec.share for g in others)
    if shares + spec.share > WHOLE:
        return f"share {spec.share / WHOLE:g}; {name} has {(WHOLE - shares) / WHOLE:g} left"
    return ""


def _host_memory(state: State, spec: GroupSpec) -> str:
    swappable = [g.spec for g in state.groups.values() if g.spec.swap and g.name != spec.name]
    host = sum(m.limit for each in [*swappable, spec] for m in each.memory.values())
    if spec.swap and host > state.settings.pool_bytes:
        return (
            f"swapping would need {gib(host)} of host memory; {gib(state.settings.pool_bytes)} are set aside"
        )
    return ""


def objection_to_change(group: Group, spec: GroupSpec) -> str:
    """What a group holds it keeps: its new amounts have to hold that, too."""
    if set(spec.memory) != set(group.spec.memory):
        return f"its devices are {', '.join(group.devices)}; others take a new group"
    for name, memory in spec.memory.items():
        claimed, pinned = group.claimed(name), group.pinned(name)
        most = memory.limit if spec.swap else memory.guarantee
        if claimed > most:
            return f"it has {gib(claimed)} of {name}; it can't be limited to {gib(most)} before it has given some back"
        if pinned > memory.guarantee:
            return f"{gib(pinned)} on {name} can't be swapped; a guarantee of {gib(memory.guarantee)} doesn't hold them"
    return ""


def gib(size: int) -> str:
    return f"{size / (1 << 30):.4g} GiB"
