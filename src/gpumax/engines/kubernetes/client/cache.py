"""All objects of one kind as far as we know, and who wants to hear when that changes. Knows no network and no time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import msgspec

from gpumax.engines.kubernetes.client.decode import Event, Malformed, NotUnderstood
from gpumax.engines.kubernetes.client.views import Metadata, View

T = TypeVar("T", bound=View)

Key = tuple[str, str]
"""Namespace, empty where the kind has none, and name."""


class Change(msgspec.Struct, Generic[T], frozen=True):
    """One object came (old is None), changed, or went (new is None). One that was replaced under its name went first, then came."""

    key: Key
    old: T | None
    new: T | None


class Cache(Generic[T]):
    """Objects by key, at a version. An object that hasn't changed stays the same object, after a new list, too.

    malformed: those that can't be read, which count as not there. version: all that happened up to it is in here; empty until the
    first list is complete.
    """

    def __init__(self) -> None:
        self.objects: dict[Key, T] = {}
        self.malformed: dict[Key, Malformed] = {}
        self.version = ""
        self._handlers: list[Callable[[Change[T]], None]] = []
        self._all: tuple[T, ...] | None = None

    def on_change(self, handler: Callable[[Change[T]], None]) -> None:
        """Have a function called with each change, in their order; with all that's there first. It must not fail."""
        self._handlers.append(handler)
        for key, one in self.objects.items():
            handler(Change(key, None, one))

    def all(self) -> tuple[T, ...]:
        """All objects, sorted by namespace and name. The same tuple until something changes."""
        if self._all is None:
            self._all = tuple(self.objects[key] for key in sorted(self.objects))
        return self._all

    def replace(self, version: str, items: Iterable[T | Malformed]) -> None:
        """A new list: what isn't in it has gone meanwhile."""
        fresh = {key_of(item.metadata): item for item in items}
        for key in [key for key in self.objects if key not in fresh]:
            self._put(key, None)
        self.malformed = {key: bad for key, bad in self.malformed.items() if key in fresh}
        for key, item in fresh.items():
            self._take(key, item)
        self.version = version

    def apply(self, event: Event[T | Malformed]) -> None:
        """One event of a watch."""
        if not event.object.metadata.resource_version:
            raise NotUnderstood("an event of a watch without a version")
        if event.type != "BOOKMARK":
            key = key_of(event.object.metadata)
            if event.type == "DELETED":
                self.malformed.pop(key, None)
                self._put(key, None)
            elif event.type in ("ADDED", "MODIFIED"):
                self._take(key, event.object)
            else:
                raise NotUnderstood(f"an event of a watch of the unknown type {event.type[:20]!r}")
        self.version = event.object.metadata.resource_version

    def _take(self, key: Key, item: T | Malformed) -> None:
        if isinstance(item, Malformed):
            self.malformed[key] = item
            self._put(key, None)
        else:
            self.malformed.pop(key, None)
            self._put(key, item)

    def _put(self, key: Key, new: T | None) -> None:
        old = self.objects.get(key)
        if old is new or (old is not None and new is not None and _same(old.metadata, new.metadata)):
            return
        self._all = None
        if new is None:
            del self.objects[key]
        else:
            self.objects[key] = new
        if old is not None and new is not None and old.metadata.uid != new.metadata.uid:
            self._tell(Change(key, old, None))
            old = None
        self._tell(Change(key, old, new))

    def _tell(self, change: Change[T]) -> None:
        for handler in self._handlers:
            handler(change)


def key_of(metadata: Metadata) -> Key:
    """The key of an object."""
    return metadata.namespace, metadata.name


def _same(old: Metadata, new: Metadata) -> bool:
    return old.uid == new.uid and old.resource_version == new.resource_version
