"""The webhook of a cluster, as a process. Replicas are alike; none steers."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Sequence
from typing import Final, NamedTuple

from gpumax.apps.scheduler.logs import Format, log_to_stderr
from gpumax.apps.server.doors import read_address
from gpumax.apps.webhook.certificates import Kept
from gpumax.apps.webhook.keeping import Keeper
from gpumax.apps.webhook.server import Server
from gpumax.engines.kubernetes.claims import CLAIMS
from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.choose import access
from gpumax.engines.kubernetes.discovery import Discovery
from gpumax.errors import GpumaxError, Refused

LOOK_S: Final = 60.0
"""How often it looks whether a certificate is due, or has been renewed by another replica."""
RETRY_S: Final = 2.0
_log: Final = logging.getLogger("gpumax.webhook")


class Place(NamedTuple):
    """Where the webhook stands. service: NAMESPACE/NAME; its certificates are in the secret NAME-certificates beside it. plugin: whether agents are
    device plugins even where the cluster serves claims, so that pods get tickets instead.
    """

    listen: str
    service: str
    configuration: str
    more_names: Sequence[str] = ()
    plugin: bool = False

    def namespace_and_name(self) -> tuple[str, str]:
        """Of the service."""
        space, _, name = self.service.partition("/")
        if not (space and name):
            raise Refused(f"found --service {self.service!r}; wanted NAMESPACE/NAME")
        return space, name


def serve(place: Place, context: str = "", log_format: Format = "text") -> None:
    """Answer until SIGTERM or SIGINT."""
    log_to_stderr(log_format)
    read_address(place.listen)
    place.namespace_and_name()
    asyncio.run(_serve(place, context))


async def _serve(place: Place, context: str) -> None:
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    space, name = place.namespace_and_name()
    names = (f"{name}.{space}.svc", *place.more_names)
    async with Api(access(context)) as api:
        keeper = Keeper(api, space, f"{name}-certificates", place.configuration, names)
        server = Server(*read_address(place.listen))
        try:
            await _keep(api, keeper, server, over, plugin=place.plugin)
        finally:
            await server.stop()


async def _keep(api: Api, keeper: Keeper, server: Server, over: asyncio.Event, *, plugin: bool) -> None:
    """Listen from the first certificate on. What fails is tried again; meanwhile the last certificate is shown."""
    shown: Kept | None = None
    trouble = ""
    while not over.is_set():
        try:
            server.claims = not plugin and await Discovery(api).serves(CLAIMS)
            kept, trouble = await keeper.step(), ""
        except GpumaxError as error:
            if str(error) != trouble:
                _log.warning("certificates: %s", error)
            trouble = str(error)
        else:
            if kept != shown:
                server.show(kept)
                if shown is None:
                    _log.info("answering on port %s; Ctrl-C ends it", await server.start())
                shown = kept
        try:
            async with asyncio.timeout(RETRY_S if trouble else LOOK_S):
                await over.wait()
        except TimeoutError:
            continue
