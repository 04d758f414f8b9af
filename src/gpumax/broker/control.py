"""How others speak with the broker of a node: which groups there are, and how everybody is. `Control` is the client.

The broker listens at `control.sock` in its directory, for its own user alone: a JSON object a line each way.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from io import BufferedReader
from pathlib import Path
from typing import Final, Literal

import msgspec

from gpumax.broker.status import Status
from gpumax.errors import Conflict, Refused, Unreachable

SOCKET: Final = "control.sock"
LONGEST_LINE: Final = 1 << 20
_UUID: Final = re.compile(
    r"(?:GPU-)?([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})", re.I | re.A
)
NAME: Final = re.compile(r"(?!control$)[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
"""Of a group. Its socket is called so, beside ours."""
WANTED_NAME: Final = (
    "letters, digits, `_`, `.` and `-`, at most 64, a letter or digit first, and not `control`"
)


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All processes of one workload on this node. Amounts are bytes of each of its devices."""

    name: str
    devices: tuple[str, ...]
    """UUIDs."""
    guaranteed: int
    limit: int = 0
    """0: what is guaranteed."""
    share: float = 1.0
    mode: Literal["fair", "strict"] = "fair"
    priority: int = 0
    swap: bool = False
    users: tuple[int, ...] | Literal["any"] = ()
    """Whose processes may connect; empty: the broker's own user. `any`: whoever reaches the socket, as in a container."""


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device that the broker gives out. bytes: of its memory, without what the driver takes."""

    uuid: str
    bytes: int
    name: str = "GPU"


class Add(msgspec.Struct, frozen=True, tag_field="do", tag="add"):
    """owned: the group lives as long as the process that asks, and those that use it."""

    group: Group
    owned: bool = False


class Configure(msgspec.Struct, frozen=True, tag_field="do", tag="configure"):
    """Another share, mode, priority or other amounts for a group that is there, on the same devices and for the same users."""

    group: Group


class Remove(msgspec.Struct, frozen=True, tag_field="do", tag="remove"):
    name: str


class Ask(msgspec.Struct, frozen=True, tag_field="do", tag="status"):
    pass


class Watch(msgspec.Struct, frozen=True, tag_field="do", tag="watch"):
    """A status now, and one each second."""


class Measure(msgspec.Struct, frozen=True, tag_field="do", tag="metrics"):
    pass


class List(msgspec.Struct, frozen=True, tag_field="do", tag="groups"):
    """The groups, as they were asked for."""


Request = Add | Configure | Remove | Ask | Watch | Measure | List


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """To everything but `status` and `watch`. error: why not, in words."""

    error: str = ""
    conflict: bool = False
    socket: str = ""
    text: str = ""
    groups: tuple[Group, ...] = ()


class Told(msgspec.Struct, frozen=True):
    """What the broker reported. Numbers begin at 1 with each epoch. pid: the process that it is about, where no group has it."""

    number: int
    kind: str
    group: str
    text: str
    pid: int = 0


class Seen(Status, frozen=True):
    """A status, and what was reported of late."""

    reports: tuple[Told, ...] = ()


def key(uuid: str) -> str | None:
    """A UUID, with or without `GPU-` and dashes, as 32 digits; None: it is none."""
    match = _UUID.fullmatch(uuid)
    return "".join(match.groups()).lower() if match else None


def uuid(key: str) -> str:
    """The same as the driver's tools write it."""
    return f"GPU-{key[:8]}-{key[8:12]}-{key[12:16]}-{key[16:20]}-{key[20:]}"


class Control:
    """Speaks with the broker in a directory. Unreachable where there is none, Refused or Conflict where it says no."""

    def __init__(self, directory: Path, timeout_s: float = 10.0) -> None:
        self._directory = directory
        self._timeout_s = timeout_s

    def add(self, group: Group, *, owned: bool = False) -> Path:
        """Have a group. Once more is no fault where it says the same. Returns its socket, for GPUMAX_SOCKET."""
        return Path(self._ask(Add(group, owned)).socket)

    def configure(self, group: Group) -> None:
        """Have it so from now on; its processes hear of it. Refused where it isn't there, or can't be so."""
        self._ask(Configure(group))

    def remove(self, name: str) -> None:
        """Have it no more. One that isn't there is no fault."""
        self._ask(Remove(name))

    def groups(self) -> tuple[Group, ...]:
        """The groups, as they were asked for."""
        return self._ask(List()).groups

    def status(self) -> Seen:
        """How everybody is."""
        with closing(self._say(Ask())) as lines:
            return msgspec.json.decode(self._next(lines), type=Seen)

    def watch(self) -> Iterator[Seen]:
        """The same, each second, until the broker ends."""
        with closing(self._say(Watch())) as lines:
            while line := self._line(lines):
                yield msgspec.json.decode(line, type=Seen)

    def metrics(self) -> str:
        """What Prometheus may know, in its text format."""
        return self._ask(Measure()).text

    def _ask(self, request: Request) -> Answer:
        with closing(self._say(request)) as lines:
            answer = msgspec.json.decode(self._next(lines), type=Answer)
        if answer.error:
            raise Conflict(answer.error) if answer.conflict else Refused(answer.error)
        return answer

    def _say(self, request: Request) -> BufferedReader:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with closing(sock):
            sock.settimeout(self._timeout_s)
            try:
                connect(sock, self._directory / SOCKET)
                sock.sendall(msgspec.json.encode(request) + b"\n")
            except OSError as error:
                raise self._gone(error) from None
            return sock.makefile("rb")

    def _next(self, lines: BufferedReader) -> bytes:
        line = self._line(lines)
        if not line:
            raise Unreachable(f"the broker in {self._directory} ended before it answered")
        return line

    def _line(self, lines: BufferedReader) -> bytes:
        try:
            line = lines.readline()
        except OSError as error:
            raise self._gone(error) from None
        return line if line.endswith(b"\n") else b""

    def _gone(self, error: OSError) -> Unreachable:
        why = (
            "it doesn't answer" if isinstance(error, TimeoutError) else (error.strerror or str(error)).lower()
        )
        return Unreachable(f"no broker answers in {self._directory} ({why})")


def connect(sock: socket.socket, path: Path) -> None:
    """Connect to a socket, however long its path: the system takes 107 bytes."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
