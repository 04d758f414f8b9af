"""Owners of pods: each kind that owns a pod of ours is followed from then on, and none before."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.cache import Change
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.client.informer import Informer
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.discovery import Discovery
from gpumax.engines.kubernetes.feed import Feed
from gpumax.engines.kubernetes.grouping.find import Kinds
from gpumax.engines.kubernetes.kinds import PODS
from gpumax.engines.kubernetes.views import Owner
from gpumax.errors import GpumaxError

PAUSE_S: Final = 1.0
"""How long after a failure it is looked again."""
LIST_S: Final = 5.0
"""For so long a first list of a kind is waited for."""
_log: Final = logging.getLogger("gpumax.kubernetes")

Follow = Callable[[Kind[Any], Callable[[Change[Any]], None]], Informer[Any] | None]


class Owners:
    """Finds out what owners are. `follow` starts an informer of a kind, if it does.

    Each owner is asked for by itself first: what is followed may be a moment behind, and pods must not count as nobody's for that.
    """

    def __init__(self, api: Api, kinds: Kinds, feed: Feed, follow: Follow) -> None:
        self._api = api
        self._discovery = Discovery(api)
        self._kinds = kinds
        self._feed = feed
        self._follow = follow
        self._followed: set[Kind[Any]] = set()
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Something was seen; maybe an owner is missing."""
        self._woken.set()

    async def run(self) -> None:
        """Look up who is missing, until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            for space, owner in self._feed.missing():
                if not self._feed.misses(owner):
                    continue  # the list of its kind has brought it meanwhile
                try:
                    await self.look_up(space, owner)
                except GpumaxError as error:
                    _log.warning("%s %s/%s: %s", owner.kind, space, owner.name, error)
                    self._woken.set()
                    await asyncio.sleep(PAUSE_S)

    async def look_up(self, space: str, owner: Owner) -> None:
        """Find out what this owner is: it is missing no more, whatever comes of it."""
        kind = await self._kind(owner)
        if kind is None:
            self._feed.no_owner(owner.uid)
            return
        try:
            found = await self._api.get(kind, owner.name, space)
        except ApiRefused as error:
            if error.code not in (403, 404):
                raise
            if error.code == 403:
                _log.warning(
                    "%s %s/%s may not be read, so its pods start one by one: %s",
                    owner.kind,
                    space,
                    owner.name,
                    error,
                )
            self._feed.no_owner(owner.uid)
            return
        if found.metadata.uid != owner.uid:
            self._feed.no_owner(owner.uid)
            return
        self._feed.owner(kind, Change((space, owner.name), None, found))
        # Pods are followed as it is.
        if kind not in self._followed and kind is not PODS:
            self._followed.add(kind)
            informer = self._follow(kind, lambda change: self._feed.owner(kind, change))
            if informer is not None:
                await _listed(informer)

    async def _kind(self, owner: Owner) -> Kind[Any] | None:
        """The kind of the owner; None where the cluster doesn't have it."""
        if (owner.api_version, owner.kind) == (PODS.api_version, PODS.name):
            return PODS
        for kind in self._followed:
            if (kind.api_version, kind.name) == (owner.api_version, owner.kind):
                return kind
        known = self._kinds.get((owner.api_version.rpartition("/")[0], owner.kind))
        # Of kinds whose pods are each on their own only the owners above count: templates of thousands are not kept.
        whole = known is None or known.apart != "pod"
        return await self._discovery.find(owner.api_version, owner.kind, whole=whole)


async def _listed(informer: Informer[Any]) -> None:
    """One list instead of a question for each of thousands. Where it can't be had, they are asked for one by one."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LIST_S):
            await informer.reached("0")
