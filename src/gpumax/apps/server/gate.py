"""Who may speak to the server: the file's owner over its Unix socket, and whoever has the token over TCP."""

from __future__ import annotations

import hmac
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gpumax.apps.server.errors import answer

OPEN: Final = frozenset(("/healthz", "/api/v1/healthz"))
"""Paths that tell nothing, for whoever looks after the server."""


class Gate:
    """The application behind a lock. socket: the path of the Unix socket, whose mode is right enough; token: of everybody else.

    An empty token opens for nobody.
    """

    def __init__(self, app: ASGIApp, *, socket: str, token: str) -> None:
        self._app = app
        self._socket = socket
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer 401."""
        if scope["type"] == "lifespan" or self._may(scope):
            await self._app(scope, receive, send)
            return
        refusal = answer(
            401,
            "this server wants a token: Authorization: Bearer TOKEN",
            headers={"WWW-Authenticate": "Bearer"},
        )
        await refusal(scope, receive, send)

    def _may(self, scope: Scope) -> bool:
        # The server's own end of the connection: a path without a port is our Unix socket, whatever the request says.
        if self._socket and scope.get("server") == (self._socket, None):
            return True
        if scope["path"] in OPEN:
            return True
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        return (
            bool(self._token)
            and scheme.lower() == "bearer"
            and hmac.compare_digest(given.strip().encode("latin-1"), self._token)
        )
