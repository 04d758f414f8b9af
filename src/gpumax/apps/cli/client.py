"""The way to the server: HTTP over its Unix socket, or over TCP with a token."""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self
from urllib.parse import quote, urlencode, urlsplit

from gpumax.errors import BadFile, Conflict, Denied, Fault, GpumaxError, NotFound, Refused, Unreachable

Item = dict[str, Any]
"""A JSON object of the API."""

PREFIX: Final = "/api/v1"

RETRY_S: Final = (0.1, 0.3, 1.0, 2.0, 3.0)
"""Waits before a request whose connection was lost is sent again; a server that restarts is back by then."""

ANSWER_S: Final = 10.0
"""How long a server may take to begin its answer."""

TAKE_S: Final = 30.0
"""The same where it was sent something, which it may have to write down first."""

NOTICE_S: Final = 2.0
"""Before this long nobody needs to be told that it is waited for."""


class Door(NamedTuple):
    """Where a server answers. Either `path`, its Unix socket, or `host` and `port`."""

    about: str
    path: str = ""
    host: str = ""
    port: int = 0
    tls: bool = False
    token: str = ""
    base: str = ""

    @property
    def exposed(self) -> bool:
        """Whether who sees the traffic sees the token."""
        here = self.host in ("", "localhost", "::1") or self.host.startswith("127.")
        return bool(self.token) and not self.tls and not here


def find_door(data: Path, server: str | None = None) -> Door:
    """The door of the server at an address, or of the one that the data directory's server.json tells of."""
    if server:
        return _address(server, data)
    try:
        told = json.loads((data / "server.json").read_bytes())
        return Door(str(data), path=str(told["socket"]))
    except (FileNotFoundError, NotADirectoryError):
        raise absent(str(data)) from None
    except OSError as error:
        raise Unreachable(
            f"{data / 'server.json'} can't be read ({error.strerror}); whose server is it?"
        ) from None
    except (ValueError, LookupError, TypeError):
        wish = "start the server again with `gpumax up`"
        raise Unreachable(f"{data / 'server.json'} is not what a server writes; {wish}") from None


def _address(server: str, data: Path) -> Door:
    parts = urlsplit(server if "://" in server else f"http://{server}")
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
        raise Refused(f"{server!r} is no address of a server; wanted one like http://host:8080")
    tls = parts.scheme == "https"
    port = port or (443 if tls else 80)
    token = _token(data, (tls, parts.hostname, port))
    return Door(server, "", parts.hostname, port, tls, token, parts.path.rstrip("/"))


def _token(data: Path, address: tuple[bool, str, int]) -> str:
    """GPUMAX_TOKEN; without it that of the data directory, for its own server only: nobody else is to learn it."""
    source, token = "GPUMAX_TOKEN", os.environ.get("GPUMAX_TOKEN", "")
    if not token:
        try:
            told = urlsplit(json.loads((data / "server.json").read_bytes())["url"])
            if (told.scheme == "https", told.hostname, told.port) == address:
                source, token = str(data / "token"), (data / "token").read_text("ascii", "replace")
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return ""
    token = token.strip()
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise Refused(f"{source} holds characters that no token has; wanted the line in DATA/token")
    return token


def absent(about: str) -> Unreachable:
    """The error for a server that isn't there."""
    from gpumax.apps.kubernetes.known import current_context

    context = current_context()
    other = f", or add `--engine kubernetes` for the cluster of your context {context}" if context else ""
    return Unreachable(f"no gpumax server here ({about}); start one with `gpumax up`{other}")


class Lost(Unreachable):
    """The connection broke on the way; whether the server did what was asked isn't known."""


