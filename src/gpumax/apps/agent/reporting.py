"""What the broker of a node sees, told to the cluster as long as the agent runs."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from gpumax.apps.agent.metrics import Life
from gpumax.apps.agent.pods import Pods
from gpumax.apps.agent.residents import Latest, Residents, shown
from gpumax.apps.agent.telling import Teller
from gpumax.broker.control import key
from gpumax.engines.kubernetes.client.errors import ApiRefused
from gpumax.errors import GpumaxError
from gpumax.ports.devices import Devices

LOOK_S: Final = 1.0
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
            await self._teller.look(status)
            indexes = {key(uuid): index for index, uuid in self._devices.uuids().items()}
            parts = shown(status, indexes, self._pods) if status is not None else {}
            await self.residents.tell(parts)
        except GpumaxError as error:
            # What it stands on is published a moment later.
            missing = isinstance(error, ApiRefused) and error.code == 404
            if not missing and str(error) != self._said:
                self._said = str(error)
                _log.warning("who shares the GPUs can't be told: %s", error)
        else:
            self._said = ""
