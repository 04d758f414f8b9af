"""The machines and what is on them."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from gpumax.apps.gpu.view import Item
from gpumax.apps.server import cluster, shapes
from gpumax.apps.server.parameters import refusals
from gpumax.apps.server.site import Here, Site
from gpumax.formats.decision import dump_decision
from gpumax.formats.snapshot import dump_snapshot
from gpumax.loop.cycle import Seen

router = APIRouter(tags=["cluster"])


@router.get("/nodes", summary="List nodes", operation_id="listNodes", responses=refusals())
def list_nodes(site: Here) -> shapes.Nodes:
    """All nodes, with what of each is free."""
    return shapes.Nodes(items=cluster.nodes(site.seen().snapshot.nodes, cluster.holding(site.store.live())))


@router.get("/gpus", summary="List GPUs", operation_id="listGpus", responses=refusals())
def list_gpus(site: Here) -> shapes.Gpus:
    """All GPUs, with who holds how much of each; where parts are given out, what is resident, swapped and unfenced."""
    nodes = site.seen().snapshot.nodes
    items = cluster.gpus(nodes, cluster.holding(site.store.live()), virtual=site.about.virtual)
    # A server has one node, this machine.
    parts = site.shared()
    for item in items:
        if item.index in parts:
            item.shared = shapes.SharedGpu.model_validate(parts[item.index])
    return shapes.Gpus(items=items)


@router.get(
    "/board",
    summary="Get what the last cycle saw and decided",
    operation_id="getBoard",
    response_class=Response,
    responses={200: {"model": shapes.Board}, **refusals()},
)
def get_board(site: Here) -> Response:
    """A snapshot and its decision, as `gpumax schema` describes them; the board is drawn from these."""
    seen = site.seen()
    # Thousands of rows: not worth a walk through the models.
    board = {
        "snapshot": dump_snapshot(seen.snapshot),
        "decision": dump_decision(seen.decision),
        "unfenced": _unfenced(site, seen),
    }
    return Response(msgspec.json.encode(board), media_type="application/json")


def _unfenced(site: Site, seen: Seen) -> list[Item]:
    """Processes that got around their part, or never had one."""
    node = next((node.name for node in seen.snapshot.nodes), "")
    return [
        {"node": node, "index": index, **each}
        for index, part in sorted(site.shared().items())
        for each in part["unfenced"]
    ]
