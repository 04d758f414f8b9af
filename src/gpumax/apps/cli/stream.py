"""Server-sent events: read, and picked up again where the connection was lost."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import Event, Thread
from typing import Final, NamedTuple

from gpumax.apps.cli.client import Api, Lost
from gpumax.errors import Unreachable

PATIENCE_S: Final = 30.0
"""How long a server may be gone before a watch gives up."""

RETRY_S: Final = 0.5

SILENCE_S: Final = 60.0
"""A stream says something each 15 s; after this long without a word the connection is dead."""


class Message(NamedTuple):
    """One event of a stream. id: empty where the server gave none."""

    event: str
    data: str
    id: str


def messages(lines: Iterable[bytes]) -> Iterator[Message]:
    """The events in the lines of a stream; comments, which keep the connection alive, are passed over."""
    event, last = "message", ""
    data: list[str] = []
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not line:
            if data:
                yield Message(event, "\n".join(data), last)
            event, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            event = value
        elif field == "id":
            last = value


def follow(
    api: Api,
    path: str,
    query: Mapping[str, object],
    *,
    again: Mapping[str, object] | None = None,
    notice: Callable[[str], None] = lambda _text: None,
    back: Callable[[], None] = lambda: None,
    patience_s: float = PATIENCE_S,
) -> Iterator[Message]:
    """The events of a path, for ever, over restarts of the server; what it sent already is not sent again.

    again: the query after a lost connection where the server gives its events no id. notice: told when the connection is lost;
    back: when there is one again. Unreachable when the server is gone for longer than the patience; an error status is
    raised as always.
    """
    last, lost_at, told = "", None, False
    while True:
        try:
            headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
            with api.open("GET", path, query=query, headers=headers, silence_s=SILENCE_S) as response:
                if told:
                    back()
                lost_at, told = None, False
                for message in messages(response):
                    last = message.id or last
                    if again is not None and not message.id:
                        query = again
                    yield message
        except (http.client.HTTPException, OSError, Lost):
            pass
        except Unreachable:
            if lost_at is None and not last and not told:
                raise
        now = time.monotonic()
        lost_at = now if lost_at is None else lost_at
        if now - lost_at >= patience_s:
            raise Unreachable(
                f"the server ({api.about}) has been gone for {patience_s:.0f} s; `gpumax up` starts it"
            )
        if not told:
            notice("connection to the server lost; waiting for it")
            told = True
        time.sleep(min(RETRY_S, patience_s))


class Pulse:
    """Tells when something has happened on the server, from the moment on when it is made."""

    def __init__(self, api: Api, *, notice: Callable[[str], None] = lambda _text: None) -> None:
        newest = api.get("/events", {"newest": 1, "limit": 1})
        self._after = newest.get("next", 0)
        self._api, self._notice = api, notice
        self._beat = Event()
        self._error: Exception | None = None
        Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        try:
            # What happened meanwhile may have left no event behind, so that there is something to see in any case.
            watch = follow(
                self._api, "/watch", {"after": self._after}, notice=self._notice, back=self._beat.set
            )
            for _ in watch:
                self._beat.set()
        except Exception as error:
            self._error = error
            self._beat.set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Return when something happened since the last call (True), or the time is over. Raises what ended the watch."""
        happened = self._beat.wait(timeout_s)
        self._beat.clear()
        if self._error is not None:
            raise self._error
        return happened
