"""HTTP to one API server: one try of one request, and what its failure means. Who tries again is `api`."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from time import perf_counter
from typing import Any, Final
from weakref import WeakSet

import aiohttp
import msgspec
from yarl import URL

from gpumax.engines.kubernetes.client.access import Access
from gpumax.engines.kubernetes.client.credentials import Proof
from gpumax.engines.kubernetes.client.decode import NotUnderstood, status_of
from gpumax.engines.kubernetes.client.errors import ApiRefused, NoAnswer, OutcomeUnknown, Withheld
from gpumax.engines.kubernetes.client.proxies import proxy_for
from gpumax.engines.kubernetes.client.servertime import ServerTime
from gpumax.engines.kubernetes.client.tls import Tls

AT_ONCE: Final = 64
"""Requests under way at a time; watches don't count."""

CONNECT_S: Final = 10.0
ANSWER_S: Final = 60.0
MOST_BYTES: Final = 1 << 30
"""The largest answer that is read: whoever stands in the API server's place must not fill our memory."""

GOODBYE_S: Final = 1.0
GOODBYE_LOOKS: Final = 100
HEARTBEAT_S: Final = 30.0
"""How often a WebSocket is asked whether it is still there."""
MOST_REFUSAL: Final = 1 << 20
READ_SIZE: Final = 1 << 20

Timed = Callable[[str, int, float], None]
"""Told of a request: its verb, the code of the answer (0: none came), and how long it took in seconds."""

_JSON: Final = "application/json"
_log: Final = logging.getLogger("gpumax.kubernetes")

_NEVER_SENT: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)
_BROKEN: Final = (aiohttp.ClientError, TimeoutError, OSError)


