"""Somebody between clients and the API server who reads what passes: single requests can be answered in the server's place, held up, or lost.

It shows the plane's certificate, and passes on as one user, whoever asks.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
import yaml
from aiohttp import web

from controlplane.certificates import Authority
from controlplane.processes import HOST

_HEADERS: Final = ("Accept", "Content-Type", "User-Agent")
_START_S: Final = 10.0


class Answer(NamedTuple):
    """What is said to a request."""

    status: int
    body: bytes = b"{}"
    headers: dict[str, str] = {}  # noqa: RUF012  never changed


Pass = Callable[[], Awaitable[Answer]]
How = Callable[[Pass], Awaitable[Answer | None]]
"""Given how to pass the request on: the answer, or None to break the connection off without one."""
When = Callable[[web.Request], bool]


class Rule:
    """What is done with some requests, while it holds. met: how many it met so far."""

    def __init__(self, when: When, how: How, most: int | None) -> None:
        self.when = when
        self.how = how
        self.most = most
        self.met = 0


class Middle:
    """Listens on a port of its own until it is closed. `goodbye`: it parts with each connection after one answer, as a server that sheds load does."""

    def __init__(
        self, server: str, authority: Authority, identity: tuple[Path, Path], directory: Path
    ) -> None:
        self._server = server
        self._authority = authority
        self._identity = identity
        self.goodbye = False
        self.waiting = 0  # requests for which no answer went back yet; watches don't count
        self._rules: list[Rule] = []
        self._watches: list[web.Request] = []
        self._silent: list[web.Request] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._runner, self.port = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(
            _START_S
        )
        self.kubeconfig = self._config(directory)

    @contextmanager
    def rule(self, when: When, how: How, *, most: int | None = None) -> Iterator[Rule]:
        """Have a rule hold meanwhile; for the first `most` requests that it meets."""
        made = Rule(when, how, most)
        self._rules.append(made)
        try:
            yield made
        finally:
            self._rules.remove(made)

    def silence(self, when: When) -> int:
        """Let nothing more through of the watches that are open now, for good, and tell nobody; how many those are."""
        found = [watch for watch in list(self._watches) if when(watch)]
        self._silent += found
        return len(found)

    def close(self) -> None:
        """The end of it."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(_START_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> tuple[web.AppRunner, int]:
        upstream = ssl.create_default_context(cafile=str(self._authority.certificate))
        upstream.load_cert_chain(*self._identity)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=upstream),
            headers={"Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=None),
        )
        own = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        own.load_cert_chain(*self._authority.server("middle", HOST))
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, HOST, 0, ssl_context=own)
        await site.start()
        return runner, runner.addresses[0][1]

    async def _end(self) -> None:
        await self._session.close()
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if "watch" in request.query and not any(rule.when(request) for rule in self._rules):
            return await self._stream(request)
        self.waiting += 1
        try:
            for rule in self._rules:
                if (rule.most is None or rule.met < rule.most) and rule.when(request):
                    rule.met += 1
                    return await self._by(rule, request, body)
            return self._said(await self._pass(request, body))
        finally:
            self.waiting -= 1

    async def _by(self, rule: Rule, request: web.Request, body: bytes) -> web.StreamResponse:
        # It goes on when the client has hung up: what was passed on can't be called back.
        answer = await asyncio.shield(asyncio.ensure_future(rule.how(lambda: self._pass(request, body))))
        if answer is None:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        return self._said(answer)

    async def _pass(self, request: web.Request, body: bytes) -> Answer:
        headers = {name: request.headers[name] for name in _HEADERS if name in request.headers}
        async with self._session.request(
            request.method, self._server + request.raw_path, data=body or None, headers=headers
        ) as answer:
            kept = {
                name: answer.headers[name]
                for name in ("Content-Type", "Retry-After")
                if name in answer.headers
            }
            return Answer(answer.status, await answer.read(), kept)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """A watch, line by line as it comes."""
        headers = {name: request.headers[name] for name in _HEADERS if name in request.headers}
        async with self._session.get(self._server + request.raw_path, headers=headers) as answer:
            told = web.StreamResponse(status=answer.status, headers={"Content-Type": "application/json"})
            await told.prepare(request)
            self._watches.append(request)
            try:
                async for piece in answer.content.iter_any():
                    if request not in self._silent:
                        await told.write(piece)
            except (aiohttp.ClientError, ConnectionError):
                if request.transport is not None:
                    request.transport.abort()
            finally:
                self._watches.remove(request)
            return told

    def _said(self, answer: Answer) -> web.Response:
        made = web.Response(status=answer.status, body=answer.body, headers=answer.headers)
        if self.goodbye:
            made.force_close()
        return made

    def _config(self, directory: Path) -> Path:
        path = directory / f"middle-{self.port}.kubeconfig"
        server = {
            "server": f"https://{HOST}:{self.port}",
            "certificate-authority": str(self._authority.certificate),
        }
        content = {
            "apiVersion": "v1", "kind": "Config", "current-context": "middle",
            "clusters": [{"name": "middle", "cluster": server}],
            "users": [{"name": "middle", "user": {}}],
            "contexts": [{"name": "middle", "context": {"cluster": "middle", "user": "middle"}}],
        }  # fmt: skip
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(content))
        return path


def says(status: int, reason: str, message: str = "", **headers: str) -> How:
    """The server isn't asked; this is said in its place."""

    async def how(_: Pass) -> Answer:
        body = f'{{"kind":"Status","apiVersion":"v1","status":"Failure","code":{status},"reason":"{reason}","message":"{message}"}}'
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return Answer(status, body.encode(), {"Content-Type": "application/json", **more})

    return how


async def loses_the_answer(go: Pass) -> None:
    """The server does what it is asked, and nobody hears of it."""
    await go()


async def loses_the_request(_: Pass) -> None:
    """The server is never asked, and nobody says so."""


class Gate:
    """Holds up requests, before the server hears of them or before its answer comes back, until it is opened."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def open(self) -> None:
        """Let everything through, late."""
        self._open.set()

    async def before(self, go: Pass) -> Answer:
        """The server hears of it when the gate is open."""
        await self._opened()
        return await go()

    async def after(self, go: Pass) -> Answer:
        """The server's answer comes when the gate is open."""
        answer = await go()
        await self._opened()
        return answer

    async def _opened(self) -> None:
        while not self._open.is_set():
            await asyncio.sleep(0.01)


def binds(request: web.Request) -> bool:
    """Binds of pods."""
    return request.method == "POST" and request.path.endswith("/binding")


def writes(request: web.Request) -> bool:
    """All that changes something."""
    return request.method != "GET"


def anything(_: web.Request) -> bool:
    """Any request."""
    return True
