"""Whom a group waits for that wants room of its own, and how to end that: in words, for a person. Nobody is asked for anything here."""

from __future__ import annotations

from collections.abc import Iterator

from gpumax.broker.core.shapes import Stuck
from gpumax.broker.core.state import Client, Group, State, Tier


def silent(state: State, client: Client, now: int | None = None) -> bool:
    """Whether it has given no sign of life for longer than any that lives takes."""
    return (state.now if now is None else now) > client.last_beat + state.settings.silence_ns


def stuck(state: State, group: Group, client: Client, now: int | None = None) -> str:
    """What keeps a process from making way, as a sentence's end; empty: nothing is known to."""
    if client.leaving:
        return ""
    if client.tier is Tier.LOST:
        return "was taken off its devices, and can't be brought back"
    if client.tier is Tier.ON and (not client.connected or silent(state, client, now)):
        return "doesn't answer"
    lease = group.lease
    late = client.leased and lease is not None and lease.revoked and state.now >= lease.deadline
    return "has work that hasn't ended" if client.fenced or late else ""


def awaited(state: State, group: Group, device: str, now: int | None = None) -> list[str]:
    """Those who have of a device what a group may have at once, and don't make way for now."""
    others = [other for other in state.groups.values() if other is not group]
    outside = [
        f"process {pid}, which has no part of it and is to be taken off by the driver; `kill -9 {pid}` ends it"
        for pid in sorted(state.devices[device].outsiders)
    ]
    return [text for other in others for text in _of(state, other, device, now)] + outside


def _of(state: State, other: Group, device: str, now: int | None) -> Iterator[str]:
    if other.by_right:
        return
    named = False
    for client in other.clients.values():
        holding = client.holdings.get(device)
        why = stuck(state, other, client, now) if holding is not None and holding.resident else ""
        if not why:
            continue
        named = True
        ends = f"`kill -9 {client.pid}` ends it"
        if why == "doesn't answer" and state.settings.stuck is Stuck.WAIT:
            ends += ", or the broker does by itself with `--stuck end`"
        yield f"process {client.pid} of {other.name}, which {why}; {ends}"
    if not named and other.retry_at > state.now and other.movable(device):
        yield f"{other.name}, whose memory couldn't be moved and is tried again"
