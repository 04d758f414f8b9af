"""Server-sent events as bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from starlette.responses import StreamingResponse

KEEP_ALIVE_S: Final = 15.0
"""A stream says something at least this often, so that both ends know that the other is there."""

COMMENT: Final = b": still here\n\n"

TYPE: Final = "text/event-stream"

_HEADERS: Final = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def message(data: bytes, *, id: int | None = None, event: str = "") -> bytes:
    """One event. data: without line breaks, as JSON is."""
    head = (f"id: {id}\n" if id is not None else "") + (f"event: {event}\n" if event else "")
    return head.encode() + b"data: " + data + b"\n\n"


def stream(messages: AsyncIterator[bytes]) -> StreamingResponse:
    """The response that carries them."""
    return StreamingResponse(messages, media_type=TYPE, headers=_HEADERS)


def resumed(last_event_id: str | None, otherwise: int) -> int:
    """Where a stream begins: behind the last event that its reader has, or where it was asked to."""
    if last_event_id is not None and last_event_id.isascii() and last_event_id.isdecimal():
        return int(last_event_id)
    return otherwise
