"""What informers see goes into the assembly, kind by kind."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import RLock
from typing import Any, Final

from msgspec.structs import replace

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.assembly import Assembly
from gpumax.engines.kubernetes.client.cache import Change
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.kinds import (
    BUDGETS,
    CLASSES,
    GANGS,
    KAI_GROUPS,
    KAI_QUEUES,
    KAI_TOPOLOGIES,
    NATIVE_GROUPS,
    NODES,
    PLUGIN_GROUPS,
    PODS,
    QUEUES,
    SLICES,
    SPACES,
    TOPOLOGIES,
    document,
)
from gpumax.engines.kubernetes.views import Owner

_log: Final = logging.getLogger("gpumax.kubernetes")
Handler = Callable[[Change[Any]], None]
_CHATTY: Final = (NODES, SLICES)
"""Kinds on which much is written that no decision reads: signs of life, and who shares devices, for people to see."""


class Feed:
    """Handlers of changes. `changed` is called after each."""

    def __init__(self, assembly: Assembly, lock: RLock, changed: Callable[[], None]) -> None:
        self._assembly = assembly
        self._lock = lock
        self._changed = changed

    def handler(self, kind: Kind[Any]) -> Handler:
        """Of one of the kinds that are always or often there."""
        show = self._shows()[kind]

        def handle(change: Change[Any]) -> None:
            if kind in _CHATTY and _alike(change):
                return
            with self._lock:
                try:
                    show(change)
                except Exception:
                    # One object must not end what is heard of all others.
                    _log.exception("%s %s can't be read", kind.plural, "/".join(change.key))
            self._changed()

        return handle

    def _shows(self) -> dict[Kind[Any], Handler]:
        see = self._assembly
        shows: dict[Kind[Any], Handler] = {
            NODES: lambda change: see.see_node(change.key[1], change.new),
            CLASSES: lambda change: see.see_class(change.key[1], change.new and change.new.value),
            SPACES: lambda change: see.see_space(change.key[1], _queue_of(change.new)),
            BUDGETS: lambda change: see.see_budget(*change.key, change.new),
            SLICES: lambda change: see.see_slice(change.key[1], change.new),
            PODS: lambda change: see.see_pod("/".join(change.key), change.new),
        }
        for kind in (QUEUES, KAI_QUEUES):
            shows[kind] = lambda change, kind=kind: see.see_queue(change.key[1], _document(kind, change))  # type: ignore[misc]
        for kind in (TOPOLOGIES, KAI_TOPOLOGIES):
            shows[kind] = lambda change, kind=kind: see.see_topology(change.key[1], _document(kind, change))  # type: ignore[misc]
        for kind, word in (
            (GANGS, "gang"),
            (KAI_GROUPS, "gang"),
            (PLUGIN_GROUPS, "gang"),
            *((native, "podgroup") for native in NATIVE_GROUPS),
        ):
            shows[kind] = lambda change, kind=kind, word=word: see.see_gang(  # type: ignore[misc]
                f"{change.key[0]}/{word}/{change.key[1]}", _document(kind, change)
            )
        return shows

    def owner(self, kind: Kind[Any], change: Change[Any]) -> None:
        """An owner of a kind that is followed."""
        with self._lock:
            if change.new is not None:
                self._assembly.see_owner(change.new.metadata.uid, document(kind, change.new))
            elif change.old is not None:
                self._assembly.forget_owner(change.old.metadata.uid)
        self._changed()

    def no_owner(self, uid: str) -> None:
        """An owner that isn't there, or may not be read."""
        with self._lock:
            self._assembly.see_owner(uid, None)
        self._changed()

    def missing(self) -> list[tuple[str, Owner]]:
        """Owners that must be looked up, each with the namespace of its pods."""
        with self._lock:
            return self._assembly.missing

    def misses(self, owner: Owner) -> bool:
        """Whether pods wait for this one."""
        with self._lock:
            return self._assembly.misses(owner.uid)


def _alike(change: Change[Any]) -> bool:
    """Whether all that is read of an object is what it was."""
    old, new = change.old, change.new
    if old is None or new is None:
        return False
    return bool(
        new == replace(old, metadata=replace(old.metadata, resource_version=new.metadata.resource_version))
    )


def _document(kind: Kind[Any], change: Change[Any]) -> Any:
    return None if change.new is None else document(kind, change.new)


def _queue_of(space: Any) -> str | None:
    """The queue that a namespace's administrator gave it."""
    said = keys.said(
        keys.QUEUE, *((space.metadata.labels or {}, space.metadata.annotations or {}) if space else ())
    )
    return said[1] if said else None
