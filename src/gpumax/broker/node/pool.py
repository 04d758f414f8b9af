"""Host memory to swap to: made and written by the broker, so that it counts as the broker's and not as a workload's."""

from __future__ import annotations

import fcntl
import os


class Pool:
    """So many bytes for the whole node. A piece belongs to one client for life; the next one gets fresh, empty memory."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._held: dict[tuple[int, str], int] = {}

    @property
    def used(self) -> int:
        return sum(self._held.values())

    def reserve(self, client: int, device: str, size: int) -> bool:
        if self.used + size > self.budget:
            return False
        self._held[client, device] = self.of(client, device) + size
        return True

    def of(self, client: int, device: str) -> int:
        return self._held.get((client, device), 0)

    def give_back(self, client: int) -> None:
        self._held = {key: size for key, size in self._held.items() if key[0] != client}


def piece(size: int, *, sparse: bool = False) -> int:
    """A descriptor of memory of this size, all of it there already, whose size nobody can change. May take seconds.

    sparse: a page is there once it's written, at the risk that there is none left then.
    """
    fd = os.memfd_create("gpumax-pool", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        if sparse:
            os.ftruncate(fd, size)
        else:
            os.posix_fallocate(fd, 0, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except OSError:
        os.close(fd)
        raise
    return fd
