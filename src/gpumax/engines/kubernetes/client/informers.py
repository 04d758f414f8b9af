"""Several kinds at one moment: what is known of each, up to which version."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.decode import Malformed
from gpumax.engines.kubernetes.client.informer import Informer
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.client.views import View
from gpumax.errors import Stale

T = TypeVar("T", bound=View)


class Snapshot(msgspec.Struct, frozen=True):
    """All kinds as they were known at one moment; nothing of it changes any more.

    Of each kind, all that happened up to its version is in here and nothing that happened after it. Versions of different kinds
    count the same history, but each is as far as its watch has told: what one kind says of another may be ahead of it, as a pod may
    name a node that isn't known yet. Whatever we wrote ourselves is in here.
    """

    versions: Mapping[Kind[Any], str]
    objects: Mapping[Kind[Any], tuple[Any, ...]]
    malformed: Mapping[Kind[Any], tuple[Malformed, ...]]
    troubles: tuple[str, ...] = ()

    def of(self, kind: Kind[T]) -> tuple[T, ...]:
        """All objects of a kind, sorted by namespace and name; the same tuple as before if none has changed."""
        return self.objects[kind]

    def version(self, kind: Kind[T]) -> str:
        """Up to which version this is all of a kind."""
        return self.versions[kind]


class Informers:
    """An informer a kind, all of one API."""

    def __init__(self, api: Api, *kinds: Kind[Any]) -> None:
        self._informers: dict[Kind[Any], Informer[Any]] = {kind: Informer(api, kind) for kind in kinds}
        self._written: dict[Kind[Any], str] = {}

    def of(self, kind: Kind[T]) -> Informer[T]:
        """The informer of a kind."""
        return self._informers[kind]

    async def run(self) -> None:
        """Follow all of them, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in self._informers.values():
                group.create_task(informer.run())

    async def synced(self) -> None:
        """Wait until all that is there is known of every kind."""
        for informer in self._informers.values():
            await informer.reached("0")

    def wrote(self, kind: Kind[T], version: str) -> None:
        """We made an object have this version: no snapshot is taken that doesn't know of it."""
        if not self._knows(kind, version):
            self._written[kind] = max(version, self._written.get(kind, "0"), key=int)

    async def caught_up(self) -> None:
        """Wait until all is known that we wrote."""
        for kind, version in list(self._written.items()):
            await self._informers[kind].reached(version)

    def snapshot(self) -> Snapshot:
        """What is known now. Stale where something was never listed, or where what we wrote hasn't come back yet."""
        for kind, informer in self._informers.items():
            if not informer.synced:
                raise Stale(f"{kind.plural} aren't known yet: {informer.trouble}")
            if not self._knows(kind, self._written.get(kind, "0")):
                raise Stale(f"{kind.plural} aren't known up to what was written last")
            self._written.pop(kind, None)
        found = self._informers.items()
        return Snapshot(
            versions={kind: informer.cache.version for kind, informer in found},
            objects={kind: informer.cache.all() for kind, informer in found},
            malformed={kind: tuple(informer.cache.malformed.values()) for kind, informer in found},
            troubles=tuple(
                f"{kind.plural}: {informer.trouble}" for kind, informer in found if informer.trouble
            ),
        )

    def _knows(self, kind: Kind[Any], version: str) -> bool:
        return self._informers[kind].knows(version)
