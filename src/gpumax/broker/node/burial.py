"""The memory of those who have died is given to others as soon as the driver lists them no more, not after the time that it's otherwise waited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from gpumax.broker.node.server import Server
from gpumax.broker.node.unfenced import Readings, Watch

AGAIN_S: Final = 0.02


def freed(dead: Mapping[int, int], before: Readings, now: Readings) -> Iterator[int]:
    """Those of the dead, as process by client, whose memory is free: on each device that listed it, it's listed no more.

    One that was never listed, or of a device that can't be read now, may have its memory yet.
    """
    for client, pid in dead.items():
        places = [device for device, used in before.items() if pid in used]
        if places and all(device in now and pid not in now[device] for device in places):
            yield client


@dataclass
class Burial:
    """Asks the driver when somebody has died. readings: asked in a thread, because a driver may take its time."""

    server: Server
    readings: Callable[[], Readings]
    watch: Watch

    async def run(self) -> None:
        while True:
            await self.server.death.wait()
            self.server.death.clear()
            while dead := self.server.dead:
                for client in freed(dead, self.watch.seen, await asyncio.to_thread(self.readings)):
                    self.server.reclaimed(client)
                await asyncio.sleep(AGAIN_S)
