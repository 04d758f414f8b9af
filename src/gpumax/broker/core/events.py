"""What happens. Each carries `now`, nanoseconds that never go back."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import msgspec

from gpumax.broker.core.shapes import GroupSpec
from gpumax.broker.words import HintKind, SwapStatus


class Event(msgspec.Struct, frozen=True):
    now: int


class Tick(Event, frozen=True):
    """The moment that the last Wake named."""


class GroupAdded(Event, frozen=True):
    spec: GroupSpec


class GroupChanged(Event, frozen=True):
    """Another share, mode, priority or other amounts of memory, on the same devices."""

    spec: GroupSpec


class GroupRemoved(Event, frozen=True):
    name: str


class Outside(Event, frozen=True):
    """Who uses devices without a part of them, and is to be taken off while others need the room; whoever isn't named isn't there any more."""

    used: Mapping[str, Mapping[int, int]]
    """By device and process: bytes."""


class Joined(Event, frozen=True):
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


class ClientEvent(Event, frozen=True):
    client: int


class Inventory(ClientEvent, frozen=True):
    leased: bool
    wants: bool
    holdings: Mapping[str, tuple[int, int, int]]
    """By device: budget, pinned, resident."""


class Wanted(ClientEvent, frozen=True):
    """ACQUIRE."""


class Released(ClientEvent, frozen=True):
    """RELEASE, drained."""

    lease: int
    wants: bool


class Asked(ClientEvent, frozen=True):
    """MEM_REQUEST."""

    device: str
    bytes: int
    pinned: bool = False
    request: int = 0


class Returned(ClientEvent, frozen=True):
    """MEM_RETURN."""

    device: str
    bytes: int
    pinned: bool = False


class SwappedOut(ClientEvent, frozen=True):
    device: str
    resident: int
    status: SwapStatus = SwapStatus.DONE
    copied: int = 0


class SwappedIn(ClientEvent, frozen=True):
    device: str
    resident: int
    status: SwapStatus = SwapStatus.DONE
    copied: int = 0


class Hinted(ClientEvent, frozen=True):
    device: str
    kind: HintKind
    bytes: int


class Beat(ClientEvent, frozen=True):
    """HEARTBEAT: a sign of life; `pinned` by device as it really is."""

    pinned: Mapping[str, int]


class Leaving(ClientEvent, frozen=True):
    """BYE: its process is about to end, and has given back what it doesn't use."""


class Left(ClientEvent, frozen=True):
    """Its connection has ended; whether the process lives isn't known."""


class Died(ClientEvent, frozen=True):
    """The process is gone."""


class Reclaimed(ClientEvent, frozen=True):
    """The driver has given back the memory of a process that is gone."""


class PageSeen(ClientEvent, frozen=True):
    """Answers Look: calls that are between the lease's check and their return."""

    inflight: int


class Outcome(Enum):
    """What came of asking the driver to take a process off its devices, or to bring it back."""

    DONE = "done"
    BUSY = "busy"
    """Not now; the process is as it was."""
    REFUSED = "refused"
    """Not this one, ever; the process is as it was."""
    LOST = "lost"
    """The driver has given the process up."""


class Checkpointed(ClientEvent, frozen=True):
    """Answers Checkpoint. why: in words, where it wasn't done."""

    how: Outcome
    why: str = ""


class Restored(ClientEvent, frozen=True):
    """Answers Restore. What isn't done leaves the process away."""

    how: Outcome
    why: str = ""


class Found(ClientEvent, frozen=True):
    """Where the driver says that a process is of which that wasn't known: DONE, it's off its devices; BUSY, it's there; or LOST."""

    how: Outcome
