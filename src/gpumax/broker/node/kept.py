"""The groups of a node as files, so that the next broker knows them. Each is written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import msgspec

from gpumax.broker.control import Group


class Owner(msgspec.Struct, frozen=True):
    """A process; `started` tells it from a later one with its number."""

    pid: int
    started: int


class Record(msgspec.Struct, frozen=True):
    """A group, and for whom it is there. Without owners it stays until it's removed."""

    group: Group
    owners: tuple[Owner, ...] = ()


class Kept:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self) -> tuple[list[Record], list[str]]:
        """All of them, and the names of files that can't be read, which are put aside."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        found, lost = [], []
        for path in sorted(self._directory.glob("*.json")):
            try:
                found.append(msgspec.json.decode(path.read_bytes(), type=Record))
            except (msgspec.DecodeError, OSError):
                lost.append(path.name)
                path.replace(path.with_suffix(".bad"))
        return found, lost

    def write(self, record: Record) -> None:
        path = self._directory / f"{record.group.name}.json"
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(record))
        fresh.replace(path)

    def remove(self, name: str) -> None:
        (self._directory / f"{name}.json").unlink(missing_ok=True)
