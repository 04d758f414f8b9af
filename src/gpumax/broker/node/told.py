"""An order of the core, as what a client reads: its page first, then the message."""

from __future__ import annotations

from gpumax.broker import messages as msg
from gpumax.broker.core import orders as od
from gpumax.broker.node.roster import Member
from gpumax.broker.page import lease_word
from gpumax.broker.words import LeaseState


def tell(order: od.ClientOrder, member: Member) -> None:
    """The page changes whether or not the client can be reached: that is what keeps one that doesn't answer from submitting."""
    _mark(order, member)
    message = _message(order, member.owner.devices)
    if message is not None and member.connection is not None:
        request = order.request if isinstance(order, od.MemGrant | od.MemDeny) else 0
        member.connection.send(message, request=request)


def _mark(order: od.ClientOrder, member: Member) -> None:
    pages = member.pages
    match order:
        case od.Grant():
            member.generation = max(member.generation + 1, order.generation)
            pages.write_all("lease", order.lease)
            pages.write_all("lease_word", lease_word(member.generation, LeaseState.GRANTED))
        case od.Revoke():
            pages.write_all("lease", order.lease)
            pages.write_all("lease_word", lease_word(member.generation, LeaseState.REVOKED))
        case od.Ended():
            pages.write_all("lease_word", lease_word(member.generation, LeaseState.NONE))
        case od.Fence():
            pages.write_all("lease_word", lease_word(member.generation, LeaseState.FENCED))


def _message(order: od.ClientOrder, devices: tuple[str, ...]) -> msg.Message | None:
    match order:
        case od.Grant():
            return msg.Grant(
                lease=order.lease, slice_ns=order.slice_ns, generation=order.generation & 0xFFFFFFFF
            )
        case od.Revoke():
            return msg.Revoke(
                lease=order.lease, deadline_ns=order.deadline, generation=order.generation & 0xFFFFFFFF,
                reason=order.reason,
            )  # fmt: skip
        case od.SwapOut():
            return msg.SwapOut(
                bytes=order.keep, deadline_ns=order.deadline, device=devices.index(order.device)
            )
        case od.SwapIn():
            return msg.SwapIn(bytes=order.upto, device=devices.index(order.device))
        case od.MemGrant():
            return msg.MemGrant(bytes=order.bytes, budget=order.budget, device=devices.index(order.device))
        case od.MemDeny():
            return msg.MemDeny(bytes=order.bytes, device=devices.index(order.device), reason=order.reason)
        case od.Trim():
            return msg.MemTrim(bytes=0, device=devices.index(order.device))
    return None
