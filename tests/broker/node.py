"""A broker as a process of its own, for tests: `python node.py DIRECTORY HEARTBEAT_MS`. Says `up`, then what it reports."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from gpumax.broker.core.shapes import MIB, MS, DeviceSpec, GroupSpec, MemoryShare, Settings
from gpumax.broker.node import reception
from gpumax.broker.node.ears import run
from gpumax.broker.node.server import Server
from gpumax.errors import Refused

DEVICE = "00112233445566778899aabbccddeeff"
GIB = 1 << 30


def groups() -> dict[str, tuple[GroupSpec, frozenset[int]]]:
    memory = {DEVICE: MemoryShare(100 * MIB, 900 * MIB)}
    specs = [GroupSpec(name, memory, 400, swap=True) for name in ("a", "b")]
    specs.append(GroupSpec("other", {DEVICE: MemoryShare(0, 0)}, 100))
    users = frozenset({os.getuid()})
    return {spec.name: (spec, users) for spec in specs}


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def obey(server: Server) -> None:
    """`share GROUP THOUSANDTHS LIMIT_MIB`, answered by `done` and what came of it."""
    line = sys.stdin.readline().split()
    if not line:
        asyncio.get_running_loop().remove_reader(sys.stdin)
        return
    _, name, share, limit = line
    memory = {DEVICE: MemoryShare(100 * MIB, int(limit) * MIB)}
    try:
        server.configure(GroupSpec(name, memory, int(share), swap=True))
        tell("done")
    except Refused as error:
        tell(f"done {error}")


reception.HELLO_S = 2.0  # type: ignore[misc]


async def serve(directory: Path, heartbeat: int) -> None:
    settings = Settings(
        heartbeat_ns=heartbeat * MS, grace_ns=heartbeat * MS, stuck_ns=600_000 * MS, pool_bytes=2 * GIB
    )
    server = Server(
        directory, [DeviceSpec(DEVICE, GIB)], settings,
        report=lambda r: tell(f"report {r.kind} {r.group}"),
    )  # fmt: skip
    await server.start(groups())
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    asyncio.get_running_loop().add_reader(sys.stdin, obey, server)
    tell("up")
    await ended.wait()
    await server.stop()


if __name__ == "__main__":
    run(serve(Path(sys.argv[1]), int(sys.argv[2])))
