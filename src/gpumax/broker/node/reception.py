"""Who comes in: the sockets of groups, who is turned away at them, and the pages that a process gets or has already."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from gpumax.broker import messages as msg
from gpumax.broker.core import events as ev
from gpumax.broker.core.state import State
from gpumax.broker.node import pages, process, sockets
from gpumax.broker.node.connection import Connection
from gpumax.broker.node.metrics import Metrics
from gpumax.broker.node.roster import Member, Roster
from gpumax.broker.node.sockets import Users
from gpumax.broker.wire import Garbled, Header
from gpumax.broker.words import ErrorCode, HelloFlags, LeaseState

CLIENTS: Final = 256
"""At most so many processes a group: whoever opens more takes nothing from other groups."""
HELLO_S: Final = 10.0
"""Who says nothing for so long after it has connected is disconnected."""


class Reception:
    """`joined` gets the event of each process that is let in, and its connection, which is somebody else's from then on;
    `ended` each connection that has ended; `forget` who has been replaced.

    `names`: devices as groups have them, by what processes call them.
    """

    def __init__(
        self, directory: Path, names: Mapping[str, str], roster: Roster, metrics: Metrics, *,
        clock: Callable[[], int], joined: Callable[[ev.Joined, Connection], None],
        ended: Callable[[Connection], None], forget: Callable[[int], None],
    ) -> None:  # fmt: skip
        self._directory = directory
        self._names = names
        self._roster = roster
        self._metrics = metrics
        self._clock = clock
        self._joined = joined
        self._ended = ended
        self._forget = forget
        self._state: State | None = None
        self._listening: dict[str, socket.socket] = {}
        self._users: dict[str, Users] = {}
        self._waiting: dict[Connection, str] = {}
        self._next = 1

    def begin(self, state: State) -> None:
        """There is a broker now: whom it knows is in `state`."""
        self._state = state

    def keep_clear_of(self, client: int) -> None:
        """An earlier broker has given this number to somebody."""
        self._next = max(self._next, client + 1)

    def path(self, name: str) -> Path:
        """What GPUMAX_SOCKET names for the processes of a group."""
        return sockets.place(self._directory, name, self._users.get(name, frozenset()))

    def listen(self, name: str, users: Users) -> None:
        """From now on processes of this group may come. Raises Refused."""
        sock = sockets.listen(sockets.place(self._directory, name, users), users)
        self._listening[name], self._users[name] = sock, users
        asyncio.get_running_loop().add_reader(sock.fileno(), self._accept, name)

    def close(self, name: str) -> None:
        """The group is gone, and so is its socket."""
        sock = self._listening.pop(name, None)
        if sock is not None:
            asyncio.get_running_loop().remove_reader(sock.fileno())
            sock.close()
            sockets.remove(self.path(name), self._users[name])

    def leave(self) -> None:
        """The broker ends: who has not come in yet doesn't, and sockets stay where they are."""
        for sock in self._listening.values():
            asyncio.get_running_loop().remove_reader(sock.fileno())
            sock.close()
        self._listening.clear()
        for connection in list(self._waiting):
            connection.close()

    def _accept(self, name: str) -> None:
        try:
            sock, _ = self._listening[name].accept()
        except OSError:
            return
        assert self._state is not None
        connection = Connection(
            sock, self._state.epoch, clock=self._clock,
            heard=lambda c, h, m, _: self._heard(name, c, h, m), ended=self._gone,
        )  # fmt: skip
        self._waiting[connection] = name
        who = process.peer(sock)
        users = self._users[name]
        if users is not None and who.uid not in users:
            self.turn_away(connection, ErrorCode.NOT_ALLOWED, f"user {who.uid} has no share here")
        elif self._came(name) > CLIENTS:
            self.turn_away(
                connection, ErrorCode.TOO_MANY, f"{CLIENTS} processes of group {name} are connected"
            )
        else:
            asyncio.get_running_loop().call_later(HELLO_S, self._give_up, connection)

    def _came(self, group: str) -> int:
        inside = sum(member.owner.group == group for member in self._roster.members.values())
        return inside + sum(name == group for name in self._waiting.values())

    def _give_up(self, connection: Connection) -> None:
        if connection in self._waiting:
            self.turn_away(connection, ErrorCode.STATE, f"no HELLO within {HELLO_S:g} s")

    def turn_away(self, connection: Connection, code: ErrorCode, text: str) -> None:
        """It's told why, and its connection ends."""
        self._metrics.refused.labels(code.name.lower()).inc()
        connection.refuse(code, text)

    def _gone(self, connection: Connection) -> None:
        self._waiting.pop(connection, None)
        self._ended(connection)

    def _heard(self, group: str, connection: Connection, header: Header, message: msg.Message) -> None:
        if not isinstance(message, msg.Hello):
            connection.complain(Garbled("HELLO comes first", ErrorCode.STATE, header.type))
            return
        owner = self._owner(group, connection, message)
        if owner is None:
            return
        reconnects = HelloFlags.RECONNECTS in HelloFlags(message.flags)
        member = (self._back(owner, connection) if reconnects else None) or self._new(owner, connection)
        if member is None:
            connection.close()
            return
        self._let_in(member, connection, message)
        self._retire(member.owner)

    def _owner(self, group: str, connection: Connection, hello: msg.Hello) -> pages.Owner | None:
        """As whom it may come in; None: not at all, and its connection has ended."""
        assert self._state is not None
        who = process.peer(connection.sock)
        began = process.started(who.pid)
        known = self._state.groups.get(group)
        if who.pid == 0:
            text = "its process can't be seen from here; the broker has to be in the host's PID namespace (hostPID)"
            self.turn_away(connection, ErrorCode.NOT_ALLOWED, text)
            return None
        if began is None or known is None:
            connection.close()
            return None
        devices = tuple(self._names.get(uuid.hex(), uuid.hex()) for uuid in hello.uuid)
        unknown = [device for device in devices if device not in known.spec.memory]
        if unknown or not devices or len(set(devices)) < len(devices):
            what = f"device {unknown[0]} isn't of group {group}" if unknown else "no device, or one twice"
            self.turn_away(connection, ErrorCode.UNKNOWN_DEVICE, what)
            return None
        return pages.Owner(self._next, group, who.pid, began, devices)

    def _let_in(self, member: Member, connection: Connection, hello: msg.Hello) -> None:
        assert self._state is not None
        owner, flags = member.owner, HelloFlags(hello.flags)
        known = self._state.groups[owner.group]
        for index, device in enumerate(owner.devices):
            member.pages.write(index, "limit", known.share_of(device).limit)
        connection.client = owner.client
        self._waiting.pop(connection, None)
        self._joined(
            ev.Joined(
                self._clock(), owner.client, owner.group, owner.pid, owner.devices,
                swaps=HelloFlags.SWAPS in flags, checkpoints=HelloFlags.CHECKPOINTS in flags,
                ranks=hello.ranks, rank=hello.rank, reconnects=HelloFlags.RECONNECTS in flags,
            ),
            connection,
        )  # fmt: skip

    def _new(self, owner: pages.Owner, connection: Connection) -> Member | None:
        assert self._state is not None
        self._next += 1
        file = pages.create(self._directory / "pages", owner, self._state.epoch)
        member = self._roster.add(owner, file, connection)
        if member is None:
            file.remove()
        return member

    def _back(self, owner: pages.Owner, connection: Connection) -> Member | None:
        """Who comes back goes on with the pages that it has: its threads stand in them."""
        assert self._state is not None
        for member in self._roster.members.values():
            if (
                member.connection is None
                and msgspec.structs.replace(owner, client=member.owner.client) == member.owner
            ):
                member.connection = connection
                member.pages.write_all("epoch", self._state.epoch)
                return member
        return None

    def _retire(self, owner: pages.Owner) -> None:
        """Pages that the same process had before are stale: nobody may submit by them any more."""
        assert self._state is not None
        for client, member in list(self._roster.members.items()):
            if client != owner.client and client not in self._state.clients:
                member.pages.say(LeaseState.FENCED)
                self._forget(client)
