"""A cluster at one moment: all that a decision needs is listed once, and nothing is followed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import RLock
from typing import Any, Final

from gpumax.engines.kubernetes.assembly import Assembly
from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.cache import Change
from gpumax.engines.kubernetes.client.decode import Malformed
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.discovery import Discovery
from gpumax.engines.kubernetes.feed import Feed
from gpumax.engines.kubernetes.grouping.kinds import KINDS
from gpumax.engines.kubernetes.kinds import ALWAYS, NATIVE_GROUPS, NODES, OFTEN, PODS, QUEUES
from gpumax.engines.kubernetes.owners import Owners

NEEDED: Final = (NODES, PODS, QUEUES)
"""Kinds without which there is no picture."""
Handler = Callable[[Change[Any]], None]


async def look(api: Api, scheduler: str) -> Assembly:
    """What a scheduler of this name would see. ApiRefused where nodes, or pods of the whole cluster, may not be listed."""
    assembly = Assembly(scheduler)
    feed = Feed(assembly, RLock(), lambda: None)
    discovery = Discovery(api)
    served = await asyncio.gather(*(discovery.serves(kind) for kind in OFTEN))
    often = [kind for kind, there in zip(OFTEN, served, strict=True) if there]
    native = [kind for kind in often if kind in NATIVE_GROUPS]
    wanted = [*ALWAYS, *(kind for kind in often if kind not in native[1:])]
    await asyncio.gather(*(_see(api, kind, feed.handler(kind)) for kind in wanted))
    await _owners(api, feed)
    return assembly


async def _see(api: Api, kind: Kind[Any], handle: Handler) -> None:
    try:
        await _show(api, kind, handle)
    except ApiRefused as error:
        # What may not be seen beside these is as if it weren't there.
        if error.code != 403 or kind in NEEDED:
            raise


async def _show(api: Api, kind: Kind[Any], handle: Handler) -> None:
    for one in (await api.list(kind)).items:
        if not isinstance(one, Malformed):
            handle(Change((one.metadata.namespace, one.metadata.name), None, one))


async def _owners(api: Api, feed: Feed) -> None:
    """Look up who made pods, level by level. A kind that one pod's owner is of is listed as a whole, for the others' sake."""
    kinds: list[tuple[Kind[Any], Handler]] = []
    owners = Owners(api, KINDS, feed, lambda kind, handle: kinds.append((kind, handle)))
    while missing := feed.missing():
        await owners.look_up(*missing[0])
        while kinds:
            # Who may read one of them need not be allowed to list them all.
            with suppress(ApiRefused):
                await _show(api, *kinds.pop())
