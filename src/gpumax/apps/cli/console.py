"""The terminal, lent to a command that runs elsewhere: every key goes there, Ctrl-C too."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from types import TracebackType
from typing import Any

CHUNK = 16 << 10


class Console:
    """Standard input, output and error; raw while it is lent, if they are a terminal. A context, which gives it back as it was."""

    def __init__(self) -> None:
        self.tty = sys.stdin.isatty() and sys.stdout.isatty()
        self._was: list[Any] | None = None
        self._handler: Any = None
        self._resized: Callable[[], None] = _nobody

    def __enter__(self) -> Console:
        if self.tty:
            self._was = termios.tcgetattr(sys.stdin.fileno())
            tty.setraw(sys.stdin.fileno())
            self._handler = signal.signal(signal.SIGWINCH, lambda *_: self._resized())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._was is not None:
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._was)
            signal.signal(signal.SIGWINCH, self._handler)

    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        found = shutil.get_terminal_size()
        return found.columns, found.lines

    def begin(self, heard: Callable[[bytes], None], resized: Callable[[], None]) -> None:
        """From now on tell what is typed, empty at its end, and that the size has changed."""
        self._resized = resized
        Thread(target=_read, args=(heard,), daemon=True).start()

    def out(self, data: bytes, *, error: bool) -> None:
        """Print, byte by byte."""
        stream = (sys.stderr if error else sys.stdout).buffer
        stream.write(data)
        stream.flush()


def _nobody() -> None:
    """Who is told of sizes before anybody asks."""


def _read(heard: Callable[[bytes], None]) -> None:
    with suppress(OSError, ValueError):
        while data := os.read(sys.stdin.fileno(), CHUNK):
            heard(data)
    heard(b"")
