"""A broker that does what a test says, one client at a time: for what no real one would do just then."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gpumax.broker import messages as msg
from gpumax.broker import wire
from gpumax.broker.words import LeaseState, ReleaseFlags

MIB = 1 << 20
PAGE, SEATS = 4096, 65536


class Broker:
    """It welcomes whoever comes next. Its client has a turn whenever it wants one."""

    def __init__(self, folder: Path, *, limit: int = 1024 * MIB) -> None:
        self.path = folder / "broker.sock"
        self.limit = limit
        self.door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.door.bind(str(self.path))
        self.door.listen()
        self.door.settimeout(60)
        self.client: socket.socket | None = None
        self.sequence = 0
        self.pages = -1
        self.leases = 0

    def welcome(self) -> None:
        self.client, _ = self.door.accept()
        self.client.settimeout(90)
        hello = self.next()
        assert isinstance(hello, msg.Hello)
        number = len(hello.uuid)
        self.pages = os.memfd_create("pages", os.MFD_CLOEXEC)
        os.truncate(self.pages, number * PAGE + SEATS)
        share = msg.Share(limit=self.limit, guarantee=self.limit, share=1000, mode=0)
        self.say(
            msg.Welcome(heartbeat_ns=1_000_000_000, client=1, share=(share,) * number), descriptor=self.pages
        )

    def turn(self, state: LeaseState) -> None:
        self.leases += state == LeaseState.GRANTED
        os.pwrite(self.pages, struct.pack("<Q", self.leases << 8 | state), 8)
        if state == LeaseState.GRANTED:
            self.say(msg.Grant(lease=self.leases, slice_ns=0, generation=self.leases))

    def say(self, message: msg.Message, request: int = 0, descriptor: int = -1) -> None:
        assert self.client is not None
        self.sequence += 1
        data = wire.encode(message, sequence=self.sequence, epoch=1, request=request)
        socket.send_fds(self.client, [data], [descriptor] if descriptor >= 0 else [])

    def heard(self) -> Iterator[tuple[int, msg.Message]]:
        """What the client says until its end, each with the number of its request."""
        assert self.client is not None
        while data := self.client.recv(4096):
            header, message = wire.decode(data)
            if isinstance(message, msg.Acquire):
                self.turn(LeaseState.GRANTED)
            elif isinstance(message, msg.Release):
                self.turn(LeaseState.NONE)
                if message.flags & ReleaseFlags.WANTS:
                    self.turn(LeaseState.GRANTED)
            elif message is not None:
                yield header.request, message

    def next(self) -> msg.Message:
        return next(message for _, message in self.heard())

    def end(self) -> None:
        for each in (self.client, self.door):
            if each is not None:
                each.close()
        if self.pages >= 0:
            with suppress(OSError):
                os.close(self.pages)
