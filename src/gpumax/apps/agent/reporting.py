"""What the broker of a node sees, told to the cluster as long as the agent runs."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from gpumax.apps.agent.metrics import Life
from gpumax.apps.agent.pods import Pods
from gpumax.apps.agent.residents import Latest, Residents, shown
from gpumax.apps.agent.telling import Teller
from gpumax.apps.gpu.view import Item
from gpumax.broker.control import key
from gpumax.broker.status import Status
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.errors import GpumaxError
from gpumax.ports.devices import Devices

LOOK_S: Final = 0.5
_log: Final = logging.getLogger("gpumax.agent")


class Report:
    """What is told, and how often: at each look all that is new of processes, and who shares the devices as `Residents` has it."""

    def __init__(
        self,
        devices: Devices,
        latest: Latest,
        pods: Pods,
        teller: Teller,
        residents: Residents,
        life: Life | None = None,
    ) -> None:
        self._latest = latest
        self._pods = pods
        self._teller = teller
        self._devices = devices
        self._said = ""
        self._seen: Status | None = None
        self._shown: dict[int, Item] = {}
        self._indexes: dict[str | None, int] = {}
        self.residents = residents
        self.life = life or Life()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            self.life.looked()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Once. What can't be said now is said later."""
        status = self._latest.now()
        try:
            if status is not self._seen or self._teller.waiting:
                await self._see(status)
            await self.residents.tell(self._shown)
        except GpumaxError as error:
            # What it stands on is published a moment later.
            missing = isinstance(error, ApiRefused) and error.code == 404
            if not missing and str(error) != self._said:
                self._said = str(error)
                _log.warning("who shares the GPUs can't be told: %s", error)
        else:
            self._said = ""

    async def _see(self, status: Status | None) -> None:
        """What the broker says is new."""
        self._pods.look()
        await self._teller.look(status)
        devices = status.devices if status is not None else ()
        if not {key(each.uuid) for each in devices} <= self._indexes.keys():
            self._indexes = {key(uuid): index for index, uuid in self._devices.uuids().items()}
        self._shown = shown(status, self._indexes, self._pods) if status is not None else {}
        self._seen = status
