"""A process that uses the broker as the layer will: run as a program, told what to do by lines on its standard input.

It answers each line with a line. What the broker says comes through as lines that begin with `heard`.
"""

from __future__ import annotations

import mmap
import os
import select
import socket
import sys
import time
from contextlib import suppress

from gpumax.broker import messages as msg
from gpumax.broker import wire
from gpumax.broker.page import PAGE_BYTES, Page
from gpumax.broker.words import HelloFlags, LeaseState, MemoryFlags, ReleaseFlags, SwapStatus


class Client:
    def __init__(self, path: str, uuids: tuple[bytes, ...], *, lease: int = 0, held: int = 0) -> None:
        self.path = path
        self.uuids = uuids
        self.sequence = 0
        self.epoch = 0
        self.lease = lease
        self.held = held
        self.pinned = 0
        self.resident = held
        self.auto = True
        self.wants = False
        self.lost = False
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.connect(path)
        self.pages: list[Page] = []

    def say(self, message: msg.Message, request: int = 0) -> None:
        self.sequence += 1
        data = wire.encode(message, sequence=self.sequence, epoch=self.epoch, request=request)
        with suppress(OSError):  # reading tells that the broker is gone
            self.sock.send(data)

    def hello(self, *, reconnects: bool = False) -> None:
        flags = HelloFlags.SWAPS | (HelloFlags.RECONNECTS if reconnects else 0)
        self.say(msg.Hello(pid=os.getpid(), flags=int(flags), driver=13000, uuid=self.uuids))

    def read(self) -> str:
        """One message, dealt with, in words; empty: the connection has ended."""
        try:
            data, fds, _, _ = socket.recv_fds(self.sock, 4096, 4)
        except ConnectionResetError:
            data, fds = b"", []
        if not data:
            return ""
        header, message = wire.decode(data)
        assert message is not None
        self.epoch = header.epoch
        if isinstance(message, msg.Welcome):
            memory = mmap.mmap(fds[0], PAGE_BYTES * len(self.uuids))
            self.pages = [Page(memoryview(memory), index) for index in range(len(self.uuids))]
        there = sum(os.fstat(fd).st_blocks * 512 for fd in fds)
        for fd in fds:
            os.close(fd)
        return self._answer(message, there)

    def _answer(self, message: msg.Message, there: int) -> str:
        name = message.type.name
        if isinstance(message, msg.Grant):
            self.lease = message.lease
            if not self.wants:  # it was on its way while this one gave back the one before
                self.release()
        elif isinstance(message, msg.Revoke):
            self.lease = message.lease
            if self.auto:
                self.release()
        elif isinstance(message, msg.MemGrant):
            self.held = message.budget
            self.resident += message.bytes
            return f"{name} {message.bytes}"
        elif isinstance(message, msg.MemDeny):
            return f"{name} {message.reason}"
        elif isinstance(message, msg.SwapOut):
            self.resident = min(self.resident, message.bytes)
            self.say(msg.SwappedOut(resident=self.resident, device=message.device, status=SwapStatus.DONE))
        elif isinstance(message, msg.SwapIn):
            self.resident = message.bytes
            self.say(msg.SwappedIn(resident=self.resident, device=message.device, status=SwapStatus.DONE))
        elif isinstance(message, msg.MemTrim):
            self.say(msg.MemReturn(bytes=0, device=message.device))
        elif isinstance(message, msg.Config):
            return f"{name} {message.share[0].share} {message.share[0].limit} {self.pages[0]['limit']}"
        elif isinstance(message, msg.Pool):
            return f"{name} {message.bytes} of which {there} are there"
        elif isinstance(message, msg.Error):
            return f"{name} {message.code} {message.text}"
        return name

    def release(self) -> None:
        flags = ReleaseFlags.DRAINED | (ReleaseFlags.WANTS if self.wants else 0)
        self.say(msg.Release(lease=self.lease, flags=int(flags)))

    @property
    def state(self) -> str:
        return LeaseState(self.pages[0].state.state).name


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    path, devices = sys.argv[1], tuple(bytes.fromhex(each) for each in sys.argv[2].split(","))
    client = Client(path, devices)
    client.hello()
    beat = time.monotonic()
    while True:
        sources = [sys.stdin] if client.lost else [sys.stdin, client.sock]
        readable, _, _ = select.select(sources, [], [], 0.02 if client.lost else 0.1)
        if client.lost:
            client = again(client)
        elif time.monotonic() - beat > 0.1 and client.pages:
            client.say(msg.Heartbeat(usage=tuple(msg.Usage(client.held, client.pinned) for _ in devices)))
            beat = time.monotonic()
        if client.sock in readable:
            heard = client.read()
            client.lost = not heard
            tell(f"heard {heard or 'END'}")
        if sys.stdin in readable:
            line = sys.stdin.readline().split()
            if not line:
                return
            tell(f"done {obey(client, line)}")


def again(old: Client) -> Client:
    """The broker is gone: go on as the page says, and come back when there is one."""
    try:
        new = Client(old.path, old.uuids, lease=old.lease, held=old.held)
    except OSError:
        return old
    new.wants, new.auto, new.resident = old.wants, old.auto, old.resident
    leased = bool(old.pages) and old.state in ("GRANTED", "REVOKED")
    new.hello(reconnects=True)
    if not new.read():
        return old
    held = tuple(msg.Holding(old.held, old.pinned, old.resident) for _ in old.uuids)
    flags = int(ReleaseFlags.WANTS) if old.wants else 0
    new.say(msg.Inventory(epoch=old.epoch, lease=old.lease if leased else 0, flags=flags, holding=held))
    tell("heard BACK")
    return new


def obey(client: Client, line: list[str]) -> str:
    match line:
        case ["want"]:
            client.wants = True
            client.say(msg.Acquire())
        case ["release"]:
            client.wants = False
            client.release()
        case ["keep"]:
            client.auto = False
        case ["ask", size]:
            client.say(msg.MemRequest(bytes=int(size), device=0), request=7)
        case ["pin", size]:
            client.say(msg.MemRequest(bytes=int(size), device=0, flags=int(MemoryFlags.PINNED)), request=8)
        case ["call", number]:
            client.pages[0]["inflight"] = int(number)
        case ["state"]:
            return client.state
        case ["garbage", count]:
            for _ in range(int(count)):
                with suppress(OSError):
                    client.sock.send(os.urandom(64))
        case ["stale"]:
            client.epoch += 1000
            client.say(msg.Acquire())
        case ["flood", count]:
            for _ in range(int(count)):
                client.say(msg.Acquire())
    return line[0]


if __name__ == "__main__":
    main()
