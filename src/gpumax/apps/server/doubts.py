"""Settings of queues that are allowed and hardly meant. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gpumax.formats.scalars import write_amount
from gpumax.model.amounts import RESOURCES, Resource
from gpumax.model.names import natural
from gpumax.model.queue import Queue
from gpumax.units import UNLIMITED


def doubts(queue: Queue, all_queues: Sequence[Queue]) -> list[str]:
    """What whoever set this queue should know, in sentences."""
    return list(_doubts(queue, all_queues))


def _doubts(queue: Queue, all_queues: Sequence[Queue]) -> Iterator[str]:
    parent = next((other for other in all_queues if other.name == queue.parent), None)
    for resource in RESOURCES:
        yield from _below_own(queue, resource)
        yield from _below_children(queue, resource, all_queues)
        if parent is not None:
            yield from _below_children(parent, resource, all_queues)
        if getattr(queue.weight, resource) == 0 and getattr(queue.quota, resource) < UNLIMITED:
            yield f"its {resource} weight is 0: it never gets {resource} beyond its quota, however much is idle"


def _below_own(queue: Queue, resource: Resource) -> Iterator[str]:
    quota, limit = getattr(queue.quota, resource), getattr(queue.limit, resource)
    if limit < quota < UNLIMITED:
        yield f"the limit of {_told(queue, resource, limit)} is below its own quota, {write_amount(resource, quota)}"


def _below_children(queue: Queue, resource: Resource, all_queues: Sequence[Queue]) -> Iterator[str]:
    below = sorted(
        (other for other in all_queues if other.parent == queue.name), key=lambda q: natural(q.name)
    )
    quotas = [getattr(child.quota, resource) for child in below]
    total, limit = sum(quota for quota in quotas if quota < UNLIMITED), getattr(queue.limit, resource)
    if total > limit:
        names = ", ".join(child.name for child in below[:5]) + (" and others" if len(below) > 5 else "")
        yield (
            f"the limit of {_told(queue, resource, limit)} is below the quotas of the queues in it "
            f"({names}), {write_amount(resource, total)} together: not all of them can be served"
        )


def _told(queue: Queue, resource: Resource, limit: int) -> str:
    return f"{queue.name}, {resource}={write_amount(resource, limit)},"
