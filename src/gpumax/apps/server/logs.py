"""Logs of tasks: whole, their last lines, or as they grow."""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from gpumax.apps.server.feed import Feed
from gpumax.apps.server.sse import COMMENT, Silence, message

CHUNK: Final = 64 << 10
"""Bytes that are read at once."""

LOOK_S: Final = 0.1
"""How often a log that somebody follows is looked at."""


def log_path(data: Path, workload_id: str, index: int) -> Path:
    """Where a task's log is; it need not be there yet."""
    return data / "logs" / workload_id / f"{index}.log"


def tail_offset(path: Path, lines: int | None) -> int:
    """Where the last `lines` lines of a file begin; 0 for all of it (None), or where there is no file."""
    if lines is None:
        return 0
    try:
        with path.open("rb") as file:
            return _tail(file, file.seek(0, 2), lines)
    except FileNotFoundError:
        return 0


def _tail(file: BinaryIO, size: int, lines: int) -> int:
    if not lines or not size:
        return size
    # The newline at the end of the file ends its last line and begins none.
    left, end = lines, size - 1
    while end > 0:
        begin = max(0, end - CHUNK)
        file.seek(begin)
        block = file.read(end - begin)
        at = len(block)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            left -= 1
            if not left:
                return begin + at + 1
        end = begin
    return 0


def read_log(path: Path, lines: int | None) -> Iterator[bytes]:
    """The bytes of a log as it is now, in pieces; none where there is no log yet."""
    offset = tail_offset(path, lines)
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        left = file.seek(0, 2) - offset
        file.seek(offset)
        # To where it ended when we came: a log that grows faster than it is read would have no end.
        while left > 0 and (piece := file.read(min(CHUNK, left))):
            left -= len(piece)
            yield piece


class Follower:
    """Reads a log as it grows, as text. sent: the byte up to which it was handed out whole."""

    def __init__(self, path: Path, offset: int) -> None:
        self._path = path
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._read = offset

    @property
    def sent(self) -> int:
        """Bytes of a character that isn't complete yet are not counted."""
        return self._read - len(self._decoder.getstate()[0])

    def more(self, *, last: bool = False) -> str:
        """What was written since, a piece of it at most; empty where nothing was. last: nothing will follow."""
        try:
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._read:
                    # It was cut; what is in it now is new.
                    self._decoder.reset()
                    self._read = 0
                file.seek(self._read)
                piece = file.read(CHUNK)
        except FileNotFoundError:
            piece = b""
        self._read += len(piece)
        return self._decoder.decode(piece, final=last and not piece)


async def follow_log(
    path: Path, offset: int, feed: Feed, state: Callable[[], Awaitable[str | None]]
) -> AsyncIterator[bytes]:
    """The pieces of a log as events, then `end` when its workload is finished and all was sent.

    state: how the workload has ended; None while it hasn't. It is asked again only when something was committed.
    """
    follower, silence = Follower(path, offset), Silence()
    count, ended = -1, None
    while not feed.closed:
        if feed.count != count and ended is None:
            # The state first, then the log: what was written before the end is there when the end is known.
            count = feed.count
            ended = await state()
        piece = follower.more(last=ended is not None)
        if piece:
            yield message(msgspec.json.encode(piece), id=follower.sent)
            silence.end()
        elif ended is not None:
            yield message(msgspec.json.encode({"state": ended}), id=follower.sent, event="end")
            return
        elif not silence.left_s():
            yield COMMENT
            silence.end()
        else:
            await feed.wait(count, LOOK_S)
