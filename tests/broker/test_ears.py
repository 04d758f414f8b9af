"""The broker's event loop: whoever says something is heard, nobody more often than others, and asyncio goes on beside it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from gpumax.broker.node.ears import AT_ONCE, Ears, Later, ears, run
from gpumax.broker.node.timer import Timer

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    """Sockets of a broker and of its clients, a few more than are heard at once."""
    with ExitStack() as stack:
        made = [
            socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
            for _ in range(AT_ONCE + 8)
        ]
        for each in (one for pair in made for one in pair):
            stack.callback(each.close)
        yield made


def test_whoever_says_much_is_heard_once_before_all_others_are_heard(pairs: list[Pair]) -> None:
    listener, heard = Ears(), list[int]()

    def say(number: int) -> None:
        heard.append(number)
        pairs[number][0].recv(9)

    for number, (ours, theirs) in enumerate(pairs):
        theirs.send(b"1")
        listener.hear(ours.fileno(), partial(say, number))
    for _ in range(50):
        pairs[0][1].send(b"more")
    while len(set(heard)) < len(pairs):
        listener.select(0)
    assert heard.count(0) <= 2, "twice as much as others, in the round that brought the last of them"
    assert len(heard) <= len(pairs) + AT_ONCE
    listener.close()


def test_who_is_closed_by_another_in_the_same_round_is_not_heard(pairs: list[Pair]) -> None:
    listener, heard = Ears(), list[int]()

    def say(number: int) -> None:
        heard.append(number)
        for other, (ours, _) in enumerate(pairs[:3]):
            if other != number:
                listener.ignore(ours.fileno())
                ours.close()

    for number, (ours, theirs) in enumerate(pairs[:3]):
        theirs.send(b"1")
        listener.hear(ours.fileno(), partial(say, number))
    listener.select(0)
    assert len(heard) == 1
    listener.close()


def test_one_that_cannot_be_dealt_with_keeps_nobody_from_being_heard(pairs: list[Pair]) -> None:
    listener, failed, heard = Ears(), list[Exception](), list[bytes]()
    listener.failed = failed.append
    (bad, _), (good, _) = pairs[:2]
    listener.hear(bad.fileno(), lambda: bytes(-1))  # type: ignore[arg-type]
    listener.hear(good.fileno(), lambda: heard.append(good.recv(9)))
    for _, theirs in pairs[:2]:
        theirs.send(b"word")
    listener.select(0)
    assert heard == [b"word"]
    assert [type(each) for each in failed] == [ValueError]
    listener.close()


def test_timers_readers_and_threads_of_asyncio_go_on_while_clients_never_pause(pairs: list[Pair]) -> None:
    done: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for ours, theirs in pairs:
            theirs.send(b"never read, so always ready")
            ears().hear(ours.fileno(), lambda: None)
        come = asyncio.Event()
        out, into = os.pipe()
        loop.add_reader(out, come.set)
        os.write(into, b"1")
        await come.wait()
        done.append("reader")
        loop.remove_reader(out)
        os.close(out)
        os.close(into)
        await asyncio.sleep(0.001)
        done.append("timer")
        done.append(await asyncio.to_thread(lambda: "thread"))

    run(main())
    assert done == ["reader", "timer", "thread"]


def test_what_is_called_later_is_called_once_and_only_the_last_of_it(pairs: list[Pair]) -> None:
    """By clients who never pause it isn't kept from being called, and it may be followed by more."""
    called: list[str] = []

    async def main() -> None:
        for ours, theirs in pairs:
            theirs.send(b"never read, so always ready")
            ears().hear(ours.fileno(), lambda: None)
        later, other, both = Later(), Later(), asyncio.Event()

        def again() -> None:
            called.append("again")
            asyncio.get_running_loop().call_soon(both.set)

        def second() -> None:
            called.append("second")
            later(0.0005, again)

        later(0.001, lambda: called.append("first"))
        other(0, lambda: called.append("other")).cancel()
        later(0.002, second)
        await both.wait()

    run(main())
    assert called == ["second", "again"]


def test_what_is_called_later_is_so_to_the_microsecond() -> None:
    """A turn that ended with the next whole millisecond would be half of one too long."""
    timer = Timer()
    timer.later(0.0123456789, lambda: None)
    told = dict(line.split(":", 1) for line in Path(f"/proc/self/fdinfo/{timer.fd}").read_text().splitlines())
    seconds, left = map(int, told["it_value"].strip(" ()").split(", "))
    timer.close()
    assert seconds == 0
    assert left == 0 or 0 < left <= 12_345_679


def test_what_is_called_soon_or_later_by_one_that_is_heard_is_called_though_nothing_else_happens(
    pairs: list[Pair],
) -> None:
    async def main() -> None:
        loop, called = asyncio.get_running_loop(), list[str]()
        (ours, theirs), both = pairs[0], asyncio.Event()

        def later() -> None:
            called.append("later")
            both.set()

        def hear() -> None:
            ours.recv(9)
            loop.call_soon(called.append, "soon")
            loop.call_later(0.001, later)

        ears().hear(ours.fileno(), hear)
        theirs.send(b"word")
        await both.wait()
        assert called == ["soon", "later"]

    run(main())
