"""One client's socket: messages in and out, with bounds on how many, how wrong and how many unread."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Final

from gpumax.broker import messages as msg
from gpumax.broker import wire
from gpumax.broker.node.ears import ears
from gpumax.broker.words import LONGEST, ErrorCode

PER_SECOND: Final = 4000
"""Messages a client may send for long; a grant and a release for each of its turns are far less."""
AT_ONCE: Final = 2000
EACH_NS: Final = 1_000_000_000 // PER_SECOND
SAVED_NS: Final = AT_ONCE * EACH_NS
GARBLED: Final = 8
"""So many messages that can't be read, and it's disconnected."""
UNREAD: Final = 512
"""So many that the client doesn't read, and it's disconnected."""


Heard = Callable[["Connection", wire.Header, msg.Message, int], None]


class Connection:
    """`heard` gets each message and when it came; `ended` is called once, when nothing more can be said or heard."""

    def __init__(
        self, sock: socket.socket, epoch: int, *, clock: Callable[[], int],
        heard: Heard, ended: Callable[[Connection], None],
    ) -> None:  # fmt: skip
        self.sock = sock
        self.epoch = epoch
        self.client = 0
        self.closed = False
        self.garbled = 0
        self._clock = clock
        self.heard = heard
        self._ended = ended
        self._sequence = 0
        self._last = 0
        self._spent = clock() - SAVED_NS
        """Until when it has used up the time that its messages stand for."""
        self._unsent: deque[tuple[bytes, int | None]] = deque()
        self._loop = asyncio.get_running_loop()
        self._ears = ears()
        sock.setblocking(False)
        self._ears.hear(sock.fileno(), self._readable)

    def _readable(self) -> None:
        """One message: there is seldom another one, and looking for it costs more than being called again."""
        if self.closed:
            return
        try:
            data = self.sock.recv(LONGEST + 1)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        now = self._clock()
        if not data:
            self.close()
            return
        # A message stands for its part of a second. Time that wasn't used is saved up, for as many as may come at once.
        saved = now - SAVED_NS
        spent = self._spent = (self._spent if self._spent > saved else saved) + EACH_NS
        if spent > now:
            self.refuse(ErrorCode.TOO_MANY, f"more than {PER_SECOND} messages a second")
            return
        try:
            header, message = wire.decode(data)
            if header.sequence <= self._last:
                raise wire.Garbled(f"message {header.sequence} after {self._last}", about=header.type)
            if header.epoch != self.epoch and not isinstance(message, msg.Hello):
                raise wire.Garbled(f"epoch {header.epoch}; it is {self.epoch}", ErrorCode.STALE, header.type)
        except wire.Garbled as garbled:
            self.complain(garbled)
            return
        self._last = header.sequence
        if message is not None:
            self.heard(self, header, message, now)

    def complain(self, garbled: wire.Garbled) -> None:
        self.garbled += 1
        if self.garbled >= GARBLED or garbled.code is ErrorCode.VERSION:
            self.refuse(garbled.code, str(garbled))
        else:
            self.send(msg.Error(code=garbled.code, about=garbled.about, text=str(garbled)))

    def refuse(self, code: ErrorCode, text: str) -> None:
        self.send(msg.Error(code=code, text=text))
        self.close()

    def send(self, message: msg.Message, *, request: int = 0, fd: int | None = None) -> None:
        """`fd` goes along, and stays the caller's."""
        if self.closed:
            return
        self._sequence += 1
        data = wire.encode(message, sequence=self._sequence, epoch=self.epoch, request=request)
        if self._unsent or not self._send(data, fd):
            if len(self._unsent) >= UNREAD:
                self.close()
                return
            if not self._unsent:
                self._loop.add_writer(self.sock.fileno(), self._writable)
            self._unsent.append((data, None if fd is None else os.dup(fd)))

    def _send(self, data: bytes, fd: int | None) -> bool:
        try:
            if fd is None:
                self.sock.send(data)
            else:
                socket.send_fds(self.sock, [data], [fd])
        except BlockingIOError:
            return False
        except OSError:
            self._loop.call_soon(self.close)  # not from within an order that is being carried out
        return True

    def _writable(self) -> None:
        while self._unsent:
            data, fd = self._unsent[0]
            if not self._send(data, fd):
                return
            self._unsent.popleft()
            if fd is not None:
                os.close(fd)
        if not self.closed:
            self._loop.remove_writer(self.sock.fileno())

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._ears.ignore(self.sock.fileno())
        self._loop.remove_writer(self.sock.fileno())
        self.sock.close()
        for _, fd in self._unsent:
            if fd is not None:
                os.close(fd)
        self._unsent.clear()
        self._ended(self)
