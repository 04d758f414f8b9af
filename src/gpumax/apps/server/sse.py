"""Server-sent events as bytes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from time import monotonic
from typing import Final

from starlette.responses import StreamingResponse

from gpumax.errors import GpumaxError

KEEP_ALIVE_S: Final = 15.0
"""A stream says something at least this often, so that both ends know that the other is there."""

COMMENT: Final = b": still here\n\n"

MOST_ID: Final = (1 << 63) - 1
"""Ids are seqs or byte offsets: neither gets any larger."""

TYPE: Final = "text/event-stream"

_log: Final = logging.getLogger("gpumax.server")

_HEADERS: Final = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class Silence:
    """How long a stream has said nothing."""

    def __init__(self) -> None:
        self._since = monotonic()

    def end(self) -> None:
        """Something was said."""
        self._since = monotonic()

    def left_s(self) -> float:
        """How long it may go on, in seconds; 0 when something has to be said."""
        return max(0.0, KEEP_ALIVE_S - (monotonic() - self._since))


def message(data: bytes, *, id: int | None = None, event: str = "") -> bytes:
    """One event. data: without line breaks, as JSON is."""
    head = (f"id: {id}\n" if id is not None else "") + (f"event: {event}\n" if event else "")
    return head.encode() + b"data: " + data + b"\n\n"


def stream(messages: AsyncIterator[bytes]) -> StreamingResponse:
    """The response that carries them. Where the server fails on the way the stream ends; its reader comes again and is told."""
    return StreamingResponse(_to_the_first_failure(messages), media_type=TYPE, headers=_HEADERS)


async def _to_the_first_failure(messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        async for one in messages:
            yield one
    except GpumaxError as error:
        _log.error("a stream broke off: %s", error)


def resumed(last_event_id: str | None, otherwise: int) -> int:
    """Where a stream begins: behind the last event that its reader has, or where it was asked to."""
    if last_event_id is not None and last_event_id.isascii() and last_event_id.isdecimal():
        return min(int(last_event_id), MOST_ID)
    return otherwise
