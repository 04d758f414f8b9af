"""Objects by the thousand: as many at once as the API server takes, over connections of their own."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any, Final

import aiohttp
import msgspec

AT_ONCE: Final = 32


def crowd(url: str, context: ssl.SSLContext, path: str, documents: Iterable[dict[str, Any]]) -> None:
    """Make them all, nearly in their order; each is asked for when there is a turn for it."""
    asyncio.run(_crowd(url, context, path, documents))


async def _crowd(url: str, context: ssl.SSLContext, path: str, documents: Iterable[dict[str, Any]]) -> None:
    rest = iter(documents)
    async with (
        aiohttp.ClientSession(
            url,
            connector=aiohttp.TCPConnector(ssl=context, limit=AT_ONCE),
            headers={"Content-Type": "application/json"},
        ) as session,
        asyncio.TaskGroup() as group,
    ):

        async def work() -> None:
            for document in rest:
                async with session.post(path, data=msgspec.json.encode(document)) as answer:
                    said = await answer.text()
                    assert answer.status == 201, f"{answer.status}: {said}"

        for _ in range(AT_ONCE):
            group.create_task(work())
