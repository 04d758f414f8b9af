"""How the kubelet gets to know a driver of claims: it finds a socket in its folder, and asks there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from gpumax.apps.agent.driver import Driver
from gpumax.apps.agent.wire import kubelet_pb2 as wire
from gpumax.apps.agent.wire.services import CLAIMS, REGISTRATION, served, unary
from gpumax.engines.kubernetes import keys

_log: Final = logging.getLogger("gpumax.agent")


def home(kubelet: Path) -> Path:
    """The driver's own folder."""
    return kubelet / "plugins" / keys.DRIVER


class Registration:
    """What the kubelet asks before it uses a driver. registered: set each time when it says yes."""

    def __init__(self, endpoint: Path, registered: asyncio.Event) -> None:
        self._endpoint = endpoint
        self._registered = registered

    async def info(self, _asked: wire.Empty, _: object) -> wire.PluginInfo:
        """Who we are, and where claims are made ready."""
        return wire.PluginInfo(
            type="DRAPlugin",
            name=keys.DRIVER,
            endpoint=str(self._endpoint),
            supported_versions=list(CLAIMS),
        )

    async def status(self, asked: wire.RegistrationStatus, _: object) -> wire.Empty:
        """Whether the kubelet took us."""
        if asked.plugin_registered:
            _log.info("the kubelet knows this driver")
            self._registered.set()
        else:
            _log.error("the kubelet refused this driver: %s", asked.error)
        return wire.Empty()


@asynccontextmanager
async def registered(kubelet: Path, driver: Driver, known: asyncio.Event) -> AsyncIterator[None]:
    """Serve claims, and be found by the kubelet. The socket that it finds comes last, when all behind it is there."""
    endpoint = home(kubelet) / "dra.sock"
    work = {
        "NodePrepareResources": unary(driver.prepare, wire.Claims, wire.PreparedClaims),
        "NodeUnprepareResources": unary(driver.unprepare, wire.Claims, wire.UnpreparedClaims),
    }
    about = Registration(endpoint, known)
    questions = {
        "GetInfo": unary(about.info, wire.Empty, wire.PluginInfo),
        "NotifyRegistrationStatus": unary(about.status, wire.RegistrationStatus, wire.Empty),
    }
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(served(endpoint, dict.fromkeys(CLAIMS.values(), work)))
        path = kubelet / "plugins_registry" / f"{keys.DRIVER}-reg.sock"
        await stack.enter_async_context(served(path, {REGISTRATION: questions}))
        yield
