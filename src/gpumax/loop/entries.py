"""The entries of a journal, line by line: each the snapshot and the decision, or what became of the snapshot before, and the decision."""

from __future__ import annotations

from typing import Final

import msgspec

from gpumax.errors import BadFile, Fault
from gpumax.formats.snapshot import load_snapshot
from gpumax.formats.step import load_step
from gpumax.model.snapshot import Snapshot

NONE: Final = msgspec.Raw()
"""Of a document that an entry doesn't have."""


class Entry(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line. gpumax: the version that decided; snapshot, step, decision: the bytes of their documents, one of the first two."""

    version: str
    gpumax: str
    snapshot: msgspec.Raw = NONE
    step: msgspec.Raw = NONE
    decision: msgspec.Raw


class Entries:
    """Reads entries in their order."""

    def __init__(self) -> None:
        self._last: Snapshot | None = None

    def read(self, line: bytes) -> Entry:
        """The entry. MsgspecError for a line that is none."""
        last, self._last = self._last, None
        entry = msgspec.json.decode(line, type=Entry)
        self._last = last
        return entry

    def snapshot(self, entry: Entry) -> Snapshot:
        """The snapshot of the entry that was read last. BadFile where it can't be read, or hangs on one that couldn't."""
        last, self._last = self._last, None
        if bytes(entry.snapshot):
            found = load_snapshot(msgspec.json.decode(entry.snapshot))
        elif last is None:
            wanted = "the entry before it, since which it says what changed"
            raise BadFile([Fault("step", None, "no snapshot before it that can be read", wanted)])
        else:
            found = load_step(last, bytes(entry.step))
        self._last = found
        return found
