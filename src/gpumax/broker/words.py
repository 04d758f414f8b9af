"""The numbers of the protocol with their names, as interposer/include/gpumax/protocol.h has them."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

MAGIC: Final = 0x31584D47
VERSION: Final = 1
DEVICES: Final = 16
"""At most so many devices a process."""
LONGEST: Final = 4096
"""Bytes of a message, header included."""
NO_LEASE: Final = 0


class Type(IntEnum):
    HELLO = 1
    WELCOME = 2
    ACQUIRE = 3
    GRANT = 4
    REVOKE = 5
    RELEASE = 6
    SWAP_OUT = 7
    SWAPPED_OUT = 8
    SWAP_IN = 9
    SWAPPED_IN = 10
    MEM_REQUEST = 11
    MEM_GRANT = 12
    MEM_DENY = 13
    MEM_RETURN = 14
    MEM_TRIM = 15
    HINT = 16
    HEARTBEAT = 17
    INVENTORY = 18
    CONFIG = 19
    POOL = 20
    ERROR = 21
    BYE = 22
    AWAY = 23


class LeaseState(IntEnum):
    NONE = 0
    GRANTED = 1
    REVOKED = 2
    FENCED = 3


class Mode(IntEnum):
    FAIR = 0
    """The share is guaranteed; what others leave idle is split by share."""
    STRICT = 1
    """Exactly the share, also where the device would be idle otherwise."""


class HelloFlags(IntFlag):
    RECONNECTS = 1
    SWAPS = 2
    CHECKPOINTS = 4


class ReleaseFlags(IntFlag):
    DRAINED = 1
    WANTS = 2


class MemoryFlags(IntFlag):
    PINNED = 1


class SwapStatus(IntEnum):
    DONE = 0
    PROGRESS = 1
    BUSY = 2
    FAILED = 3
    PAUSED = 4
    """Of its own will: it wants nothing on the device before it asks."""


class AwayFlags(IntFlag):
    BUSY = 1


class HintKind(IntEnum):
    READ_ONLY = 1
    DISCARDABLE = 2


class Reason(IntEnum):
    NONE = 0
    TURN = 1
    MEMORY = 2
    LIMIT = 3
    PINNED = 4
    ROOM = 5
    SHUTDOWN = 6


class ErrorCode(IntEnum):
    GARBLED = 1
    VERSION = 2
    NOT_ALLOWED = 3
    UNKNOWN_DEVICE = 4
    STALE = 5
    TOO_MANY = 6
    STATE = 7
