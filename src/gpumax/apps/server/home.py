"""The data directory: ours alone, and one server's at a time."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gpumax.errors import Conflict, GpumaxError, Refused

OURS: Final = frozenset((
    "attempts", "checkpoints", "gangs", "gpumax.db", "gpumax.db-shm", "gpumax.db-wal", "gpumax.sock", "journal", "lock",
    "logs", "lost+found", "secrets", "server.json", "server.log", "token",
))  # fmt: skip
"""What a data directory holds."""

LONGEST_SOCKET: Final = 107
"""Bytes of a Unix socket's path, on every system."""

_PRIVATE: Final = 0o077


@contextmanager
def plainly(doing: str) -> Iterator[None]:
    """Turns what the system refuses into a sentence: `can't {doing}: no space left on device`."""
    try:
        yield
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise GpumaxError(f"can't {doing}: {why}") from None


def prepare(data: Path) -> None:
    """Make the directory, open to its owner only. Refused for one that is another's, or open to all with other things in it."""
    with plainly(f"use the data directory {data}"):
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = data.stat()
        if about.st_uid != os.geteuid():
            raise Refused(
                f"the data directory {data} belongs to another user; name one of your own with --data"
            )
        if about.st_mode & _PRIVATE:
            others = sorted(set(os.listdir(data)) - OURS)
            if others:
                raise Refused(
                    f"the data directory {data} is open to other users and holds {others[0]}, which is not gpumax's; "
                    "name an empty or new one with --data"
                )
            data.chmod(0o700)


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Hold the directory for as long as this process lives. Conflict, with its pid, where another server has it."""
    with plainly(f"use the data directory {data}"):
        descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(descriptor, 20).decode("ascii", "replace").strip() or "unknown"
            raise Conflict(
                f"a gpumax server (pid {pid}) uses {data} already; `gpumax down` stops it, --data names another directory"
            ) from None
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise GpumaxError(f"can't lock the data directory {data}: {why}") from None
        with plainly(f"write to the data directory {data}"):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(descriptor)


def write_private(path: Path, content: bytes) -> None:
    """Replace a file as a whole; only its owner may read it."""
    with plainly(f"write {path}"):
        descriptor, fresh = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            os.replace(fresh, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(fresh)
            raise


def token_of(data: Path) -> str:
    """The token that callers over TCP need; made at its first use."""
    path = data / "token"
    with plainly(f"read {path}"), suppress(FileNotFoundError):
        token = path.read_text(encoding="ascii", errors="replace").strip()
        if len(token) < 16 or not token.isprintable():
            raise Refused(f"{path} holds no token of 16 characters or more; delete it, and a new one is made")
        path.chmod(0o600)
        return token
    token = secrets.token_urlsafe(32)
    write_private(path, token.encode() + b"\n")
    return token


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
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & _PRIVATE:
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
            stack.callback(_remove, path)
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


@contextmanager
def announced(data: Path, socket: Path, url: str | None) -> Iterator[None]:
    """server.json, by which commands find the server, for as long as it answers."""
    path = data / "server.json"
    told = {"pid": os.getpid(), "socket": str(socket), **({"url": url} if url else {})}
    write_private(path, json.dumps(told).encode() + b"\n")
    try:
        yield
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
