"""Where callers come in: the Unix socket, and a TCP port for those who ask for one."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from gpumax.apps.server.home import PRIVATE, plainly, remove, token_of
from gpumax.errors import GpumaxError, Refused

LONGEST_SOCKET: Final = 107
"""Bytes of a Unix socket's path, on every system."""


class Doors(NamedTuple):
    """The sockets to serve on. path: of the Unix socket; url: of the TCP port; token: for that, empty where there is none."""

    listeners: tuple[socket.socket, ...]
    path: Path
    url: str | None = None
    token: str = ""


@contextmanager
def doors(data: Path, listen: str | None) -> Iterator[Doors]:
    """The sockets of a data directory whose lock is held. listen: HOST:PORT for TCP, too."""
    path = socket_path(data)
    with unix_socket(path) as local:
        if listen is None:
            yield Doors((local,), path)
            return
        with tcp_socket(listen) as remote:
            yield Doors((local, remote), path, url_of(remote), token_of(data))


def socket_path(data: Path) -> Path:
    """Where the Unix socket goes: into the data directory, or, where that makes its path too long, somewhere short."""
    path = data / "gpumax.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET:
        return path
    number = data.stat()
    name = f"{number.st_dev:x}-{number.st_ino:x}.sock"
    short = Path(os.environ.get("XDG_RUNTIME_DIR", "")) / "gpumax"
    if (
        not short.is_absolute()
        or not short.parent.is_dir()
        or len(os.fsencode(short / name)) > LONGEST_SOCKET
    ):
        short = Path(f"/tmp/gpumax-{os.geteuid()}")  # noqa: S108 - owner and mode are checked
    with plainly(f"make {short} for the socket"):
        short.mkdir(mode=0o700, exist_ok=True)
        about = short.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & PRIVATE:
        raise Refused(
            f"{short}, where the socket would go, is not yours alone; remove it, or name a shorter --data"
        )
    return short / name


@contextmanager
def unix_socket(path: Path) -> Iterator[socket.socket]:
    """A socket that only its owner may open, bound but not listening yet.

    Whoever calls holds the directory's lock: a socket that is there already is stale.
    """
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        with plainly(f"listen on {path}"):
            path.unlink(missing_ok=True)
            before = os.umask(0o177)
            try:
                listener.bind(os.fspath(path))
            finally:
                os.umask(before)
            stack.callback(remove, path)
        yield listener


@contextmanager
def tcp_socket(listen: str) -> Iterator[socket.socket]:
    """A listening socket on HOST:PORT. Refused for what is no address; GpumaxError where the port is taken or the host isn't ours."""
    host, port = read_address(listen)
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise Refused(
            f"--listen {listen}: no host {host} is known here; wanted one like 127.0.0.1:8080"
        ) from None
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(128)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise GpumaxError(
                    f"port {port} on {host} is in use by another program; --listen another one"
                ) from None
            if error.errno == errno.EADDRNOTAVAIL:
                raise Refused(f"--listen {listen}: {host} is no address of this machine") from None
            raise GpumaxError(f"can't listen on {listen}: {(error.strerror or str(error)).lower()}") from None
        yield listener


def read_address(listen: str) -> tuple[str, int]:
    """Host and port of HOST:PORT, [V6]:PORT or :PORT, which is every address of this machine. Refused."""
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > 65535 or "/" in host:
        raise Refused(f"--listen {listen}: wanted HOST:PORT, like 127.0.0.1:8080")
    return host or "0.0.0.0", int(port)  # noqa: S104 - asked for, and behind a token


def url_of(listener: socket.socket) -> str:
    """The address under which a listening socket is reached; one that listens everywhere is reached by the host's name."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def notes_on(url: str | None) -> tuple[str, ...]:
    """What a user should know of an address: nothing of one that only this machine reaches."""
    host = urlsplit(url or "").hostname or "localhost"
    if host in ("localhost", "::1") or host.startswith("127."):
        return ()
    return (f"{url} is not encrypted: who sees the traffic sees the token; put TLS in front of it",)
