"""The routes of the API, by what they are about."""

from __future__ import annotations

from fastapi import APIRouter

from gpumax.apps.server.routes import cluster, events, logs, queues, system, workloads

ROUTERS: tuple[APIRouter, ...] = (
    workloads.router,
    logs.router,
    events.router,
    queues.router,
    cluster.router,
    system.router,
)
"""All of them, in the order of the OpenAPI document."""
