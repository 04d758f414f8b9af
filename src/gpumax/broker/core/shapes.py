"""What an administrator and a workload file say: devices, shares, settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from gpumax.broker.words import Mode

MS: Final = 1_000_000
SECOND: Final = 1_000_000_000
MIB: Final = 1 << 20
WHOLE: Final = 1000
"""A whole device's time."""


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    name: str
    capacity: int
    """Bytes that may be given out: without what the driver and contexts take."""
    model: str = ""
    """What people call it."""


@dataclass(frozen=True, slots=True)
class MemoryShare:
    guarantee: int
    """Resident by right, and always to be had."""
    limit: int
    """More is refused. What is between the two is borrowed, and swapped out when its owner asks."""


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """All processes of one workload on this node: one share, one lease, resident together or not at all."""

    name: str
    memory: Mapping[str, MemoryShare]
    """By device."""
    share: int = WHOLE
    mode: Mode = Mode.FAIR
    priority: int = 0
    """Whose priority is lower is swapped out first."""
    swap: bool = False

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(sorted(self.memory))


class Stuck(Enum):
    """What becomes of a client that neither drains nor shows that it can't submit."""

    WAIT = "wait"
    END = "end"


@dataclass(frozen=True, slots=True)
class Settings:
    frame_ns: int = 50 * MS
    """A round of turns among those who are resident. A second holds whole ones, so each second of turns like those before is alike."""
    shortest_slice_ns: int = 2 * MS
    quantum_factor: int = 9
    """Stay for so many times what the swap cost: nine keeps the cost at a tenth."""
    shortest_quantum_ns: int = 100 * MS
    longest_quantum_ns: int = 60 * SECOND
    serial_ns: int = 300 * SECOND
    """The longest stay when swapping has been found to cost more than it gives."""
    heartbeat_ns: int = SECOND
    grace_ns: int = SECOND
    """From REVOKE to its deadline."""
    stuck_ns: int = 30 * SECOND
    """Beyond the deadline, before a client that still shows signs of life is treated like one that doesn't."""
    memory_wait_ns: int = 10 * SECOND
    gang_wait_ns: int = 10 * SECOND
    """From the first process of a group that comes: so long it waits for the others that it's to begin with."""
    burial_ns: int = 2 * SECOND
    """How long the driver may take to give back the memory of a process that is gone."""
    idle_ns: int = 10 * SECOND
    """After so long without work also guaranteed memory may be swapped out, where the group allows it."""
    cold_ns: int = 600 * SECOND
    """After so long without work the driver may take the whole process off the device; 0: never."""
    retry_ns: int = SECOND
    """Between two tries to swap out who couldn't."""
    pool_bytes: int = 0
    """Host memory for what is swapped out."""
    sparse_pool: bool = False
    """Whether it's made page by page as it's written, so that what is zero takes none: for emulated devices."""
    chunk_bytes: int = 64 * MIB
    """Room is handed on in pieces of at least this, so that one goes out while another comes in."""
    link_bytes_per_s: int = 10_000_000_000
    """What swapping is taken to cost until it has been measured."""
    stuck: Stuck = Stuck.WAIT

    @property
    def silence_ns(self) -> int:
        """After so long without a sign of life a process doesn't answer."""
        return 2 * self.heartbeat_ns + self.grace_ns


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a page of an earlier broker shows of a process that is still alive."""

    client: int
    group: str
    pid: int
    leased: bool
    holdings: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    """By device: budget, pinned, resident."""
    away: bool = False
    """An earlier broker had the driver take it off its devices; what came of that isn't known yet."""
