"""A command in a container, over channels of one WebSocket: what it reads, what it prints, and how it ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlencode

import aiohttp
import msgspec

from gpumax.engines.kubernetes.client.connection import Connection, Request
from gpumax.engines.kubernetes.client.decode import NotUnderstood
from gpumax.engines.kubernetes.client.errors import Status
from gpumax.errors import GpumaxError

PROTOCOLS: Final = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, END, SIZE = range(5)
CLOSE: Final = 255
_STATUS: Final = msgspec.json.Decoder(Status)


class Channels:
    """One command that runs."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def say(self, data: bytes) -> None:
        """Give the command something to read; nothing is its end, for those who can be told that."""
        if data:
            await self._socket.send_bytes(bytes([STDIN]) + data)
        elif self._socket.protocol == PROTOCOLS[0]:
            await self._socket.send_bytes(bytes([CLOSE, STDIN]))

    async def resize(self, columns: int, rows: int) -> None:
        """The terminal has another size."""
        size = json.dumps({"Width": columns, "Height": rows}).encode()
        await self._socket.send_bytes(bytes([SIZE]) + size)

    async def heard(self) -> AsyncIterator[tuple[int, bytes]]:
        """What it prints, with the channel that it comes from: STDOUT or STDERR; at last END, with its status."""
        async for message in self._socket:
            if message.type is aiohttp.WSMsgType.BINARY and message.data:
                yield message.data[0], message.data[1:]


@asynccontextmanager
async def command(
    connection: Connection, path: str, words: Sequence[str], *, container: str, tty: bool, stdin: bool
) -> AsyncIterator[Channels]:
    """Start a command in a pod's container. path: of the pod's `exec`. ApiRefused where that may not be."""
    query = [("command", word) for word in words]
    query += [
        ("container", container),
        ("stdout", "true"),
        ("stdin", str(stdin).lower()),
        ("tty", str(tty).lower()),
    ]
    # On a terminal there is one stream for both.
    query += [("stderr", "true")] if not tty else []
    request = Request("GET", f"{path}?{urlencode(query)}")
    async with connection.upgraded(request, PROTOCOLS) as socket:
        yield Channels(socket)


def exit_code(status: bytes) -> int:
    """How a command ended. GpumaxError, with the reason, where it could not even begin."""
    try:
        said = _STATUS.decode(status)
    except msgspec.DecodeError:
        raise NotUnderstood("a command ended with something that is no status") from None
    if said.status == "Success":
        return 0
    for cause in (said.details.causes or ()) if said.details is not None else ():
        if cause.reason == "ExitCode" and (cause.message or "").isdigit():
            return int(cause.message or 1)
    raise GpumaxError(said.message or said.reason or "the command could not be started")
