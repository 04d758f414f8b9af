"""Watches: what happens to objects of a kind, as it happens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Final, Generic, TypeVar

from gpumax.engines.kubernetes.client.connection import Connection, Request
from gpumax.engines.kubernetes.client.decode import Event, Malformed, NotUnderstood
from gpumax.engines.kubernetes.client.errors import ApiRefused, NoAnswer, Status
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.client.views import View

T = TypeVar("T", bound=View)

STALL_S: Final = 150.0
"""How long a watch may be silent. The API server sends a bookmark about once a minute, so longer means that it's gone."""

ASKED_S: Final = 480
"""After how long the API server is to end a watch, in its own good time: so watches spread over its replicas again."""

MOST_LINE: Final = 64 << 20
"""The longest line that is read. Objects have about 1.5 MB at most."""


class Watch(Generic[T]):
    """Events after a version, or of all that is there and then what happens. Ends when the API server ends it.

    ApiRefused with `gone`: what happened since is no longer known, list again. NoAnswer: it broke off, go on from the last version.
    """

    def __init__(
        self,
        connection: Connection,
        kind: Kind[T],
        namespace: str = "",
        since: str = "",
        selectors: Mapping[str, str] | None = None,
        *,
        stall_s: float | None = None,
    ) -> None:
        self.kind = kind
        self._connection = connection
        self._stall_s = STALL_S if stall_s is None else stall_s
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(ASKED_S),
            **(selectors or {}),
        }
        if since:
            query["resourceVersion"] = since
        else:
            query |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        self._request = Request("GET", kind.path(namespace), query)

    async def events(self) -> AsyncIterator[Event[T | Malformed]]:
        """The events, in their order. A line that was cut off is never taken for an event."""
        async with self._connection.stream(self._request, self._stall_s) as pieces:
            async for line in _lines(pieces):
                event = self.kind.decoders.event(line)
                if isinstance(event, Status):
                    raise ApiRefused(event.code or 500, event, asked=f"watch of {self.kind.plural}")
                yield event


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest = b""
    async for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            if line:
                yield line
        if len(rest) > MOST_LINE:
            raise NotUnderstood(f"a line of more than {MOST_LINE >> 20} MiB in a watch")
    if rest:
        raise NoAnswer("a watch broke off in the middle of a line")
