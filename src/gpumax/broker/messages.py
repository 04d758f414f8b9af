"""What client and broker say to each other, as nouns. `layout` says where each field lies: a code of `struct`, or a
noun of its own, and how many of them there are room for.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from gpumax.broker.words import DEVICES, Type

Layout = tuple[tuple[str, str, int], ...]
"""Name in C, kind, count. A count above 1 is an array, shorter in Python, filled with zeros in C."""


class Part(msgspec.Struct, frozen=True):
    """Integers that lie together inside a message."""

    layout: ClassVar[Layout]


class Share(Part, frozen=True):
    limit: int
    guarantee: int
    share: int
    mode: int
    layout: ClassVar[Layout] = (("limit", "Q", 1), ("guarantee", "Q", 1), ("share", "I", 1), ("mode", "I", 1))


class Usage(Part, frozen=True):
    used: int
    pinned: int
    layout: ClassVar[Layout] = (("used", "Q", 1), ("pinned", "Q", 1))


class Holding(Part, frozen=True):
    budget: int
    pinned: int
    resident: int
    layout: ClassVar[Layout] = (("budget", "Q", 1), ("pinned", "Q", 1), ("resident", "Q", 1))


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message without its header. `devices` of an array is its length; padding (`zero`) isn't kept."""

    type: ClassVar[Type]
    layout: ClassVar[Layout]


class Hello(Message, frozen=True, kw_only=True):
    pid: int
    flags: int = 0
    driver: int = 0
    ranks: int = 0
    rank: int = 0
    uuid: tuple[bytes, ...]
    type: ClassVar[Type] = Type.HELLO
    layout: ClassVar[Layout] = (
        ("pid", "I", 1), ("flags", "I", 1), ("driver", "I", 1), ("devices", "I", 1), ("ranks", "I", 1),
        ("rank", "I", 1), ("uuid", "16s", DEVICES),
    )  # fmt: skip


class Welcome(Message, frozen=True, kw_only=True):
    heartbeat_ns: int
    client: int
    share: tuple[Share, ...]
    type: ClassVar[Type] = Type.WELCOME
    layout: ClassVar[Layout] = (
        ("heartbeat_ns", "Q", 1), ("client", "I", 1), ("devices", "I", 1), ("share", "Share", DEVICES),
    )  # fmt: skip


class Acquire(Message, frozen=True, kw_only=False):
    flags: int = 0
    type: ClassVar[Type] = Type.ACQUIRE
    layout: ClassVar[Layout] = (("flags", "I", 1), ("zero", "I", 1))


class Grant(Message, frozen=True, kw_only=False):
    lease: int
    slice_ns: int
    generation: int
    flags: int = 0
    type: ClassVar[Type] = Type.GRANT
    layout: ClassVar[Layout] = (
        ("lease", "Q", 1), ("slice_ns", "Q", 1), ("generation", "I", 1), ("flags", "I", 1),
    )  # fmt: skip


class Revoke(Message, frozen=True, kw_only=False):
    lease: int
    deadline_ns: int
    generation: int
    reason: int
    type: ClassVar[Type] = Type.REVOKE
    layout: ClassVar[Layout] = (
        ("lease", "Q", 1), ("deadline_ns", "Q", 1), ("generation", "I", 1), ("reason", "I", 1),
    )  # fmt: skip


class Release(Message, frozen=True, kw_only=False):
    lease: int
    busy_ns: int = 0
    flags: int = 0
    type: ClassVar[Type] = Type.RELEASE
    layout: ClassVar[Layout] = (("lease", "Q", 1), ("busy_ns", "Q", 1), ("flags", "I", 1), ("zero", "I", 1))


class Swap(Message, frozen=True, kw_only=True):
    bytes: int
    device: int
    flags: int = 0
    layout: ClassVar[Layout] = (
        ("bytes", "Q", 1), ("zero", "Q", 1), ("device", "I", 1), ("flags", "I", 1),
    )  # fmt: skip


class SwapOut(Swap, frozen=True, kw_only=True):
    type: ClassVar[Type] = Type.SWAP_OUT


class SwapIn(Swap, frozen=True, kw_only=True):
    type: ClassVar[Type] = Type.SWAP_IN


class Swapped(Message, frozen=True, kw_only=True):
    resident: int
    copied: int = 0
    took_ns: int = 0
    device: int
    status: int
    layout: ClassVar[Layout] = (
        ("resident", "Q", 1), ("copied", "Q", 1), ("took_ns", "Q", 1), ("device", "I", 1), ("status", "I", 1),
    )  # fmt: skip


