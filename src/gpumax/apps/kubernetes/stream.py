"""An answer that comes piece by piece, for whoever reads it from another thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeVar

from gpumax.apps.kubernetes.refusals import plainly
from gpumax.engines.kubernetes.client.errors import NoAnswer
from gpumax.errors import Unreachable

T = TypeVar("T")


class Stream:
    """Read like the answer of an HTTP server. The first piece is fetched at once, so that a refusal comes before anything else."""

    def __init__(self, pieces: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop, about: str) -> None:
        self._pieces = pieces
        self._loop = loop
        self._about = about
        self._begun = False
        self._left = self._next()
        self._begun = True

    def read(self, size: int = -1) -> bytes:
        """The next bytes, `size` of them at most; all that is still to come where none is given; empty at the end."""
        if size < 0:
            return b"".join(iter(lambda: self.read(1 << 16), b""))
        piece = self._left or self._next()
        self._left = piece[size:]
        return piece[:size]

    def __iter__(self) -> Iterator[bytes]:
        """Line by line."""
        begun = b""
        while piece := self.read(1 << 16):
            *lines, begun = (begun + piece).split(b"\n")
            for line in lines:
                yield line + b"\n"
        if begun:
            yield begun

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        close = getattr(self._pieces, "aclose", None)
        if close is not None and self._loop.is_running():
            with suppress(Exception):
                asyncio.run_coroutine_threadsafe(close(), self._loop).result(1.0)

    def _next(self) -> bytes:
        with plainly(self._about):
            try:
                return waited_for(_next_of(self._pieces), self._loop)
            except NoAnswer as error:
                if self._begun:
                    # As when a server breaks a connection: whoever follows asks again.
                    raise ConnectionError(str(error)) from None
                raise


def waited_for(
    work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop, timeout_s: float | None = None
) -> T:
    """What comes of it, from another thread. Unreachable where the loop has been ended, before or meanwhile."""
    if loop.is_closed():
        work.close()
        raise Unreachable("the connection to the cluster was closed")
    try:
        return asyncio.run_coroutine_threadsafe(work, loop).result(timeout_s)
    except CancelledError:
        raise Unreachable("the connection to the cluster was closed") from None


async def _next_of(pieces: AsyncIterator[bytes]) -> bytes:
    """The next piece; empty at the end."""
    async for piece in pieces:
        if piece:
            return piece
    return b""
