"""Clusters that are full of work of every kind, and one gang that waits: drawn from a number, the same in every run."""

from __future__ import annotations

from random import Random
from typing import Any

from msgspec.structs import replace

from board import MINUTE_MS, NOW_MS, queue
from gpumax.model.node import Device, Node
from gpumax.model.snapshot import Placement, Policy, Snapshot, Strategy
from gpumax.model.workload import DeviceAsk, Group, Request, Task, Workload
from properties.strategies import CUT, GIB, Room

SIZES = ((1, 1000), (1, 1000), (2, 1000), (1, 500), (1, 250), (2, 600), (1, 600))


def _node(chance: Random, name: str) -> Node:
    kind = chance.choice(("whole", "whole", "whole", "cut", "none"))
    count = 0 if kind == "none" else chance.randint(1, 2) if kind == "cut" else chance.randint(2, 4)
    if kind == "cut":
        devices = [Device(index, "A100", 40 * GIB, slices=CUT) for index in range(count)]
    else:
        devices = [Device(index, "H100", chance.choice((80, 80, 40)) * GIB) for index in range(count)]
    return Node(
        name, cpu_milli=chance.choice((16_000, 8_000)), memory_mib=chance.choice((96, 48)) * GIB,
        tasks=chance.choice((None, None, 4)), devices=tuple(devices),
        extended=chance.choice(({}, {"nic": 2}, {"nic": 2, "port": 1})), labels={"host": name},
    )  # fmt: skip


def ask(chance: Random) -> Request:
    """What a task asks: devices, parts, memory of one, slices or none, mostly with cores and memory."""
    kind = chance.choice(("gpu", "gpu", "gpu", "memory", "slices", "none"))
    found: dict[str, Any] = {}
    if kind == "gpu":
        count, milli = chance.choice(SIZES)
        found["gpu"] = (DeviceAsk(count, milli),)
    elif kind == "memory":
        found["gpu"] = (DeviceAsk(1, 1000, chance.choice((10, 30, 60)) * GIB),)
    elif kind == "slices":
        found["slices"] = {chance.choice(sorted(CUT)): chance.choice((1, 1, 2))}
    return Request(
        cpu_milli=chance.choice((0, 1_000, 3_000, 6_000)) if kind != "none" else chance.choice((2_000, 7_000)),
        memory_mib=chance.choice((0, 0, 8, 24)) * GIB,
        extended=chance.choice(({}, {}, {}, {"nic": 1}, {"port": 1})),
        **found,
    )  # fmt: skip


def crowd(number: int, mine: str, gang: int = 1, most_nodes: int = 5, most_work: int = 40) -> Snapshot:
    """Three queues hold what there is; a gang of queue `mine` asks for what may be short, its last task for something else."""
    chance = Random(number)
    nodes = tuple(_node(chance, f"n{at}") for at in range(chance.randint(most_nodes - 2, most_nodes)))
    room, work = Room(nodes), []
    for at in range(most_work):
        request, tasks = ask(chance), list[Task]()
        for _ in range(chance.choice((1, 1, 2, 3))):
            node = chance.choice(nodes).name
            shares = room.take(node, request)
            if shares is not None:
                tasks.append(Task(f"w{at}-{len(tasks)}", "", "running", node, shares, request=request))
        if tasks:
            work.append(_workload(chance, f"w{at}", tasks))
    asks = [ask(chance)] * max(1, gang - 1) + [ask(chance)] * (gang > 1)
    waits = tuple(Task(f"A-{at}", request=request) for at, request in enumerate(asks))
    work.append(Workload("A", mine, 60, True, groups=(Group("", gang),), tasks=waits))
    queues = [queue(name, chance.choice((0, 1, 2))) for name in "opq"]
    queues += [queue("a", 64)] if mine == "a" else []
    strategies: tuple[Strategy, ...] = ("pack", "spread")
    strategy = chance.choice(strategies)
    return Snapshot(
        NOW_MS, nodes, tuple(sorted(queues, key=lambda row: row.name)), tuple(sorted(work, key=lambda row: row.name)),
        Policy(placement=Placement(strategy, strategy)),
    )  # fmt: skip


def _workload(chance: Random, name: str, tasks: list[Task]) -> Workload:
    return Workload(
        name, chance.choice("opq"), chance.choice((20, 40, 40)), chance.choice((True, True, True, "semi")),
        started_ms=NOW_MS - chance.randint(1, 3) * MINUTE_MS,
        checkpointed_ms=chance.choice((None, None, NOW_MS - MINUTE_MS)),
        groups=(Group("", chance.randint(1, len(tasks))),), tasks=tuple(tasks),
    )  # fmt: skip


def only_on(snapshot: Snapshot, name: str) -> Snapshot:
    """The same where the task that waits may use one node only."""

    def only(workload: Workload) -> Workload:
        if workload.name != "A":
            return workload
        return replace(workload, tasks=(replace(workload.tasks[0], selector={"host": name}),))

    return replace(snapshot, workloads=tuple(map(only, snapshot.workloads)))
