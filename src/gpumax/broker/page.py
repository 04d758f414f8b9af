"""The page that a process and the broker share, one a device: whether it may submit, read without a system call."""

from __future__ import annotations

from typing import Final, NamedTuple

PAGE_BYTES: Final = 4096
SEATS: Final = 1024
"""Behind the pages of a client's devices: so many threads can submit and be seen."""
SEAT_BYTES: Final = 64
SEATS_BYTES: Final = SEATS * SEAT_BYTES
PAGE_MAGIC: Final = 0x50584D47

FIELDS: Final = (
    "head", "lease_word", "epoch", "lease", "slice_end_ns", "limit", "budget", "pid",
    "allowed", "zero", "zero1", "zero2", "zero3", "zero4", "zero5", "zero6",
    "inflight", "used", "pinned", "resident", "submitted", "last_submit_ns", "passed_through", "reserved",
)  # fmt: skip
"""Words of 8 bytes, in their order; `head` is magic and version."""
_AT: Final = {name: index for index, name in enumerate(FIELDS)}
OFFSETS: Final = {name: index * 8 for name, index in _AT.items()}


def lease_word(generation: int, state: int) -> int:
    return generation << 8 | state


class Lease(NamedTuple):
    generation: int
    state: int


class Page:
    """One page of a mapping. A word is read and written as one aligned 64-bit access, which a cast memoryview does;
    `struct` with an explicit byte order would go byte by byte, and another process could see half a word.
    """

    def __init__(self, memory: memoryview, index: int = 0) -> None:
        self._words = memory[index * PAGE_BYTES : (index + 1) * PAGE_BYTES].cast("Q")

    def __getitem__(self, name: str) -> int:
        return self._words[_AT[name]]

    def __setitem__(self, name: str, value: int) -> None:
        self._words[_AT[name]] = value

    def make(self, *, pid: int, epoch: int, limit: int) -> None:
        self["pid"], self["epoch"], self["limit"] = pid, epoch, limit
        self["head"] = PAGE_MAGIC | 1 << 32

    @property
    def made(self) -> bool:
        return self["head"] == PAGE_MAGIC | 1 << 32

    @property
    def state(self) -> Lease:
        word = self["lease_word"]
        return Lease(word >> 8, word & 0xFF)

    def release(self) -> None:
        self._words.release()
