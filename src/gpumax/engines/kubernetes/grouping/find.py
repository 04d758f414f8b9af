"""Which workload a pod is part of: by its labels, or by the owner at the top that is known to make gangs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.grouping.kind import Kind, Roles, one
from gpumax.engines.kubernetes.grouping.kinds import KINDS, PASSED, UNKNOWN
from gpumax.engines.kubernetes.views import Document, Owner, Pod

LONGEST: Final = 253
SHOWN: Final = 40
DIGEST: Final = 12
_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_STRANGE: Final = re.compile(r"[^A-Za-z0-9]", re.ASCII)
DEEPEST: Final = 10
"""The most owners above each other that are looked at."""

Objects = Mapping[str, Document | None]
"""Owners by uid; None: it isn't there, or may not be read."""
Kinds = Mapping[tuple[str, str], Kind]


class Link(NamedTuple):
    """An owner, and its object; None where that isn't there or may not be read."""

    owner: Owner
    document: Document | None


class Membership(NamedTuple):
    """The workload of a pod. name: `namespace/kind/name`. root: who makes the gang; None for labels and for pods alone."""

    name: str
    kind: Kind
    root: Document | None
    chain: tuple[Link, ...]


class Missing(NamedTuple):
    """Owners that must be fetched before anything can be said, the nearest first."""

    owners: tuple[Owner, ...]


def find(pod: Pod, objects: Objects, kinds: Kinds = KINDS) -> Membership | Missing:
    """The workload that a pod is part of: of the group that the cluster knows, of the gang that it names, or of its owners'."""
    chain = _chain(pod, objects)
    if isinstance(chain, Missing):
        return chain
    space = pod.metadata.namespace
    native = pod.spec.scheduling_group
    if native is not None and native.pod_group_name:
        return Membership(f"{space}/podgroup/{native.pod_group_name}", Kind(one), None, chain)
    gang = keys.said(keys.GANG, pod.metadata.labels or {}, pod.metadata.annotations or {})
    if gang is not None and gang[1]:
        return Membership(f"{space}/gang/{_word(gang[1])}", Kind(one), None, chain)
    for link in reversed(chain):
        key = _key(link)
        kind = kinds.get(key)
        if kind is None and (key in PASSED or any(_key(other) in kinds for other in chain)):
            continue
        return _member(pod, kind or UNKNOWN, link, chain)
    return alone(pod, chain)


def alone(pod: Pod, chain: tuple[Link, ...] = ()) -> Membership:
    """A workload of the pod by itself."""
    return Membership(f"{pod.metadata.namespace}/pod/{pod.metadata.name}", Kind(one), None, chain)


def _key(link: Link) -> tuple[str, str]:
    return link.owner.group, link.owner.kind


def _member(pod: Pod, kind: Kind, link: Link, chain: tuple[Link, ...]) -> Membership:
    space, owner = pod.metadata.namespace, link.owner
    if kind.apart == "pod":
        return Membership(f"{space}/pod/{pod.metadata.name}", kind, link.document, chain)
    name = f"{space}/{_word(owner.kind).lower()}/{_word(owner.name)}"
    if kind.apart:
        name += f"-{(pod.metadata.labels or {}).get(kind.apart, '')}"
    return Membership(name, kind, link.document, chain)


def _word(text: str) -> str:
    """A part of a name. Where nobody made sure that it is one, it becomes one that no other text gets: it goes into logs, journals and events."""
    if len(text) <= LONGEST and _PLAIN.fullmatch(text):
        return text
    kept = _STRANGE.sub("-", text[:SHOWN])
    return f"{kept}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:DIGEST]}"


def roles_of(membership: Membership) -> Roles:
    """The roles of the gang; one task is enough where its maker can't be read."""
    return one({}) if membership.root is None else membership.kind.roles(membership.root)


def _chain(pod: Pod, objects: Objects) -> tuple[Link, ...] | Missing:
    """The owners above each other, the nearest first."""
    chain: list[Link] = []
    owners: tuple[Owner, ...] = pod.metadata.owner_references or ()
    while owners and len(chain) < DEEPEST:
        owner = next((row for row in owners if row.controller), owners[0])
        if owner.uid not in objects:
            return Missing((owner,))
        document = _within(pod.metadata.namespace, objects[owner.uid])
        chain.append(Link(owner, document))
        owners = _owners(document)
    return tuple(chain)


def _within(space: str, document: Document | None) -> Document | None:
    """An owner of another namespace is none: whoever writes a pod may name any uid there."""
    meta = (document or {}).get("metadata")
    there = meta.get("namespace") if isinstance(meta, dict) else None
    return document if there in (None, "", space) else None


def _owners(document: Document | None) -> tuple[Owner, ...]:
    meta = (document or {}).get("metadata")
    found = meta.get("ownerReferences") if isinstance(meta, dict) else None
    return tuple(
        Owner(
            kind=str(row.get("kind", "")),
            name=str(row.get("name", "")),
            uid=str(row.get("uid", "")),
            api_version=str(row.get("apiVersion", "")),
            controller=row.get("controller") is True,
        )
        for row in (found if isinstance(found, list) else [])
        if isinstance(row, dict)
    )
