"""What the scheduler says of itself over HTTP: whether it lives, whether it is ready, and its metrics."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from ipaddress import ip_address
from threading import Thread
from typing import Final, NamedTuple

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from gpumax.apps.scheduler.callers import Callers
from gpumax.apps.scheduler.health import State
from gpumax.apps.server.doors import tcp_socket
from gpumax.engines.kubernetes.client.access import Access
from gpumax.engines.kubernetes.client.api import Api
from gpumax.errors import GpumaxError

METRICS: Final = "/metrics"
END_S: Final = 5.0
_BEARER: Final = {"WWW-Authenticate": "Bearer"}
_log: Final = logging.getLogger("gpumax.scheduler")


class Site(NamedTuple):
    """Who is asked, each in a thread of its own. access: to the cluster that says who may read."""

    live: Callable[[], State]
    ready: Callable[[], State]
    metrics: Callable[[], bytes]
    access: Access


@contextmanager
def listening(address: str, site: Site) -> Iterator[None]:
    """Answer on HOST:PORT, from a thread of its own. Refused for what is no address of ours; GpumaxError where it is taken."""
    with tcp_socket(address) as door:
        loop = asyncio.new_event_loop()
        over = asyncio.Event()
        thread = Thread(
            target=loop.run_until_complete, args=(_serve(site, door, over),), name="listen", daemon=True
        )
        thread.start()
        _log.info("answering on %s: /healthz, /readyz, %s", address, METRICS)
        try:
            yield
        finally:
            loop.call_soon_threadsafe(over.set)
            thread.join(2 * END_S)
            if not thread.is_alive():
                loop.close()


async def _serve(site: Site, door: socket.socket, over: asyncio.Event) -> None:
    async with AsyncExitStack() as stack:
        callers = None
        if not ip_address(door.getsockname()[0]).is_loopback:
            callers = Callers(await stack.enter_async_context(Api(site.access)), METRICS)
        app = web.Application()
        app.add_routes(_routes(site, callers))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=END_S)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.SockSite(runner, door).start()
        await over.wait()


def _routes(site: Site, callers: Callers | None) -> Sequence[web.RouteDef]:
    async def healthz(_: web.Request) -> web.Response:
        return _told(await asyncio.to_thread(site.live))

    async def readyz(_: web.Request) -> web.Response:
        return _told(await asyncio.to_thread(site.ready))

    async def metrics(request: web.Request) -> web.Response:
        refusal = await _refusal(request, callers) if callers is not None else None
        if refusal is not None:
            return refusal
        body = await asyncio.to_thread(site.metrics)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    return (web.get("/healthz", healthz), web.get("/readyz", readyz), web.get(METRICS, metrics))


def _told(state: State) -> web.Response:
    return web.Response(status=200 if state.well else 503, text=f"{state.words}\n")


async def _refusal(request: web.Request, callers: Callers) -> web.Response | None:
    """Why the caller gets nothing; None where they may read."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        words = f"{METRICS} wants a token: Authorization: Bearer TOKEN, of somebody who may get {METRICS}\n"
        return web.Response(status=401, text=words, headers=_BEARER)
    try:
        verdict = await callers.verdict(token.strip())
    except GpumaxError as error:
        _log.warning("who may read %s can't be asked: %s", METRICS, error)
        return web.Response(status=503, text="the cluster can't be asked whose token this is\n")
    if verdict == "unknown":
        return web.Response(status=401, text="the cluster doesn't know this token\n", headers=_BEARER)
    if verdict == "forbidden":
        words = f"this token's user may not read {METRICS}: a ClusterRole with nonResourceURLs [{METRICS}] and the verb get is wanted\n"
        return web.Response(status=403, text=words)
    return None
