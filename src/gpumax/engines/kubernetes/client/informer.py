"""Keeps a cache true: lists once, then follows what happens, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import Final, Generic, TypeVar

from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.cache import Cache
from gpumax.engines.kubernetes.client.decode import INITIAL_END, Malformed, NotUnderstood
from gpumax.engines.kubernetes.client.errors import ApiRefused, NoAnswer
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.client.views import View
from gpumax.errors import GpumaxError, Refused

T = TypeVar("T", bound=View)

_log: Final = logging.getLogger("gpumax.kubernetes")


class Informer(Generic[T]):
    """One kind, in all namespaces or one.

    trouble: why what is known may be old; empty while all is well. lists: how often all was listed. heard_s: when anything was heard last,
    if only that nothing has changed, by a clock that only runs on. denied: whether there is no right to list or watch; it is asked for on and on, since rights are given.
    """

    def __init__(
        self, api: Api, kind: Kind[T], namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> None:
        self.kind = kind
        self.cache: Cache[T] = Cache()
        self.trouble = "nothing was listed yet"
        self.denied = False
        self.lists = 0
        self.heard_s = monotonic()
        self._api = api
        self._namespace = namespace
        self._labels = labels
        self._fields = fields
        self._streams = True
        self._anew = True
        self._heard = 0
        self._moved = asyncio.Condition()

    @property
    def synced(self) -> bool:
        """Whether a first list is complete. From then on what is known only ever gets newer."""
        return bool(self.cache.version)

    async def run(self) -> None:
        """Follow, until cancelled. Nothing that the API server does ends this."""
        pauses = self._api.pauses.fresh()
        while True:
            heard, asked_s, at_once = self._heard, None, False
            try:
                await self._follow()
            except (ApiRefused, NoAnswer, NotUnderstood, Refused) as error:
                if isinstance(error, ApiRefused):
                    asked_s, at_once = error.retry_after_s, self._otherwise(error)
                if not at_once:
                    await self._ill(error)
            if self._heard != heard:
                pauses.reset()
            if not at_once:
                await pauses.pause(asked_s)

    async def reached(self, version: str) -> None:
        """Wait until all that happened up to a version of this kind is known: what we wrote ourselves, say."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.knows(version))

    async def settled(self) -> None:
        """Wait until all that is there is known, or it is clear that we have no right to know it."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.synced or self.denied)

    async def changed(self) -> None:
        """Wait for the next news, if only that nothing has changed."""
        async with self._moved:
            await self._moved.wait()

    def knows(self, version: str) -> bool:
        """Whether all that happened up to a version of this kind is known."""
        return self.synced and _number(self.cache.version) >= _number(version)

    async def _follow(self) -> None:
        if self._anew and not self._streams:
            listed = await self._api.list(
                self.kind, self._namespace, labels=self._labels, fields=self._fields
            )
            await self._listed(listed.version, [*listed.items, *listed.malformed])
        await self._watch("" if self._anew else self.cache.version)

    async def _watch(self, since: str) -> None:
        """Follow one watch to its end. Without a version, what is there comes first, and counts when it is complete."""
        watch = self._api.watch(
            self.kind, self._namespace, since=since, labels=self._labels, fields=self._fields
        )
        first: list[T | Malformed] | None = None if since else []
        async for event in watch.events():
            self._heard += 1
            if first is None:
                self.cache.apply(event)
                await self._well()
            elif event.type != "BOOKMARK":
                first.append(event.object)
            elif INITIAL_END in (event.object.metadata.annotations or {}):
                await self._listed(event.object.metadata.resource_version, first)
                first = None

    async def _listed(self, version: str, items: list[T | Malformed]) -> None:
        self.cache.replace(version, items)
        self.lists += 1
        self._anew = False
        await self._well()

    def _otherwise(self, error: ApiRefused) -> bool:
        """Whether there is another way that can be gone at once: a list where a watch goes no further, pages where none is streamed."""
        if self._anew:
            if self._streams and _cannot_stream(error):
                self._streams = False
                return True
            return False
        self._anew = error.gone
        return self._anew

    async def _well(self) -> None:
        self.trouble, self.denied = "", False
        self.heard_s = monotonic()
        async with self._moved:
            self._moved.notify_all()

    async def _ill(self, error: GpumaxError) -> None:
        if str(error) != self.trouble:
            _log.warning("%s: %s", self.kind.plural, error)
        self.trouble = str(error)
        denied = isinstance(error, ApiRefused) and error.code == 403
        if denied != self.denied:
            self.denied = denied
            async with self._moved:
                self._moved.notify_all()


def _cannot_stream(error: ApiRefused) -> bool:
    return error.code in (400, 422) or (error.code == 403 and "sendInitialEvents" in error.message)


def _number(version: str) -> int:
    try:
        return int(version)
    except ValueError:
        raise NotUnderstood(f"a version that is no number: {version[:40]!r}") from None
