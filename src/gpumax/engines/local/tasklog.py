"""The log of a task: a file that only grows, and only so far. Standard library only: supervisors use it."""

from __future__ import annotations

import os

from gpumax.words import plural

MOST_BYTES = 64 << 20
"""How large the log of a task may become, over all its attempts."""

LEAST_BYTES = 256 << 10
"""What every attempt may write, however full the log is already."""

END_BYTES = 64 << 10
"""How much of the end is kept beyond that: it says why a task failed."""


class TaskLog:
    """Where a task's output goes. Nothing that happens here ever hurts the task: what can't be written is left out.

    Once the log is full, the output is read on and thrown away, but for its end, which is written when the task is over.
    """

    def __init__(self, path: str, most: int = MOST_BYTES) -> None:
        self.trouble = ""
        self._file: int | None = None
        self._room = most
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._room = max(most - os.fstat(self._file).st_size, min(LEAST_BYTES, most))
        except OSError as error:
            self.trouble = f"it has no log: {error.strerror}"
        self._most = most
        self._full = False
        self._within_line = False
        self._end = bytearray()
        self._passed_over = 0  # bytes after the log was full
        self._unwritten = 0  # bytes that the disk would not take

    def take(self, data: bytes) -> None:
        """Write output down, or what may be written of it."""
        if self._full:
            self._keep_end(data)
            return
        rest = data[self._room :]
        self._put(data[: self._room])
        self._room -= len(data) - len(rest)
        if rest:
            self._full = True
            self.say(f"this log has reached its {_size(self._most)}; of what follows only the end is kept")
            self._keep_end(rest)

    def say(self, words: str) -> None:
        """Write a line of our own."""
        start = "\n" if self._within_line else ""
        self._put(f"{start}gpumax: {words}\n".encode("utf-8", "surrogateescape"))

    def close(self) -> None:
        """Write the end down and let go."""
        if self._full:
            end = bytes(self._end[-END_BYTES:])
            left_out = self._passed_over - len(end)
            if left_out:
                end = end[end.find(b"\n") + 1 :]
                self.say(f"{_size(left_out)} left out")
            self._put(end)
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _keep_end(self, data: bytes) -> None:
        self._passed_over += len(data)
        self._end += data
        if len(self._end) > 4 * END_BYTES:
            del self._end[:-END_BYTES]

    def _put(self, data: bytes) -> None:
        if self._file is None or not data:
            return
        gap = (
            f"\ngpumax: {_size(self._unwritten)} could not be written\n".encode() if self._unwritten else b""
        )
        view = memoryview(gap + data)
        try:
            while view:
                view = view[os.write(self._file, view) :]
            self._unwritten = 0
        except OSError as error:
            self._unwritten += min(len(view), len(data))
            self.trouble = f"its log is incomplete: {error.strerror}"
        self._within_line = not data.endswith(b"\n")


def _size(count: int) -> str:
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count // size} {unit}"
    return plural(count, "byte")
