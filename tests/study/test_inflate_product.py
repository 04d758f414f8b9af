"""What fills a cluster in the product's name is the product: the same places as `decide` gives when work comes one by one."""

from __future__ import annotations

from hypothesis import given, settings
from msgspec.structs import replace

from gpumax.model.amounts import BOUNDLESS
from gpumax.model.node import Node
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Placement, Policy, Snapshot
from gpumax.model.trace import Arrival
from gpumax.model.workload import DeviceShare, Workload
from gpumax.policy.decide import decide
from gpumax.study.inflate.field import Field, request, shape_of
from gpumax.study.inflate.play import RULES
from gpumax.study.inflate.product import QUEUE, workload
from study.fields import ARRIVALS, NODES


def one_by_one(nodes: tuple[Node, ...], come: tuple[Arrival, ...]) -> list[tuple[object, ...] | None]:  # fmt: skip
    """Where each arrival goes, by a decision of its own on all that runs; what finds no place is gone."""
    policy = Policy(placement=Placement("dense", "dense"))
    run: list[Workload] = []
    found: list[tuple[object, ...] | None] = []
    for one in come:
        asked = workload(one, request(shape_of(one)))
        works = tuple(sorted((*run, asked), key=lambda work: work.name))
        snapshot = Snapshot(
            nodes=nodes, queues=(Queue(QUEUE, quota=BOUNDLESS),), workloads=works, policy=policy
        )
        places = decide(snapshot).places
        found.append((places[0].node, places[0].devices) if places else None)
        for place in places:
            task = replace(asked.tasks[0], state="running", node=place.node, devices=place.devices)
            run.append(replace(asked, tasks=(task,)))
    return found


@settings(max_examples=40, deadline=None)
@given(nodes=NODES, come=ARRIVALS)
def test_the_places_are_those_of_decisions(nodes: tuple[Node, ...], come: tuple[Arrival, ...]) -> None:  # fmt: skip
    """Node and devices of every arrival, by the room that is left after each."""
    field = Field(nodes)
    rule = RULES["gpumax"](field, come, 42)
    for one, place in zip(come, one_by_one(nodes, come), strict=True):
        before = field.room.devices.copy(), field.room.tasks.copy()
        got = rule.place(one)
        assert (got is None) == (place is None)
        if place is None:
            continue
        taken = before[0] - field.room.devices
        (row,) = (before[1] - field.room.tasks).nonzero()[0].tolist()
        shares = [DeviceShare(column, milli) for column, milli in enumerate(taken[row].tolist()) if milli]
        assert place == (nodes[row].name, tuple(shares))
