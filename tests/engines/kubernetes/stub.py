"""An API server that says what a test tells it to, byte by byte, and breaks off where the test says so."""

from __future__ import annotations

import asyncio
import functools
import json
import random
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, ParamSpec
from urllib.parse import parse_qsl, urlsplit

from gpumax.engines.kubernetes.client.access import Access
from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.credentials import Anonymous, Credential
from gpumax.engines.kubernetes.client.retry import Pauses

P = ParamSpec("P")
Json = dict[str, Any]


def story(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test that is a coroutine."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class Asked(NamedTuple):
    """A request as it came."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Json:
        """Its body."""
        found: Json = json.loads(self.body)
        return found


class Talk:
    """The server's side of one answer."""

    def __init__(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        self.asked = asked
        self._writer = writer

    async def say(self, status: int, body: object = None, **headers: str) -> None:
        """A whole answer: JSON, or bytes as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._head(status, {"Content-Length": str(len(data)), **headers})
        self._writer.write(data)
        await self._writer.drain()

    async def begin(self) -> None:
        """The beginning of an answer without a known end."""
        self._head(200, {"Transfer-Encoding": "chunked"})
        await self._writer.drain()

    async def lines(self, *events: object) -> None:
        """Lines of a watch, in one piece each."""
        for event in events:
            await self.piece(json.dumps(event).encode() + b"\n")

    async def piece(self, data: bytes) -> None:
        """Bytes as they are."""
        self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self._writer.drain()

    async def end(self) -> None:
        """The orderly end of such an answer."""
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    def reset(self) -> None:
        """Break the connection off."""
        self._writer.transport.abort()

    async def for_ever(self) -> None:
        """Say nothing more."""
        await asyncio.Event().wait()

    def certificate(self) -> Json:
        """The certificate that the client showed."""
        found: Json = self._writer.get_extra_info("peercert")
        return found

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} Said", "Content-Type: application/json"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self._writer.write("\r\n".join([*lines, "", ""]).encode())


Script = Callable[[Talk], Awaitable[None]]


class Stub:
    """Plays scripts: for each path those given, in their order, the last again and again. Remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.connections = 0
        self.url = ""
        self._scripts: dict[str, list[Script]] = defaultdict(list)
        self._tasks: set[asyncio.Task[None]] = set()

    def plays(self, path: str, *scripts: Script) -> None:
        """What to do when this path is asked for."""
        self._scripts[path] += scripts

    def count(self, method: str) -> int:
        """How many requests of a method came."""
        return sum(asked.method == method for asked in self.asked)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while (asked := await _asked(reader)) is not None:
                self.asked.append(asked)
                scripts = self._scripts[asked.path]
                script = scripts.pop(0) if len(scripts) > 1 else scripts[0]
                await script(Talk(asked, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def close(self) -> None:
        """End what is still being said."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _asked(reader: asyncio.StreamReader) -> Asked | None:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")[:-2]
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in rest)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    parts = urlsplit(target)
    return Asked(method, parts.path, dict(parse_qsl(parts.query)), headers, body)


@asynccontextmanager
async def stub(context: ssl.SSLContext | None = None) -> AsyncIterator[Stub]:
    """A server on a port of its own."""
    made = Stub()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    made.url = f"{'https' if context else 'http'}://127.0.0.1:{port}"
    try:
        yield made
    finally:
        server.close()
        await made.close()


class Rests:
    """Pauses that pass at once, and are remembered."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    def pauses(self) -> Pauses:
        """The same dice each time."""
        return Pauses(random.Random(5), self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.taken.append(seconds)
        await asyncio.sleep(0)


@asynccontextmanager
async def api_of(
    served: Stub, credential: Credential | None = None, rests: Rests | None = None, **access: Any
) -> AsyncIterator[Api]:
    """A client of the server."""
    where = Access(name="test", server=served.url, credential=credential or Anonymous(), **access)
    async with Api(where, pauses=(rests or Rests()).pauses()) as api:
        yield api


def says(status: int, body: object = None, **headers: str) -> Script:
    """One whole answer."""
    return lambda talk: talk.say(status, body, **headers)


def refusal(code: int, reason: str, message: str = "", **details: Any) -> Json:
    """What the API server says when it refuses."""
    return {
        "kind": "Status",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
        "details": details,
    }


def pod(name: str, version: int, *, uid: str = "", namespace: str = "ns", **spec: Any) -> Json:
    """A pod at a version."""
    meta = {
        "name": name,
        "namespace": namespace,
        "uid": uid or f"uid-{name}",
        "resourceVersion": str(version),
    }
    return {"metadata": meta, "spec": spec, "status": {"phase": "Pending"}}


def page(version: int, *items: Json, more: str = "") -> Json:
    """A page of a list."""
    return {"metadata": {"resourceVersion": str(version), "continue": more}, "items": list(items)}


def event(kind: str, thing: Json) -> Json:
    """A line of a watch."""
    return {"type": kind, "object": thing}


def bookmark(version: int, *, ends_list: bool = False) -> Json:
    """How far a watch is."""
    meta: Json = {"resourceVersion": str(version)}
    if ends_list:
        meta["annotations"] = {"k8s.io/initial-events-end": "true"}
    return event("BOOKMARK", {"metadata": meta})
