"""HTTPS for the API server: one question, one answer, and whether we can answer at all."""

from __future__ import annotations

import asyncio
import logging
import ssl
from tempfile import NamedTemporaryFile
from typing import Final

from aiohttp import web

from gpumax.apps.webhook.certificates import Kept
from gpumax.engines.kubernetes.admission.review import answer
from gpumax.errors import Refused

PATH: Final = "/pods"
MOST_BYTES: Final = 8 << 20
"""The longest question. The API server takes objects of up to 3 MiB, and asks about an old and a new one."""
PATIENCE_S: Final = 5.0
"""How long a question may take to arrive; the API server waits no longer."""
_log: Final = logging.getLogger("gpumax.webhook")


class Server:
    """Listens with a certificate that can be changed while it does."""

    def __init__(self, host: str, port: int) -> None:
        """port: 0 for any that is free."""
        self._host, self._port = host, port
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        app = web.Application(client_max_size=MOST_BYTES)
        self.claims = True
        """Whether containers get their parts of devices by ResourceClaims; else by tickets of a device plugin."""
        app.add_routes([web.post(PATH, self._answer), web.get("/healthz", _fine), web.get("/readyz", _fine)])
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)

    def show(self, kept: Kept) -> None:
        """Show this certificate from the next connection on."""
        # The only way in that Python's TLS has is a file; it is ours alone and gone at once.
        with NamedTemporaryFile() as file:
            file.write(kept.key + kept.certificate)
            file.flush()
            self._tls.load_cert_chain(file.name)

    async def start(self) -> int:
        """Listen, once there is a certificate. The port."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port, ssl_context=self._tls).start()
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        """Answer what has been asked, and end."""
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(PATIENCE_S):
                body = await request.read()
        except TimeoutError:
            return web.Response(status=408, text="the question did not arrive in time")
        try:
            return web.Response(body=answer(body, claims=self.claims), content_type="application/json")
        except Refused as error:
            return web.Response(status=400, text=str(error))
        except Exception:
            _log.exception("a question could not be answered")
            return web.Response(status=500, text="internal error")


async def _fine(request: web.Request) -> web.Response:
    """Whoever gets this has been shown a certificate, and the loop goes round."""
    del request
    return web.Response(text="ok")
