"""What is to be done. An order is carried out before the next event is handled; none is ever taken back."""

from __future__ import annotations

import msgspec

from gpumax.broker.words import ErrorCode, Reason


class Order(msgspec.Struct, frozen=True):
    pass


class Wake(Order, frozen=True):
    """Send Tick then, and not earlier. Replaces the moment before."""

    at: int


class Report(Order, frozen=True):
    """For events, logs and metrics: `kind` is one word, `text` is for a person. pid: the process that it is about, where no group has it."""

    kind: str
    group: str
    text: str
    pid: int = 0


class RefuseGroup(Order, frozen=True):
    name: str
    text: str


class ClientOrder(Order, frozen=True):
    client: int


class Welcome(ClientOrder, frozen=True):
    pass


class Config(ClientOrder, frozen=True):
    """The share of its group has changed: write the limits into its pages, then say CONFIG."""


class Refuse(ClientOrder, frozen=True):
    """Say ERROR and close."""

    code: ErrorCode
    text: str


class Grant(ClientOrder, frozen=True):
    """Write GRANTED into its pages, then say GRANT."""

    lease: int
    generation: int
    slice_ns: int


class Revoke(ClientOrder, frozen=True):
    """Write REVOKED into its pages, then say REVOKE."""

    lease: int
    generation: int
    deadline: int
    reason: Reason


class Ended(ClientOrder, frozen=True):
    """Its lease is over: write NONE into its pages."""

    generation: int


class Look(ClientOrder, frozen=True):
    """Read its pages; answer with PageSeen."""


class Fence(ClientOrder, frozen=True):
    """Write FENCED into its pages: its lease is over without its answer."""

    generation: int


class SwapOut(ClientOrder, frozen=True):
    device: str
    keep: int


class SwapIn(ClientOrder, frozen=True):
    device: str
    upto: int


class MemGrant(ClientOrder, frozen=True):
    device: str
    bytes: int
    budget: int
    request: int


class MemDeny(ClientOrder, frozen=True):
    device: str
    bytes: int
    reason: Reason
    request: int


class Trim(ClientOrder, frozen=True):
    device: str


class Pool(ClientOrder, frozen=True):
    """Have so much host memory ready for its swapping on this device."""

    device: str
    bytes: int


class Checkpoint(ClientOrder, frozen=True):
    """Second tier: lock the process (with a timeout) and take it off its devices; answer with Checkpointed."""

    timeout_ns: int
    rests: bool = False
    """It has to agree; who doesn't answer is taken off without that."""


class Restore(ClientOrder, frozen=True):
    """Bring it back; answer with Restored."""


class End(ClientOrder, frozen=True):
    """End the process: it holds a device and doesn't answer."""

    text: str