@contextmanager
def answering(about: str) -> Iterator[None]:
    """Turns what can go wrong while a server answers into errors fit for a user."""
    try:
        yield
    except TimeoutError:
        raise _silent(about) from None
    except (http.client.HTTPException, ConnectionError):
        raise Lost(f"the server ({about}) broke the connection; see `gpumax doctor`") from None


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Answer(Protocol):
    """An answer that is read piece by piece, or line by line, within answering()."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes; empty at the end."""
        ...

    def __iter__(self) -> Iterator[bytes]: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class Api(Protocol):
    """Whoever answers: the server of a machine, or a cluster. Used by many threads. about: what to call it."""

    about: str

    def get(self, path: str, query: Mapping[str, object] | None = None) -> Item:
        """GET a JSON object."""
        ...

    def send(
        self,
        method: str,
        path: str,
        body: bytes | Item | list[Item] | None = None,
        *,
        query: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Item:
        """One request. Raises the error that a refusal stands for."""
        ...

    def open(
        self,
        method: str,
        path: str,
        body: bytes | Item | list[Item] | None = None,
        *,
        query: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        silence_s: float | None = None,
    ) -> Answer:
        """An answer that comes piece by piece."""
        ...


class ServerApi:
    """Requests to one server. Every request has a connection of its own, so it may be used by many threads.

    find: tells where the server is; asked for each request, as a restart may move the socket. timeout_s: how long it may take
    to begin an answer; None: as long as such a request may take. notice: told once when it takes long.
    """

    def __init__(
        self,
        find: Callable[[], Door],
        *,
        timeout_s: float | None = None,
        retry_s: Sequence[float] = RETRY_S,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        self._find = find
        self._timeout_s = timeout_s
        self._retry_s = retry_s
        self._notice = notice
        self.about = find().about

    def get(self, path: str, query: Mapping[str, object] | None = None) -> Item:
        """GET a JSON object."""
        return self.send("GET", path, query=query)

    def send(
        self,
        method: str,
        path: str,
        body: bytes | Item | list[Item] | None = None,
        *,
        query: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Item:
        """One request; bytes go out as YAML, anything else as JSON. Sent again if the connection is lost on the way:
        every request of this API may be repeated, and one that makes something carries an idempotency key.
        """
        lost = False
        for wait in (*self._retry_s, None):
            try:
                with (
                    answering(self.about),
                    self.open(method, path, body, query=query, headers=headers) as response,
                ):
                    return _object(response.read(), self.about)
            except Lost:
                lost = True
                if wait is None:
                    raise
            except Unreachable:
                if not lost or wait is None:
                    raise
            except NotFound:
                if not lost or method != "DELETE":
                    raise
                # The lost answer was to the request that did it.
                return {}
            time.sleep(wait)
        raise AssertionError("the last attempt has returned or raised")

    def open(
        self,
        method: str,
        path: str,
        body: bytes | Item | list[Item] | None = None,
        *,
        query: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        silence_s: float | None = None,
    ) -> http.client.HTTPResponse:
        """The response to one request, to be read by the caller within answering(). Raises the error that a status of 400 or
        more stands for, and Lost where the connection breaks before the answer begins. silence_s: how long an answer may
        pause that has begun; None: as long as it may take to begin.
        """
        door = self._find()
        begin_s = self._timeout_s or (ANSWER_S if body is None else TAKE_S)
        connection = _connection(door, begin_s)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        content = (
            {}
            if body is None
            else {"Content-Type": "application/yaml" if body is data else "application/json"}
        )
        token = {"Authorization": f"Bearer {door.token}"} if door.token else {}
        address = f"{door.base}{PREFIX}{path}" + (f"?{urlencode(_given(query))}" if _given(query) else "")
        sent = {"Connection": "close", **content, **token, **(headers or {})}
        try:
            _connect(connection, door)
            with answering(door.about):
                connection.request(method, address, data, sent)
                line = connection.sock
                self._tell_if_slow(line, begin_s)
                response = connection.getresponse()
                line.settimeout(silence_s or begin_s)
        except BaseException:
            connection.close()
            raise
        if response.status >= 400:
            with response, answering(door.about):
                raise refusal(response.status, response.read())
        return response

    def _tell_if_slow(self, line: socket.socket, begin_s: float) -> None:
        """Say that the server is waited for, where its answer hasn't begun after a while."""
        notice = self._notice
        if notice is not None and begin_s > NOTICE_S and not select.select([line], [], [], NOTICE_S)[0]:
            self._notice = None
            notice(f"waiting for the server ({self.about}) to answer")


def _connect(connection: http.client.HTTPConnection, door: Door) -> None:
    try:
        connection.connect()
    except TimeoutError:
        raise _silent(door.about) from None
    except PermissionError:
        raise Unreachable(
            f"the socket of the server ({door.about}) may not be opened; it is another user's"
        ) from None
    except OSError as error:
        raise _refused(door, error) from None


def _connection(door: Door, timeout_s: float) -> http.client.HTTPConnection:
    if door.path:
        return _UnixConnection(door.path, timeout_s)
    kind = http.client.HTTPSConnection if door.tls else http.client.HTTPConnection
    return kind(door.host, door.port, timeout=timeout_s)


def _silent(about: str) -> Unreachable:
    return Unreachable(f"the server ({about}) does not answer; see `gpumax doctor`")


def _refused(door: Door, error: OSError) -> Unreachable:
    if door.path:
        return absent(door.about)
    return Unreachable(
        f"no server answers at {door.about} ({error.strerror or error}); is the address right?"
    )


def _given(query: Mapping[str, object] | None) -> dict[str, str]:
    """The parameters that say something."""
    return {name: str(value) for name, value in (query or {}).items() if value is not None and value != ""}


def segment(name: str) -> str:
    """A name as one segment of a path. Refused for what would lead elsewhere."""
    if not name or "/" in name or name in (".", ".."):
        raise Refused(f"found the name {name!r}; wanted one of letters, digits and `-`")
    return quote(name, safe="", errors="surrogateescape")


def _object(body: bytes, about: str) -> Item:
    if not body:
        return {}
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise GpumaxError(
            f"the server ({about}) answered with something that is no JSON object; is it gpumax?"
        )
    return answer


def refusal(status: int, body: bytes) -> GpumaxError:
    """The error that an answer stands for."""
    try:
        error = json.loads(body)["error"]
        message, rows = str(error["message"]), error.get("faults") or ()
        faults = [
            Fault(str(row.get("path") or ""), row.get("line"), str(row.get("found")), str(row.get("wanted")))
            for row in rows
        ]
    except (ValueError, LookupError, TypeError, AttributeError):
        message, faults = f"the server answered {status} {http.client.responses.get(status, '')}".rstrip(), []
    if faults:
        return BadFile(faults)
    if status == 401:
        return Denied(
            "the server wants its token; set GPUMAX_TOKEN to what the file `token` in its data directory holds"
        )
    kinds: dict[int, type[GpumaxError]] = {403: Denied, 404: NotFound, 409: Conflict}
    kind = kinds.get(status, GpumaxError if status >= 500 else Refused)
    return kind(message)
