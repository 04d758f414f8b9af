"""Shared pages as files of the broker, so that the next broker finds who may still be submitting.

They are read and written by pread and pwrite, never mapped here: a client that shortens its file would otherwise end the
broker by SIGBUS. Who may submit stands in one byte of the lease word, so no reader sees half of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from gpumax.broker.page import OFFSETS, PAGE_BYTES, PAGE_MAGIC, SEAT_BYTES, SEATS_BYTES
from gpumax.broker.words import LeaseState

_HEAD: Final = PAGE_MAGIC | 1 << 32


class Owner(msgspec.Struct, frozen=True):
    """Whose pages a file holds; `started` tells a process from a later one with its number."""

    client: int
    group: str
    pid: int
    started: int
    devices: tuple[str, ...]


class Pages:
    """The pages of one client, one a device, and the seats of its threads, in one file."""

    def __init__(self, owner: Owner, fd: int, directory: Path) -> None:
        self.owner = owner
        self.fd = fd
        self._directory = directory
        self._starts = tuple(index * PAGE_BYTES for index in range(len(owner.devices)))
        self._leases = tuple(start + OFFSETS["lease"] for start in self._starts)
        self._words = tuple(start + OFFSETS["lease_word"] for start in self._starts)

    def read(self, index: int, name: str) -> int:
        """0 where the client has cut the file short."""
        return int.from_bytes(os.pread(self.fd, 8, index * PAGE_BYTES + OFFSETS[name]), "little")

    def write(self, index: int, name: str, value: int) -> None:
        os.pwrite(self.fd, value.to_bytes(8, "little"), index * PAGE_BYTES + OFFSETS[name])

    def lease(self, number: int, word: int) -> None:
        """On all devices: the number first, then the word, whose readers look for the number next."""
        data = number.to_bytes(8, "little")
        for place in self._leases:
            os.pwrite(self.fd, data, place)
        self.say(word)

    def say(self, word: int) -> None:
        """The lease word alone, on all devices."""
        data = word.to_bytes(8, "little")
        for place in self._words:
            os.pwrite(self.fd, data, place)

    def write_all(self, name: str, value: int) -> None:
        data = value.to_bytes(8, "little")
        for start in self._starts:
            os.pwrite(self.fd, data, start + OFFSETS[name])

    @property
    def inflight(self) -> int:
        """Calls under way, after a change of the lease word that every thread has seen: see `process.barrier`."""
        count = len(self.owner.devices)
        seats = os.pread(self.fd, SEATS_BYTES, count * PAGE_BYTES)
        return sum(self.read(index, "inflight") for index in range(count)) + sum(seats[::SEAT_BYTES])

    @property
    def state(self) -> int:
        return self.read(0, "lease_word") & 0xFF

    @property
    def generation(self) -> int:
        return self.read(0, "lease_word") >> 8

    def close(self) -> None:
        os.close(self.fd)

    def remove(self) -> None:
        """They are the last that is kept of a client: once they are gone, so is all else."""
        self.close()
        for suffix in ("pages", "json"):
            (self._directory / f"{self.owner.client}.{suffix}").unlink(missing_ok=True)


def create(directory: Path, owner: Owner, epoch: int) -> Pages:
    path = directory / f"{owner.client}.pages"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.posix_fallocate(fd, 0, PAGE_BYTES * max(len(owner.devices), 1) + SEATS_BYTES)
    pages = Pages(owner, fd, directory)
    for name, value in (("pid", owner.pid), ("epoch", epoch), ("head", _HEAD)):
        pages.write_all(name, value)
    side = directory / f"{owner.client}.json.new"
    side.write_bytes(msgspec.json.encode(owner))
    side.rename(side.with_suffix(""))
    return pages


def found(directory: Path) -> Iterator[Pages]:
    """What an earlier broker left, of processes that may or may not still live. What can't be read is removed."""
    for side in sorted(directory.glob("*.json")):
        try:
            owner = msgspec.json.decode(side.read_bytes(), type=Owner)
            fd = os.open(directory / f"{owner.client}.pages", os.O_RDWR | os.O_CLOEXEC)
        except (msgspec.DecodeError, OSError):
            side.unlink(missing_ok=True)
            side.with_suffix(".pages").unlink(missing_ok=True)
            continue
        yield Pages(owner, fd, directory)


def may_submit(pages: Pages) -> bool:
    return pages.state in (LeaseState.GRANTED, LeaseState.REVOKED)


def next_epoch(directory: Path) -> int:
    """One more than the last one, written down before it's used."""
    path = directory / "epoch"
    try:
        last = int(path.read_text())
    except (OSError, ValueError):
        last = 0
    new = path.with_suffix(".new")
    new.write_text(str(last + 1))
    new.rename(path)
    return last + 1