class SwappedOut(Swapped, frozen=True, kw_only=True):
    type: ClassVar[Type] = Type.SWAPPED_OUT


class SwappedIn(Swapped, frozen=True, kw_only=True):
    type: ClassVar[Type] = Type.SWAPPED_IN


class Memory(Message, frozen=True, kw_only=True):
    bytes: int
    budget: int = 0
    device: int
    flags: int = 0
    reason: int = 0
    layout: ClassVar[Layout] = (
        ("bytes", "Q", 1), ("budget", "Q", 1), ("device", "I", 1), ("flags", "I", 1), ("reason", "I", 1),
        ("zero", "I", 1),
    )  # fmt: skip


class MemRequest(Memory, frozen=True, kw_only=True):
    type: ClassVar[Type] = Type.MEM_REQUEST


class MemGrant(Memory, frozen=True, kw_only=True):
    type: ClassVar[Type] = Type.MEM_GRANT


class MemDeny(Memory, frozen=True, kw_only=True):
    type: ClassVar[Type] = Type.MEM_DENY


class MemReturn(Memory, frozen=True, kw_only=True):
    type: ClassVar[Type] = Type.MEM_RETURN


class MemTrim(Memory, frozen=True, kw_only=True):
    type: ClassVar[Type] = Type.MEM_TRIM


class Hint(Message, frozen=True, kw_only=True):
    bytes: int
    device: int
    kind: int
    type: ClassVar[Type] = Type.HINT
    layout: ClassVar[Layout] = (("bytes", "Q", 1), ("device", "I", 1), ("kind", "I", 1))


class Heartbeat(Message, frozen=True, kw_only=True):
    flags: int = 0
    usage: tuple[Usage, ...]
    type: ClassVar[Type] = Type.HEARTBEAT
    layout: ClassVar[Layout] = (("devices", "I", 1), ("flags", "I", 1), ("usage", "Usage", DEVICES))


class Inventory(Message, frozen=True, kw_only=True):
    epoch: int
    lease: int
    flags: int = 0
    holding: tuple[Holding, ...]
    type: ClassVar[Type] = Type.INVENTORY
    layout: ClassVar[Layout] = (
        ("epoch", "Q", 1), ("lease", "Q", 1), ("devices", "I", 1), ("flags", "I", 1),
        ("holding", "Holding", DEVICES),
    )  # fmt: skip


class Config(Message, frozen=True, kw_only=True):
    share: tuple[Share, ...]
    type: ClassVar[Type] = Type.CONFIG
    layout: ClassVar[Layout] = (("devices", "I", 1), ("zero", "I", 1), ("share", "Share", DEVICES))


class Pool(Message, frozen=True, kw_only=True):
    bytes: int
    device: int
    type: ClassVar[Type] = Type.POOL
    layout: ClassVar[Layout] = (("bytes", "Q", 1), ("device", "I", 1), ("zero", "I", 1))


class Error(Message, frozen=True, kw_only=True):
    code: int
    about: int = 0
    text: str
    type: ClassVar[Type] = Type.ERROR
    layout: ClassVar[Layout] = (("code", "I", 1), ("about", "I", 1), ("text", "120s", 1))


class Bye(Message, frozen=True, kw_only=True):
    type: ClassVar[Type] = Type.BYE
    layout: ClassVar[Layout] = ()


class Away(Message, frozen=True, kw_only=True):
    flags: int = 0
    type: ClassVar[Type] = Type.AWAY
    layout: ClassVar[Layout] = (("flags", "I", 1), ("zero", "I", 1))


ALL: tuple[type[Message], ...] = (
    Hello, Welcome, Acquire, Grant, Revoke, Release, SwapOut, SwappedOut, SwapIn, SwappedIn, MemRequest, MemGrant,
    MemDeny, MemReturn, MemTrim, Hint, Heartbeat, Inventory, Config, Pool, Error, Bye, Away,
)  # fmt: skip
LEASES: tuple[type[Message], ...] = (Acquire, Grant, Revoke, Release)
"""What is said with each lease. The fields are numbers, in the order in which they lie: a message is made of them at once."""
PARTS: dict[str, type[Part]] = {"Share": Share, "Usage": Usage, "Holding": Holding}
