"""What is on disk of an attempt, and how it is written. Standard library only: supervisors start through here.

A directory an attempt; it appears complete, by a rename:

    attempt   what the engine must know of it later          lock     held (flock) as long as its supervisor lives
    stop      the order to end it, once given                down     a FIFO: the engine tells the supervisor to look
    started   just before its first program                  up       a FIFO: the supervisor says that something changed,
    exited    after the last process has ended                        and, by letting go of it, that it is gone
    lost      instead, where the supervisor died             errors   what a supervisor said that could not start

A record is a run of `key=value` texts, each ended by NUL, the one byte that no argument, variable or path can hold.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # the import of `typing` takes as long as that of all else here
if TYPE_CHECKING:
    from collections.abc import Iterable

LOCK_FD = 3
UP_FD = 4
"""Where a supervisor finds what its engine hands down, beside the launch on standard input."""

MOST_TEXT = 2000  # of a message; the room that is kept for a record holds it
ROOM = 4096

Record = dict[str, list[str]]
"""Values by key, in the order in which they were written."""


def pack(fields: Iterable[tuple[str, str]]) -> bytes:
    """A record as bytes. ValueError where a value holds a NUL byte."""
    texts = [f"{key}={value}" for key, value in fields]
    if any("\0" in text for text in texts):
        raise ValueError("a NUL byte")
    return "".join(f"{text}\0" for text in texts).encode("utf-8", "surrogateescape")


def unpack(data: bytes) -> Record:
    """A record from bytes."""
    record: Record = {}
    for text in data.decode("utf-8", "surrogateescape").split("\0"):
        key, equals, value = text.partition("=")
        if equals:
            record.setdefault(key, []).append(value)
    return record


def first(record: Record, key: str, default: str = "") -> str:
    """The first value of a key."""
    values = record.get(key)
    return values[0] if values else default


def number(record: Record, key: str) -> int | None:
    """The first value of a key, as a whole number; None where there is none."""
    text = first(record, key)
    return int(text) if text.lstrip("-").isdigit() else None


def reserve(path: str) -> None:
    """Take the room that a record at `path` will need, so that a full disk can't keep it from being written."""
    file = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, bytes(ROOM))
    finally:
        os.close(file)


def write(path: str, fields: Iterable[tuple[str, str]], *, durable: bool = False) -> None:
    """Write a record, whole or not at all; durable: it also survives the machine's end."""
    data = pack((key, value[:MOST_TEXT]) for key, value in fields)
    file = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, data)
        os.ftruncate(file, len(data))
        if durable:
            os.fsync(file)
    finally:
        os.close(file)
    os.rename(f"{path}.new", path)
    if durable:
        sync_directory(os.path.dirname(path))


def read(path: str) -> Record | None:
    """The record at `path`; None where there is none."""
    try:
        with open(path, "rb") as file:
            return unpack(file.read())
    except FileNotFoundError:
        return None


def sync_directory(path: str) -> None:
    """Make the names in a directory survive the machine's end."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
