"""Where the adapters of an agent meet: one process on each node that gives out parts of GPUs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from pathlib import Path
from typing import Final, NamedTuple

from gpumax.apps.agent.driver import Driver, Place
from gpumax.apps.agent.parts import Parts
from gpumax.apps.agent.publish import publish
from gpumax.apps.agent.registration import home, registered
from gpumax.apps.scheduler.logs import Format, log_to_stderr
from gpumax.apps.scheduler.main import access
from gpumax.devices import open_devices
from gpumax.engines.kubernetes.claims import CLAIMS
from gpumax.engines.kubernetes.client.api import Api
from gpumax.errors import GpumaxError
from gpumax.ports.devices import Devices

SWEEP_S: Final = 60.0
"""How often it is looked whether all is as it should be, where nobody asks for it."""
_log: Final = logging.getLogger("gpumax.agent")


class Wishes(NamedTuple):
    """How to be an agent.

    node: our node's name in the cluster. devices: virtual ones, as `open_devices` reads them; None: the machine's own. kubelet, cdi: its folder, and
    the one in which the runtime looks for CDI specs. layer: the folder of the layer under CUDA. context: the cluster; see `access`.
    """

    node: str
    devices: str | None = None
    kubelet: Path = Path("/var/lib/kubelet")
    cdi: Path = Path("/var/run/cdi")
    layer: Path = Path("/usr/local/lib/gpumax")
    context: str = ""
    log_format: Format = "text"


def serve(wishes: Wishes) -> None:
    """Give out parts until SIGTERM or SIGINT; containers run on with what they have."""
    log_to_stderr(wishes.log_format)
    devices = open_devices(wishes.devices)
    for note in devices.notes():
        _log.warning("%s", note)
    asyncio.run(_serve(wishes, devices))


async def _serve(wishes: Wishes, devices: Devices) -> None:
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    async with Api(access(wishes.context), agent="gpumax-agent") as api:
        parts = Parts(wishes.cdi, home(wishes.kubelet) / "parts")
        place = Place(wishes.node, devices, wishes.layer, (Path("/etc/cdi"), wishes.cdi))
        driver = Driver(place, parts, lambda space, name: api.get(CLAIMS, name, space))
        woken = asyncio.Event()
        async with registered(wishes.kubelet, driver, woken):
            _log.info("node %s: %d GPUs are given out", wishes.node, len(devices.read()))
            ends = asyncio.create_task(over.wait())
            while not over.is_set():
                await _look(api, wishes.node, devices, driver)
                # A kubelet that takes us anew may have removed what we published.
                wakes = asyncio.create_task(woken.wait())
                await asyncio.wait((ends, wakes), timeout=SWEEP_S, return_when=asyncio.FIRST_COMPLETED)
                wakes.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await wakes
                woken.clear()


async def _look(api: Api, node: str, devices: Devices, driver: Driver) -> None:
    try:
        if await publish(api, node, devices):
            _log.info("node %s: its GPUs are published", node)
        await driver.sweep()
    except GpumaxError as error:
        _log.warning("node %s: %s", node, error)
