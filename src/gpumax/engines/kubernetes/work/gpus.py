"""What a task asks for of GPUs, as a pod says it: limits for whole ones, annotations for parts, affinity for models."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.nodes import MODELS
from gpumax.engines.kubernetes.quantities import NVIDIA
from gpumax.formats.shape import Bad, Wrong
from gpumax.model.spec import GroupSpec
from gpumax.model.workload import DeviceAsk, DeviceLimit
from gpumax.units import MILLI

PREFERRED: Final = 100
"""The most that Kubernetes lets a preference weigh."""
_WORDS: Final = re.compile(r"[^a-z0-9]+")


class Gpus(NamedTuple):
    """Parts of a pod. terms: node selector terms, one of which must hold; preferred: weights and terms, the best first."""

    limits: dict[str, str]
    annotations: dict[str, str]
    terms: tuple[dict[str, Any], ...] = ()
    preferred: tuple[tuple[int, dict[str, Any]], ...] = ()


def gpus(group: GroupSpec, labels: Sequence[Mapping[str, str]]) -> Gpus:
    """What a group's tasks ask for as a pod has it. labels: of the cluster's nodes, as far as they are known. Bad where no pod can say it."""
    asks = group.request.gpu
    if not asks:
        return Gpus({}, {})
    first = asks[0]
    for index, ask in enumerate(asks):
        if (ask.devices, ask.milli, ask.memory_mib) != (first.devices, first.milli, first.memory_mib):
            wanted = (
                "alternatives of one size: a pod asks for one number of GPUs, and leaves the model alone open"
            )
            raise Bad([Wrong(("gpu", index), "another size than the first alternative", wanted)])
    limits, annotations = _amount(first)
    if annotations:
        annotations |= _sharing(group)
    models = [ask.model for ask in asks]
    if "" in models:
        # From there on any model will do, so no model is required.
        terms: list[dict[str, Any]] = []
    else:
        terms = [term for model in models for term in _terms(model, labels)]
    wishes = [
        (max(PREFERRED - rank, 1), term)
        for rank, model in enumerate(models)
        if model and len(asks) > 1
        for term in _terms(model, labels)
    ]
    return Gpus(limits, annotations, tuple(terms), tuple(wishes))


def _amount(ask: DeviceAsk) -> tuple[dict[str, str], dict[str, str]]:
    if ask.memory_mib:
        parts = {keys.MEMORY[0]: str(ask.memory_mib)}
    elif ask.milli < MILLI:
        parts = {keys.FRACTION[0]: f"{ask.milli / MILLI:g}"}
    else:
        return {NVIDIA: str(ask.devices)}, {}
    return {}, parts if ask.devices == 1 else {**parts, keys.DEVICES[0]: str(ask.devices)}


def _sharing(group: GroupSpec) -> dict[str, str]:
    """How a part is shared. Whoever has whole devices has all of their memory and time: nothing is said of those."""
    most = group.request.limit or DeviceLimit()
    said = {
        keys.FRACTION_LIMIT[0]: f"{most.milli / MILLI:g}" if most.milli else "",
        keys.MEMORY_LIMIT[0]: str(most.memory_mib or ""),
        keys.SWAP[0]: "true" if group.swap else "",
        keys.MODE[0]: "strict" if group.strict else "",
    }
    return {key: value for key, value in said.items() if value}


def _terms(model: str, labels: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Nodes whose devices are of this model. Vendors write more than people do: `H100` means NVIDIA-H100-80GB-HBM3, too."""
    found: dict[str, set[str]] = {}
    for own in labels:
        for key in MODELS:
            if key in own and _is(model, own[key]):
                found.setdefault(key, set()).add(own[key])
    if not found:
        # Nobody has it, or nobody may know: then the scheduler tells which there are.
        there = [key for key in MODELS if any(key in own for own in labels)] or MODELS[:1]
        found = {key: {model.replace(" ", "-")} for key in there}
    return [
        {"matchExpressions": [{"key": key, "operator": "In", "values": sorted(values)}]}
        for key, values in sorted(found.items())
    ]


def _is(model: str, label: str) -> bool:
    """Whether all words of the model are among those of the label, in their order."""
    left = iter(_WORDS.split(label.lower()))
    return all(word in left for word in _WORDS.split(model.lower()) if word)
