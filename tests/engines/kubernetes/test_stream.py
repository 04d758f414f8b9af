"""Answers that come piece by piece, when whoever opened the way to the cluster closes it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from gpumax.apps.kubernetes.stream import Stream, waited_for
from gpumax.errors import Unreachable


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs in a thread of its own."""
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever)
    thread.start()
    yield made
    if not made.is_closed():
        made.call_soon_threadsafe(made.stop)
        thread.join()
        made.close()


async def cancel_others() -> None:
    """What closing does."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def one_and_no_more() -> AsyncIterator[bytes]:
    """A piece; the next never comes."""
    yield b"first\n"
    await asyncio.Event().wait()


def test_who_reads_is_told_when_the_way_is_closed(loop: asyncio.AbstractEventLoop) -> None:
    """As an error that commands know, not as a traceback of a thread."""
    stream = Stream(one_and_no_more(), loop, "cluster x")
    lines = iter(stream)
    assert next(lines) == b"first\n"
    ended: list[Exception] = []

    def read() -> None:
        try:
            next(lines)
        except Unreachable as error:
            ended.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    while reader.is_alive():
        waited_for(cancel_others(), loop)
        reader.join(0.01)
    assert [str(error) for error in ended] == ["the connection to the cluster was closed"]


def test_what_is_asked_after_the_end_is_refused() -> None:
    """Nothing is left behind that nobody waits for."""
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(Unreachable, match="was closed"):
        waited_for(cancel_others(), loop)
