"""The HTTP API: one description of all routes, under /api/v1."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI

from gpumax import __version__
from gpumax.apps.server.errors import handle_errors
from gpumax.apps.server.routes import ROUTERS
from gpumax.apps.server.routes.system import get_health
from gpumax.apps.server.site import Site

PREFIX: Final = "/api/v1"

_ABOUT: Final = (
    "Schedules and shares GPUs, and says why work waits. Over TCP every request but /healthz carries "
    "`Authorization: Bearer TOKEN`; over the Unix socket none does."
)


def create_app(site: Site) -> FastAPI:
    """The API over the parts of a server. It asks nobody who they are: that is the gate's."""
    # The pages that browse an API load their scripts from elsewhere; a machine may have no way there.
    app = FastAPI(
        title="gpumax",
        version=__version__,
        description=_ABOUT,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.site = site
    for router in ROUTERS:
        app.include_router(router, prefix=PREFIX)
    app.add_api_route("/healthz", get_health, include_in_schema=False)
    handle_errors(app)
    return app
