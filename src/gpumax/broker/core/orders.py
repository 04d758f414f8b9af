"""What is to be done. An order is carried out before the next event is handled; none is ever taken back."""

from __future__ import annotations

from dataclasses import dataclass

from gpumax.broker.words import ErrorCode, Reason


@dataclass(frozen=True, slots=True)
class Order:
    pass


@dataclass(frozen=True, slots=True)
class Wake(Order):
    """Send Tick then, and not earlier. Replaces the moment before."""

    at: int


@dataclass(frozen=True, slots=True)
class Report(Order):
    """For events, logs and metrics: `kind` is one word, `text` is for a person."""

    kind: str
    group: str
    text: str


@dataclass(frozen=True, slots=True)
class RefuseGroup(Order):
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class ClientOrder(Order):
    client: int


@dataclass(frozen=True, slots=True)
class Welcome(ClientOrder):
    pass


@dataclass(frozen=True, slots=True)
class Config(ClientOrder):
    """The share of its group has changed: write the limits into its pages, then say CONFIG."""


@dataclass(frozen=True, slots=True)
class Refuse(ClientOrder):
    """Say ERROR and close."""

    code: ErrorCode
    text: str


@dataclass(frozen=True, slots=True)
class Grant(ClientOrder):
    """Write GRANTED into its pages, then say GRANT."""

    lease: int
    generation: int
    slice_ns: int


@dataclass(frozen=True, slots=True)
class Revoke(ClientOrder):
    """Write REVOKED into its pages, then say REVOKE."""

    lease: int
    generation: int
    deadline: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Ended(ClientOrder):
    """Its lease is over: write NONE into its pages."""

    generation: int


@dataclass(frozen=True, slots=True)
class Look(ClientOrder):
    """Read its pages; answer with PageSeen."""


@dataclass(frozen=True, slots=True)
class Fence(ClientOrder):
    """Write FENCED into its pages: its lease is over without its answer."""

    generation: int


@dataclass(frozen=True, slots=True)
class SwapOut(ClientOrder):
    device: str
    keep: int
    deadline: int


@dataclass(frozen=True, slots=True)
class SwapIn(ClientOrder):
    device: str
    upto: int


@dataclass(frozen=True, slots=True)
class MemGrant(ClientOrder):
    device: str
    bytes: int
    budget: int
    request: int


@dataclass(frozen=True, slots=True)
class MemDeny(ClientOrder):
    device: str
    bytes: int
    reason: Reason
    request: int


@dataclass(frozen=True, slots=True)
class Trim(ClientOrder):
    device: str


@dataclass(frozen=True, slots=True)
class Pool(ClientOrder):
    """Have so much host memory ready for its swapping on this device."""

    device: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Checkpoint(ClientOrder):
    """Second tier: lock the process (with a timeout) and take it off its devices; answer with Checkpointed."""

    timeout_ns: int


@dataclass(frozen=True, slots=True)
class Restore(ClientOrder):
    """Bring it back; answer with Restored."""


@dataclass(frozen=True, slots=True)
class End(ClientOrder):
    """End the process: it holds a device and doesn't answer."""

    text: str
