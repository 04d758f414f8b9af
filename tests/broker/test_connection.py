"""One client's connection by itself, by a clock that is told: how many messages are too many."""

from __future__ import annotations

import asyncio
import socket

from gpumax.broker import messages as msg
from gpumax.broker import wire
from gpumax.broker.node.connection import AT_ONCE, PER_SECOND, Connection
from gpumax.broker.node.ears import run
from gpumax.broker.words import ErrorCode

SECOND = 1_000_000_000


async def _say(count: int, pause_ns: int) -> tuple[int, msg.Message | None]:
    """How many of so many messages are heard, and what is answered where it's not all."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    now, heard = 0, list[msg.Message]()
    with theirs:
        connection = Connection(
            ours, 1, clock=lambda: now, heard=lambda _, __, message, ___: heard.append(message), ended=lambda _: None
        )  # fmt: skip
        for number in range(1, count + 1):
            theirs.send(wire.encode(msg.Acquire(), sequence=number, epoch=1))
            while len(heard) < number and not connection.closed:
                await asyncio.sleep(0)
            if connection.closed:
                return len(heard), wire.decode(theirs.recv(4096))[1]
            now += pause_ns
        connection.close()
    return len(heard), None


def test_who_says_as_much_as_is_allowed_is_heard_for_ever() -> None:
    assert run(_say(2 * AT_ONCE, SECOND // PER_SECOND)) == (2 * AT_ONCE, None)


def test_who_says_very_much_at_once_is_told_so_and_disconnected() -> None:
    heard, answer = run(_say(2 * AT_ONCE, 0))
    assert heard == AT_ONCE
    assert isinstance(answer, msg.Error)
    assert answer.code == ErrorCode.TOO_MANY


def test_who_says_twice_as_much_as_is_allowed_is_disconnected_after_a_while() -> None:
    heard, answer = run(_say(3 * AT_ONCE, SECOND // PER_SECOND // 2))
    assert AT_ONCE < heard <= 2 * AT_ONCE
    assert isinstance(answer, msg.Error)
