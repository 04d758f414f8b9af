"""The server itself."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from gpumax import __version__
from gpumax.apps.gpu.view import exported
from gpumax.apps.server import cluster, shapes
from gpumax.apps.server.parameters import refusals
from gpumax.apps.server.site import Here
from gpumax.formats.scalars import write_time

router = APIRouter(tags=["system"])


@router.get("/status", summary="Get the server's status", operation_id="getStatus", responses=refusals())
def get_status(site: Here) -> shapes.Status:
    """What the server is and does."""
    about, loop = site.about, site.loop
    if loop.last is None:
        site.settle()
    last = loop.last
    nodes = last.snapshot.nodes if last is not None else ()
    node_count, device_count = cluster.count(nodes)
    return shapes.Status(
        version=__version__,
        pid=about.pid,
        data=str(about.data),
        socket=about.socket,
        url=about.url,
        started=write_time(about.started_ms),
        engine=shapes.EngineStatus(
            name=about.engine,
            devices=device_count,
            nodes=node_count,
            notes=list(about.notes),
        ),
        trouble=[loop.trouble] if loop.trouble else [],
        warnings=list(last.decision.warnings) if last is not None else [],
        loop=loop.status,
        counts={str(state): count for state, count in site.store.counts().items()},
    )


@router.get(
    "/metrics",
    include_in_schema=False,
    summary="Get metrics for Prometheus",
    operation_id="getMetrics",
    response_class=PlainTextResponse,
    responses=refusals(),
)
def get_metrics(site: Here) -> str:
    """Of the broker that gives out parts of the GPUs: `gpumax_broker_up`, and all that it tells while it is there."""
    return exported(site.measure())


@router.get("/healthz", summary="See whether the server answers", operation_id="getHealth")
async def get_health() -> shapes.Health:
    """Asks for no token."""
    return shapes.Health(ok=True)
