"""The HTTP server under the application: on sockets that are handed to it, and prompt to end."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from gpumax.apps.server.feed import Feed

END_S: Final = 1
"""How long requests that are being answered may take when the server ends."""


class Web(uvicorn.Server):
    """Serves until SIGTERM, SIGINT or `end`. ready: called once, when requests are answered."""

    def __init__(self, app: ASGIApp, feed: Feed, ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="h11",
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_graceful_shutdown=END_S,
            )
        )
        self._feed = feed
        self._ready = ready
        self._over: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def serve_on(self, sockets: Sequence[socket.socket]) -> None:
        """Answer requests on these sockets until told to end."""
        asyncio.run(self.serve(list(sockets)))

    def end(self) -> None:
        """Stop, from any thread."""
        # Streams have no end of their own.
        self._feed.close()
        self.should_exit = True
        if self._over is not None:
            loop, over = self._over
            # A loop that is closed has ended already.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(over.set)

    async def main_loop(self) -> None:
        """Wait for the end. The parent looks for it ten times a second, which an idle server should not."""
        self._over = (asyncio.get_running_loop(), asyncio.Event())
        await self.on_tick(0)
        if not self.should_exit:
            await self._over[1].wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As the parent's, then say so."""
        await super().startup(sockets)
        self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came. The parent would raise it again in the end, before we have put everything away."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.end()
