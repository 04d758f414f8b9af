"""Lists: all objects of a kind as of one moment, page by page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Generic, TypeVar

import msgspec

from gpumax.engines.kubernetes.client.connection import Request
from gpumax.engines.kubernetes.client.decode import Malformed
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.client.views import View

T = TypeVar("T", bound=View)

PAGE: Final = 5000
LIST_S: Final = 120.0


class Listed(msgspec.Struct, Generic[T], frozen=True):
    """All objects, and the version as of which this is so; a watch goes on from there."""

    version: str
    items: tuple[T, ...]
    malformed: tuple[Malformed, ...] = ()


async def listed(
    read: Callable[[Request], Awaitable[bytes]],
    kind: Kind[T],
    namespace: str,
    selectors: Mapping[str, str],
    page: int = PAGE,
) -> Listed[T]:
    """The newest list. If its moment is no longer kept before the last page has come, all of it is asked for at once."""
    try:
        return await _pages(read, kind, namespace, {**selectors, "limit": str(page)})
    except ApiRefused as error:
        if not error.gone:
            raise
        return await _pages(read, kind, namespace, selectors)


async def _pages(
    read: Callable[[Request], Awaitable[bytes]], kind: Kind[T], namespace: str, query: Mapping[str, str]
) -> Listed[T]:
    items: list[T] = []
    malformed: list[Malformed] = []
    token = ""
    while True:
        body = await read(
            Request("GET", kind.path(namespace), {**query, "continue": token}, patience_s=LIST_S)
        )
        page = kind.decoders.page(body)
        for item in page.items or ():
            if isinstance(item, Malformed):
                malformed.append(item)
            else:
                items.append(item)
        token = page.metadata.next_page
        if not token:
            return Listed(page.metadata.resource_version, tuple(items), tuple(malformed))
