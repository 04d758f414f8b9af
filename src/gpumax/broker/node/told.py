"""An order of the core, as what a client reads: its page first, then the message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from gpumax.broker import messages as msg
from gpumax.broker.core import orders as od
from gpumax.broker.node.roster import Member
from gpumax.broker.page import lease_word
from gpumax.broker.words import LeaseState

# As plain numbers: an enumeration makes a member of each result, and these are asked for with every lease.
NONE: Final = int(LeaseState.NONE)
GRANTED: Final = int(LeaseState.GRANTED)


def _grant(order: od.Grant, member: Member) -> None:
    generation = member.generation = max(member.generation + 1, order.generation)
    member.pages.lease(order.lease, lease_word(generation, GRANTED))
    if member.connection is not None:
        member.connection.send(msg.Grant(order.lease, order.slice_ns, order.generation & 0xFFFFFFFF))


def _revoke(order: od.Revoke, member: Member) -> None:
    member.pages.lease(order.lease, lease_word(member.generation, LeaseState.REVOKED))
    _send(
        member,
        msg.Revoke(
            lease=order.lease, deadline_ns=order.deadline, generation=order.generation & 0xFFFFFFFF,
            reason=order.reason,
        ),
    )  # fmt: skip


def _ended(_: od.Ended, member: Member) -> None:
    member.pages.say(lease_word(member.generation, NONE))


def _fence(_: od.Fence, member: Member) -> None:
    member.pages.say(lease_word(member.generation, LeaseState.FENCED))


def _swap_out(order: od.SwapOut, member: Member) -> None:
    device = member.owner.devices.index(order.device)
    _send(member, msg.SwapOut(bytes=order.keep, device=device))


def _swap_in(order: od.SwapIn, member: Member) -> None:
    _send(member, msg.SwapIn(bytes=order.upto, device=member.owner.devices.index(order.device)))


def _mem_grant(order: od.MemGrant, member: Member) -> None:
    device = member.owner.devices.index(order.device)
    _send(member, msg.MemGrant(bytes=order.bytes, budget=order.budget, device=device), order.request)


def _mem_deny(order: od.MemDeny, member: Member) -> None:
    device = member.owner.devices.index(order.device)
    _send(member, msg.MemDeny(bytes=order.bytes, device=device, reason=order.reason), order.request)


def _trim(order: od.Trim, member: Member) -> None:
    _send(member, msg.MemTrim(bytes=0, device=member.owner.devices.index(order.device)))


def _send(member: Member, message: msg.Message, request: int = 0) -> None:
    if member.connection is not None:
        member.connection.send(message, request=request)


SAYS: Final[Mapping[type[od.ClientOrder], Callable[[Any, Member], None]]] = {
    od.Grant: _grant, od.Revoke: _revoke, od.Ended: _ended, od.Fence: _fence, od.SwapOut: _swap_out, od.SwapIn: _swap_in,
    od.MemGrant: _mem_grant, od.MemDeny: _mem_deny, od.Trim: _trim,
}  # fmt: skip
"""How a client hears of it, by type of the order; of others it's told by whoever carries them out.

The page changes whether or not the client can be reached: that is what keeps one that doesn't answer from submitting.
"""
