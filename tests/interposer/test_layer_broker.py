"""What a broker may order at any moment: also while a program waits for its answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpumax.broker import messages as msg
from gpumax.broker.words import SwapStatus
from interposer.broker import Broker
from interposer.under import Layer, ended, heard, layer, scripted

__all__ = ["layer", "scripted"]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    here = Broker(tmp_path)
    yield here
    here.end()


@pytest.mark.parametrize("allocate", [
    "c.try_alloc_async(8 * MIB)", "c.try_alloc_async(8 * MIB, '_ptsz')", "c.try_alloc(1000)", "c.try_pitch(1 * MIB, 8)",
    "c.try_managed(8 * MIB)", "c.try_create(8 * MIB)", "c.try_array(MIB // 4, 8)", "c.try_alloc(8 * MIB)",
])  # fmt: skip
def test_whoever_waits_for_memory_is_in_nobodys_way(allocate: str, broker: Broker, layer: Layer) -> None:
    """To make room the broker has the same program move what it has; which it can't while one of its calls is at work."""
    process = layer.start(
        f"""
        c = Cuda()
        data = bytes(range(256)) * (40 * MIB // 256)
        it = c.alloc(40 * MIB)
        c.write(it, data)
        result, other = {allocate}
        say([result, bool(other), c.read(it, 40 * MIB) == data])
        """,
        GPUMAX_SWAP="1", GPUMAX_SOCKET=str(broker.path),
    )  # fmt: skip
    broker.welcome()
    statuses, grants, waiting = [], 0, None
    for request, message in broker.heard():
        if isinstance(message, msg.MemRequest):
            grant = msg.MemGrant(bytes=message.bytes, device=message.device)
            grants += 1
            if grants == 1:
                broker.say(grant, request)
            else:
                waiting = grant, request
                broker.say(msg.SwapOut(bytes=0, device=message.device))
        elif isinstance(message, msg.SwappedOut) and message.status != SwapStatus.PROGRESS and waiting:
            statuses.append(message.status)
            broker.say(*waiting)
            broker.say(msg.SwapIn(bytes=1 << 40, device=message.device))
        elif isinstance(message, msg.SwappedIn):
            statuses.append(message.status)
    assert heard(process) == [0, True, True]
    ended(process)
    assert statuses == [SwapStatus.DONE, SwapStatus.DONE]
