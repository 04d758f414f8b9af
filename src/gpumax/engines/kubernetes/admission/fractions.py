"""Pods that ask for a part of a GPU by annotation get what the kubelet needs to give it to them."""

from __future__ import annotations

from typing import Any, Final

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.documents import at, rows, text

Patch = list[dict[str, Any]]
"""Steps of a JSON patch (RFC 6902)."""
_RESOURCE: Final = keys.PART.replace("~", "~0").replace("/", "~1")


def patch(pod: dict[str, Any], chance: str, *, claims: bool) -> Patch:
    """The steps; none for a pod that asks for no part, or has what it needs.

    chance: letters and digits that no other pod gets; claims: whether parts are given out by ResourceClaims. The claim itself is made when the
    pod is placed, so nothing is left over from a pod that is refused later. What is wrong with a pod is told on the pod, and not mended here.
    """
    index = _container(pod)
    if index is None:
        return []
    return _claim(pod, index, f"{keys.CLAIM}-{chance}") if claims else _resource(pod, index)


def _container(pod: dict[str, Any]) -> int | None:
    """Which container gets the part; None where none is asked for, or no such container is there."""
    places = [
        found for part in ("annotations", "labels") if isinstance(found := at(pod, "metadata", part), dict)
    ]
    names = [text(container, "name") for container in rows(pod, "spec", "containers")]
    if keys.said((*keys.FRACTION, *keys.MEMORY), *places) is None or not names:
        return None
    said = keys.said(keys.CONTAINER, *places)
    if said is None:
        return 0
    return names.index(said[1]) if said[1] in names else None


def _claim(pod: dict[str, Any], index: int, name: str) -> Patch:
    if any(text(entry, "name") == keys.CLAIM for entry in rows(pod, "spec", "resourceClaims")):
        return []
    resources = ("spec", "containers", index, "resources")
    return [
        *_into(pod, ("spec", "resourceClaims"), {"name": keys.CLAIM, "resourceClaimName": name}),
        *_made(pod, resources),
        *_into(pod, (*resources, "claims"), {"name": keys.CLAIM}),
    ]


def _resource(pod: dict[str, Any], index: int) -> Patch:
    resources = ("spec", "containers", index, "resources")
    if at(pod, *resources, "limits", keys.PART) is not None:
        return []
    steps = _made(pod, resources)
    for part in ("limits", "requests"):
        steps += _made(pod, (*resources, part))
        steps.append({"op": "add", "path": f"{_path((*resources, part))}/{_RESOURCE}", "value": "1"})
    return steps


def _into(pod: dict[str, Any], path: tuple[str | int, ...], value: object) -> Patch:
    """Add to a list that may not be there."""
    if rows(pod, *path):
        return [{"op": "add", "path": f"{_path(path)}/-", "value": value}]
    return [{"op": "add", "path": _path(path), "value": [value]}]


def _made(pod: dict[str, Any], path: tuple[str | int, ...]) -> Patch:
    """See to it that there is an object."""
    return [] if isinstance(at(pod, *path), dict) else [{"op": "add", "path": _path(path), "value": {}}]


def _path(path: tuple[str | int, ...]) -> str:
    return "".join(f"/{word}" for word in path)
