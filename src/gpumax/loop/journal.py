"""The journal in files: JSON lines, each the snapshot and the decision in the public formats.

Where little has changed since the line before, a line says that instead of the whole snapshot. Each file begins with a whole one.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import msgspec

from gpumax import __version__
from gpumax.errors import GpumaxError
from gpumax.formats.decision import encode_decision
from gpumax.formats.snapshot import VERSION, dump_snapshot
from gpumax.formats.step import dump_step
from gpumax.loop.entries import Entry
from gpumax.model.decision import Decision
from gpumax.model.snapshot import Snapshot

MOST_BYTES: Final = 16 << 20
"""A file that has grown beyond this, and to twice its last whole snapshot, is followed by a new one."""
MOST_FILES: Final = 8
"""How many files are kept; the oldest goes."""

_NAME: Final = re.compile(r"decisions-(\d{6,})\.jsonl")


class JournalError(GpumaxError):
    """The journal can't be written; decisions go on without it."""


def journal_files(directory: Path) -> list[Path]:
    """The files of a journal, oldest first."""
    found = [(int(match[1]), path) for path in directory.iterdir() if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


class FileJournal:
    """A journal in a directory of its own, readable by its owner alone.

    A line is written by one call, so a kill -9 leaves at most one torn line, at the end; the next server cuts it off.
    What is written survives the process, not the machine: after a power cut the last entries may be missing.
    """

    def __init__(self, path: Path, *, most_bytes: int = MOST_BYTES, most_files: int = MOST_FILES) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._most_files = most_files
        self._file: int | None = None
        self._number = 0
        self._size = 0
        self._whole = 0  # bytes of the last entry with a whole snapshot
        self._last: Snapshot | None = None  # of the newest entry in the file, as far as we wrote it

    def write(self, snapshot: Snapshot, decision: Decision) -> None:
        """Append one entry, whole or not at all. JournalError where that fails; the next call tries anew."""
        try:
            self._make_ready()
            line = self._line(snapshot, decision)
            self._append(line)
        except OSError as error:
            self.close()
            raise JournalError(
                f"the journal can't be written ({(error.strerror or str(error)).lower()}: {self._path}); "
                "decisions go on without it"
            ) from None
        self._last = snapshot

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = self._last = None

    def _make_ready(self) -> None:
        """Have a file that takes one more entry."""
        if self._file is None:
            self._open()
        elif self._size >= max(self._most_bytes, 2 * self._whole):
            self.close()
            self._begin(self._number + 1)

    def _line(self, snapshot: Snapshot, decision: Decision) -> bytes:
        step = None if self._last is None else dump_step(self._last, snapshot)
        parts = {"step": step} if step is not None else {"snapshot": dump_snapshot(snapshot)}
        documents = {key: msgspec.Raw(msgspec.json.encode(part)) for key, part in parts.items()}
        made = Entry(
            version=VERSION, gpumax=__version__, decision=msgspec.Raw(encode_decision(decision)), **documents
        )
        line = msgspec.json.encode(made) + b"\n"
        if step is None:
            self._whole = len(line)
        return line

    def _append(self, line: bytes) -> None:
        assert self._file is not None
        written = 0
        try:
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError:
            # Half an entry is none.
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(line)

    def _open(self) -> None:
        """Go on in the newest file, behind its last whole line."""
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = journal_files(self._path)
        if not files:
            self._begin(1)
            return
        match = _NAME.fullmatch(files[-1].name)
        assert match is not None
        self._begin(int(match[1]))
        whole = _end_of_lines(files[-1])
        assert self._file is not None
        if whole < self._size:
            os.ftruncate(self._file, whole)
            self._size = whole

    def _begin(self, number: int) -> None:
        path = self._path / f"decisions-{number:06}.jsonl"
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._number, self._size = number, os.fstat(self._file).st_size
        for old in journal_files(self._path)[: -self._most_files]:
            old.unlink(missing_ok=True)


def _end_of_lines(path: Path) -> int:
    """The size of a file up to its last line break."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - (1 << 16))
            file.seek(start)
            at = file.read(end - start).rfind(b"\n")
            if at >= 0:
                return start + at + 1
            end = start
    return 0
