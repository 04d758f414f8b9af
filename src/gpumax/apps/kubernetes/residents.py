"""Who shares the GPUs of a cluster's nodes, as their agents say it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, Final

import msgspec
from pydantic import ValidationError

from gpumax.apps.server.shapes import SharedGpu
from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.kinds import OURS, SLICES, Named
from gpumax.engines.kubernetes.views import Meta, Part

LONGEST: Final = 40_000
"""The most characters that are read of what an agent says."""
Shared = dict[tuple[str, int], SharedGpu]
"""By the name of the node and the index of the device."""


class OnNode(Part, frozen=True, rename="camel", gc=False):
    """Of which node a slice is."""

    node_name: str = ""


class SliceNote(Part, frozen=True, rename="camel", gc=False):
    """A ResourceSlice without its devices."""

    metadata: Meta = Meta()
    spec: OnNode = OnNode()


_NOTES: Final = Kind(SLICES.group, SLICES.version, SLICES.plural, SLICES.name, SliceNote, namespaced=False)
_NODES: Final = Kind("", "v1", "nodes", "Node", Named, namespaced=False)


async def shared(api: Api) -> Shared:
    """All devices of which parts are given out. Whoever may see neither slices nor nodes sees none."""
    slices, nodes = await asyncio.gather(
        _seen(api, _NOTES, fields=OURS[SLICES]), _seen(api, _NODES, fields="")
    )
    rows = [(one.metadata.name, one.metadata) for one in nodes]
    rows += [(one.spec.node_name, one.metadata) for one in slices]
    found: Shared = {}
    for node, meta in rows:
        found |= {(node, index): part for index, part in _read(meta).items()}
    return found


async def _seen(api: Api, kind: Kind[Any], *, fields: str) -> tuple[Any, ...]:
    try:
        return (await api.list(kind, fields=fields)).items
    except ApiRefused as error:
        if error.code not in (403, 404):
            raise
        return ()


def _read(meta: Meta) -> dict[int, SharedGpu]:
    """What makes no sense is nothing."""
    text = (meta.annotations or {}).get(keys.RESIDENTS, "{}")
    if len(text) > LONGEST:
        return {}
    try:
        found = msgspec.json.decode(text, type=dict[int, dict[str, Any]])
        return {index: SharedGpu.model_validate(part) for index, part in found.items()}
    except (msgspec.DecodeError, ValidationError):
        return {}


def waits(shared: Shared, pods: Collection[str]) -> list[str]:
    """Why pods of these namespaces and names don't get on with their GPUs right now, each reason once."""
    rows = [each for part in shared.values() for each in part.residents if each.workload in pods]
    return list(dict.fromkeys(each.waits for each in rows if each.waits))


def unfenced(shared: Shared) -> list[dict[str, Any]]:
    """Processes that got around their part, or never had one, for the board."""
    return [
        {"node": node, "index": index, **each.model_dump()}
        for (node, index), part in sorted(shared.items())
        for each in part.unfenced
    ]
