"""What happens. Each carries `now`, nanoseconds that never go back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gpumax.broker.core.shapes import GroupSpec
from gpumax.broker.words import HintKind, SwapStatus


@dataclass(frozen=True, slots=True)
class Event:
    now: int


@dataclass(frozen=True, slots=True)
class Tick(Event):
    """The moment that the last Wake named."""


@dataclass(frozen=True, slots=True)
class GroupAdded(Event):
    spec: GroupSpec


@dataclass(frozen=True, slots=True)
class GroupChanged(Event):
    """Another share, mode, priority or other amounts of memory, on the same devices."""

    spec: GroupSpec


@dataclass(frozen=True, slots=True)
class GroupRemoved(Event):
    name: str


@dataclass(frozen=True, slots=True)
class Joined(Event):
    """HELLO of a process."""

    client: int
    group: str
    pid: int
    devices: tuple[str, ...]
    swaps: bool = True
    checkpoints: bool = False
    ranks: int = 0
    """Processes of the group that are to begin together; 0: it waits for nobody."""
    rank: int = 0
    """Which of them this is, from 1: those of one rank count once. 0: it counts by itself."""
    reconnects: bool = False


@dataclass(frozen=True, slots=True)
class ClientEvent(Event):
    client: int


@dataclass(frozen=True, slots=True)
class Inventory(ClientEvent):
    leased: bool
    wants: bool
    holdings: Mapping[str, tuple[int, int, int]]
    """By device: budget, pinned, resident."""


@dataclass(frozen=True, slots=True)
class Wanted(ClientEvent):
    """ACQUIRE."""


@dataclass(frozen=True, slots=True)
class Released(ClientEvent):
    """RELEASE, drained."""

    lease: int
    wants: bool


@dataclass(frozen=True, slots=True)
class Asked(ClientEvent):
    """MEM_REQUEST."""

    device: str
    bytes: int
    pinned: bool = False
    request: int = 0


@dataclass(frozen=True, slots=True)
class Returned(ClientEvent):
    """MEM_RETURN."""

    device: str
    bytes: int
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class SwappedOut(ClientEvent):
    device: str
    resident: int
    status: SwapStatus = SwapStatus.DONE
    copied: int = 0


@dataclass(frozen=True, slots=True)
class SwappedIn(ClientEvent):
    device: str
    resident: int
    status: SwapStatus = SwapStatus.DONE
    copied: int = 0


@dataclass(frozen=True, slots=True)
class Hinted(ClientEvent):
    device: str
    kind: HintKind
    bytes: int


@dataclass(frozen=True, slots=True)
class Beat(ClientEvent):
    """HEARTBEAT: a sign of life; `pinned` by device as it really is."""

    pinned: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Leaving(ClientEvent):
    """BYE: its process is about to end, and has given back what it doesn't use."""


@dataclass(frozen=True, slots=True)
class Left(ClientEvent):
    """Its connection has ended; whether the process lives isn't known."""


@dataclass(frozen=True, slots=True)
class Died(ClientEvent):
    """The process is gone."""


@dataclass(frozen=True, slots=True)
class Reclaimed(ClientEvent):
    """The driver has given back the memory of a process that is gone."""


@dataclass(frozen=True, slots=True)
class PageSeen(ClientEvent):
    """Answers Look: calls that are between the lease's check and their return."""

    inflight: int


@dataclass(frozen=True, slots=True)
class Checkpointed(ClientEvent):
    """Answers Checkpoint."""

    done: bool


@dataclass(frozen=True, slots=True)
class Restored(ClientEvent):
    """Answers Restore."""

    done: bool