class Request(msgspec.Struct, frozen=True):
    """One request. query: what follows the `?`; a value that is empty is left out. content: the type of the body.

    may: whether it may still be sent; asked at the last moment, since before its turn there may be tokens, pauses and others to wait for.
    """

    method: str
    path: str
    query: Mapping[str, str] = {}
    body: bytes = b""
    content: str = _JSON
    patience_s: float = ANSWER_S
    may: Callable[[], bool] | None = None

    @property
    def reads(self) -> bool:
        """Whether it changes nothing, so that doing it twice is like doing it once."""
        return self.method == "GET" or "dryRun" in self.query

    @property
    def verb(self) -> str:
        """What is asked for, in a word: the method, or which act of its own it is."""
        act = self.path.rpartition("/")[2] if self.method == "POST" else ""
        return {"binding": "bind", "eviction": "evict"}.get(act, self.method.lower())

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Connection:
    """A pool of connections to one API server. Open it and use it within one event loop. agent: as which program we appear in its logs;
    timed: told how long requests take, streams aside.
    """

    def __init__(self, access: Access, agent: str, timed: Timed | None = None) -> None:
        self.access = access
        self.time = ServerTime()
        self._timed = timed
        self._tls = Tls(access)
        self._proxy = access.proxy or proxy_for(access.server)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, socket_factory=self._socket),
            headers={"User-Agent": agent, "Accept": _JSON, "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=READ_SIZE,
            raise_for_status=False,
        )
        # aiohttp sends a PUT or DELETE again when a kept connection breaks; whether that is right isn't its to know.
        self._session._retry_connection = False
        for note in access.notes():
            _log.warning("%s", note)

    async def close(self) -> None:
        """Close all connections. Those with TLS take leave of the other end first, for which nobody waits for long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self._session.close()
        for _ in range(GOODBYE_LOOKS):
            if all(each.fileno() < 0 for each in self._sockets):
                break
            await asyncio.sleep(GOODBYE_S / GOODBYE_LOOKS)

    async def ask(self, request: Request) -> bytes:
        """The body of the answer. ApiRefused, NoAnswer or, for what writes, OutcomeUnknown."""
        async with self._turns:
            timeout = aiohttp.ClientTimeout(total=request.patience_s, sock_connect=CONNECT_S)
            began, code = perf_counter(), 0
            try:
                async with self._answer(request, timeout) as answer:
                    code = answer.status
                    return await _body(answer, MOST_BYTES)
            except ApiRefused as error:
                code = error.code
                raise
            finally:
                if self._timed is not None:
                    self._timed(request.verb, code, perf_counter() - began)

    @asynccontextmanager
    async def stream(self, request: Request, stall_s: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body as it comes, piece by piece. NoAnswer when it breaks off, or when nothing comes for so long."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=stall_s)
        async with self._answer(request, timeout) as answer:
            yield answer.content.iter_any()

    @asynccontextmanager
    async def upgraded(
        self, request: Request, protocols: Sequence[str]
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A WebSocket that speaks one of these protocols. What breaks while it is used is told in the same words."""
        proof = await self.access.credential.proof()
        headers, more = self._way(proof)
        try:
            socket = await self._session.ws_connect(
                URL(self.access.server + request.path, encoded=True),
                protocols=protocols, headers=headers, max_msg_size=MOST_BYTES, heartbeat=HEARTBEAT_S, **more,
            )  # fmt: skip
        except aiohttp.WSServerHandshakeError as error:
            # The words of a refusal come with an answer to a plain request alone.
            await self.ask(request)
            raise NoAnswer(f"{request}: no WebSocket: {error.status} {error.message}") from None
        except _BROKEN as error:
            raise self._broken(request, error) from None
        try:
            yield socket
        except _BROKEN as error:
            raise self._broken(request, error) from None
        finally:
            await socket.close()

    @asynccontextmanager
    async def _answer(
        self, request: Request, timeout: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer, if it isn't a refusal. What breaks while it is read is told in the same words."""
        proof = await self.access.credential.proof()
        try:
            answer = await self._send(request, proof, timeout)
            if answer.status == 401 and self.access.credential.refused(proof):
                answer.release()
                answer = await self._send(request, await self.access.credential.proof(), timeout)
            self.time.heard(answer.headers.get("Date"))
            try:
                if answer.status >= 300:
                    raise await self._refusal(request, answer)
                yield answer
            finally:
                _leave(answer)
        except _BROKEN as error:
            raise self._broken(request, error) from None  # its text may hold what was sent

    async def _send(
        self, request: Request, proof: Proof, timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        if request.may is not None and not request.may():
            raise Withheld(f"{request}: not sent, since it isn't ours to write any more")
        headers, more = self._way(proof)
        if request.body:
            headers.append(("Content-Type", request.content))
        return await self._session.request(
            request.method, URL(self.access.server + request.path, encoded=True),  # as it is: nothing in it may lead upwards
            params={name: value for name, value in request.query.items() if value},
            data=request.body or None, headers=headers, timeout=timeout, allow_redirects=False, **more,
        )  # fmt: skip

    def _way(self, proof: Proof) -> tuple[list[tuple[str, str]], dict[str, Any]]:
        """Headers that say who we are, and how the connection is made."""
        access = self.access
        headers = [("Authorization", f"Bearer {proof.token.reveal()}")] if proof.token else []
        more: dict[str, Any] = {"proxy": self._proxy} if self._proxy else {}
        if access.server.startswith("https"):
            more |= {"ssl": self._tls.context(proof), "server_hostname": access.server_name or None}
        return [*headers, *access.acting], more

    async def _refusal(self, request: Request, answer: aiohttp.ClientResponse) -> ApiRefused | OutcomeUnknown:
        status = status_of(await _body(answer, MOST_REFUSAL))
        asked = _seconds(answer.headers.get("Retry-After"))
        if asked is None and status.details is not None and status.details.retry_after_seconds:
            asked = float(status.details.retry_after_seconds)
        refused = ApiRefused(answer.status, status, asked=str(request), retry_after_s=asked)
        if answer.status < 500 or request.reads:
            return refused
        # Behind a 5xx the write may have reached the store all the same, or may still do so.
        return OutcomeUnknown(f"{refused}; it may have been carried out all the same")

    def _socket(self, address: tuple[Any, ...]) -> socket.socket:
        """A socket that finds out within a minute that its other end is gone without a word."""
        family, kind, protocol = address[:3]
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):
                made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._sockets.add(made)
        return made

    def _broken(self, request: Request, error: Exception) -> NoAnswer | OutcomeUnknown:
        why = _reason(error)
        if isinstance(error, _NEVER_SENT) or request.reads:
            return NoAnswer(
                f"{request}: no answer from {self.access.server} (context {self.access.name}): {why}"
            )
        return OutcomeUnknown(
            f"{request}: no clear answer from {self.access.server}: {why}; it may have been carried out"
        )


async def _body(answer: aiohttp.ClientResponse, most: int) -> bytes:
    """All of an answer, if it isn't too long."""
    pieces, size = [], 0
    async for piece in answer.content.iter_any():
        size += len(piece)
        if size > most:
            answer.close()
            raise NotUnderstood(f"an answer of more than {most >> 20} MiB")
        pieces.append(piece)
    return b"".join(pieces)


def _reason(error: Exception) -> str:
    """What a person can use of an error; never its repr, which has the headers of the request."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate isn't valid for us: {getattr(error.certificate_error, 'verify_message', '') or 'untrusted'}"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy refused: {error.status} {error.message}"
    if isinstance(error, TimeoutError):
        return "nothing came in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return {"ServerDisconnectedError": "the connection was closed"}.get(
        type(error).__name__, type(error).__name__
    )


def _seconds(text: str | None) -> float | None:
    """Retry-After in seconds; as a date, which the API server never sends, it counts for nothing."""
    return float(text) if text is not None and text.isascii() and text.isdigit() else None


def _leave(answer: aiohttp.ClientResponse) -> None:
    """Give the connection back. One over which more would come is of no more use, and no goodbye is said on it."""
    if answer.connection is not None and answer.connection.transport is not None:
        answer.connection.transport.abort()
    answer.close()
