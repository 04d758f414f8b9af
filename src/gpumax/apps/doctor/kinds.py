"""Our kinds of objects, and the queues."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from gpumax.apps.cli.checks_data import Check
from gpumax.apps.doctor.patient import MISSING, Patient, found_as
from gpumax.apps.scheduler.install import kinds as ours
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.discovery import Discovery
from gpumax.engines.kubernetes.kinds import KAI_QUEUES, QUEUES, Whole, document
from gpumax.engines.kubernetes.queues import QueueRead, read_queue
from gpumax.engines.kubernetes.trees import planted

CRDS: Final = Kind(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", Whole, namespaced=False
)  # fmt: skip
MOST: Final = 10
"""Queues of which it is told what is wrong; the rest is counted."""


async def kinds(patient: Patient) -> AsyncIterator[Check]:
    """There, and as this version has them."""
    well = True
    for body in ours():
        name = body["metadata"]["name"]
        state = await found_as(patient, CRDS, body)
        well &= not state
        if state == MISSING:
            yield Check(
                "kinds", "fail", f"{name} is missing",
                f"{patient.upgrade}, or `gpumax up --kubernetes --install`; without it gpumax doesn't start",
            )  # fmt: skip
        elif state:
            wish = f"{patient.upgrade}; fields that the cluster's version doesn't know are dropped when they are written"
            yield Check("kinds", "warn", f"{name} is of another version: it differs at {state}", wish)
    if well:
        yield Check("kinds", "ok", "queues, gangs and topologies of gpumax.dev, as this version has them")


async def queues(patient: Patient) -> AsyncIterator[Check]:
    """All can be read and stand in a tree; there is one at all."""
    discovery = Discovery(patient.api)
    reads: dict[str, QueueRead] = {}
    for kind in (KAI_QUEUES, QUEUES):
        if await discovery.serves(kind):
            found = await patient.api.list(kind)
            reads |= {one.metadata.name: read_queue(document(kind, one)) for one in found.items}
    faults = [f"{name}: {fault}" for name, read in planted(reads).items() for fault in read.faults]
    for words in faults[:MOST]:
        yield Check("queues", "warn", words, "`kubectl edit queue` corrects it; until then its work waits")
    if len(faults) > MOST:
        yield Check("queues", "warn", f"{len(faults) - MOST} more faults", "`kubectl get queues` shows which")
    if not reads:
        yield Check(
            "queues",
            "warn",
            "there is none, so no pod is placed",
            "make one: docs/how-to/kubernetes.md shows how",
        )
    elif not faults:
        yield Check("queues", "ok", f"{len(reads)}, nothing is wrong with them")
