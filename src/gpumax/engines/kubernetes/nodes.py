"""A node of the API becomes a node of a snapshot."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple, get_args

from gpumax.engines.kubernetes import keys, quantities
from gpumax.engines.kubernetes.views import NodeObject as NodeView
from gpumax.model.node import Device, Effect, Node, Taint

MODELS: Final = ("nvidia.com/gpu.product", "amd.com/gpu.product-name", "cloud.google.com/gke-accelerator")
"""Labels that name the model of a node's devices."""
DEVICE_MEMORY: Final = ("nvidia.com/gpu.memory",)
"""Labels that give the memory of each device, in MiB."""
MOST_DEVICES: Final = 256
_EFFECTS: Final = frozenset(get_args(Effect))
_DOWN: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_MODEL: Final = re.compile(r"[^A-Za-z0-9 ._+/()-]")


class NodeRead(NamedTuple):
    """A node, and what was odd about it, as sentences."""

    node: Node
    oddities: tuple[str, ...] = ()


def read_node(view: NodeView) -> NodeRead:
    """The node as decisions see it: what may be allocated. What can't be read counts as nothing, and is told."""
    oddities: list[str] = []
    labels = view.metadata.labels or {}
    there, bad = quantities.exact(view.status.allocatable or {})
    built, _ = quantities.exact(view.status.capacity or {})
    oddities += [
        f"{name} is {str(amount)[:40]!r}, which is no amount; it counts as none"
        for name, amount in bad.items()
    ]
    vendor, devices = _devices(labels, there, built, oddities)
    if vendor:
        labels = {**labels, keys.VENDOR: vendor}
    pool = keys.said(keys.POOL, labels)
    ready = any(one.type == "Ready" and one.status == "True" for one in view.status.conditions or ())
    return NodeRead(
        Node(
            name=view.metadata.name,
            pool=pool[1] if pool else "",
            cpu_milli=_amount(there, "cpu"),
            memory_mib=_amount(there, "memory"),
            tasks=_amount(there, "pods") if "pods" in there else None,
            devices=devices,
            extended=quantities.others(there, quantities.down),
            labels=labels,
            taints=_taints(view, ready),
            ready=ready,
            cordoned=view.spec.unschedulable is True,
        ),
        tuple(f"node {view.metadata.name}: {oddity}" for oddity in oddities),
    )


def _devices(
    labels: Mapping[str, str],
    there: quantities.Exact,
    built: quantities.Exact,
    oddities: list[str],
) -> tuple[str, tuple[Device, ...]]:
    """Of which vendor, and the devices: whole ones first, then those that are cut."""
    counts = {name: _amount(there, name) for name in quantities.GPUS}
    most = {name: max(counts[name], _amount(built, name)) for name in quantities.GPUS}
    slices = quantities.slices(there)
    vendor = max(
        (name for name in quantities.GPUS if most[name]),
        key=lambda name: most[name],
        default=quantities.NVIDIA if slices else "",
    )
    others = [name for name in quantities.GPUS if name != vendor and counts[name]]
    if others:
        oddities.append(f"devices of several vendors; only those of {vendor} are given out")
    model = _MODEL.sub("-", _first(labels, MODELS))[:64]
    memory = _memory(_first(labels, DEVICE_MEMORY), oddities)
    well = counts.get(vendor, 0)
    # What is built in and can't be allocated is broken; nobody says which one it is, so the last ones count as that.
    whole = min(most.get(vendor, 0), MOST_DEVICES)
    devices = [Device(index, model, memory, healthy=index < well) for index in range(whole)]
    cut = _cut(labels, slices, whole)
    devices += [Device(whole + index, model, memory, slices=own) for index, own in enumerate(cut)]
    return vendor, tuple(devices)


def _cut(labels: Mapping[str, str], slices: Mapping[str, int], whole: int) -> list[dict[str, int]]:
    """What each device that is cut offers. The API tells sums; devices of a node are cut alike, as far as the sums allow."""
    if not slices:
        return []
    said = labels.get("nvidia.com/gpu.count", "")
    number = int(said) - whole if said.isascii() and said.isdigit() and len(said) < 4 else 0
    # Of seven parts each.
    least = -(-sum(int(profile[0]) * count for profile, count in slices.items()) // 7)
    number = min(max(number, least, 1), MOST_DEVICES)
    found: list[dict[str, int]] = [{} for _ in range(number)]
    for profile, count in slices.items():
        each, more = divmod(count, number)
        for index, own in enumerate(found):
            if part := each + (index < more):
                own[profile] = part
    return [own for own in found if own]


def _memory(written: str, oddities: list[str]) -> int:
    if not written:
        return 0
    if written.isascii() and written.isdigit() and len(written) < 10:
        return int(written)
    oddities.append(
        f"the label {DEVICE_MEMORY[0]} is {written[:40]!r}; wanted MiB of each device, like 81559"
    )
    return 0


def _taints(view: NodeView, ready: bool) -> tuple[Taint, ...]:
    """Taints that keep pods away. What a later API adds has no effect that is known, so it keeps everybody away.

    A cordon is told twice, and so is that a node isn't ready: who asks what a node would take if it were back looks past these.
    """
    twice = {"node.kubernetes.io/unschedulable", *(() if ready else _DOWN)}
    return tuple(
        Taint(taint.key, taint.value or "", taint.effect if taint.effect in _EFFECTS else "NoSchedule")  # type: ignore[arg-type]
        for taint in view.spec.taints or ()
        if taint.key not in twice
    )


def _amount(amounts: quantities.Exact, name: str) -> int:
    return quantities.down(name, amounts[name]) if name in amounts else 0


def _first(labels: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")
