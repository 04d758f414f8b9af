"""Small clusters that are full or nearly so, where several gangs wait of which most may take from others: drawn from a number."""

from __future__ import annotations

from random import Random

from msgspec.structs import replace

from board import MINUTE_MS, NOW_MS, gpus, queue
from gpumax.model.node import Device, Node
from gpumax.model.snapshot import Placement, Policy, Snapshot, Strategy, Topology
from gpumax.model.workload import (
    Affinity,
    Company,
    DeviceShare,
    Group,
    Segments,
    Task,
    TaskTerm,
    TopologyWish,
    Workload,
)
from neighbours import anyones, term

APPS: tuple[dict[str, str], ...] = ({}, {"app": "x"}, {"app": "x"}, {"app": "y"})
WISHES = (
    TopologyWish("default", "rack"), TopologyWish("default", None, "rack"), TopologyWish("default", "zone", "rack"),
    TopologyWish("default", None, None, Segments(2, "rack")),
)  # fmt: skip
SIZES = (0.5, 1, 1, 1, 2, 2, 4)


class _Free:
    """What nodes have left while work is laid out: milli by device."""

    def __init__(self, nodes: tuple[Node, ...]) -> None:
        self.free = {node.name: [1000] * len(node.devices) for node in nodes}

    def take(self, name: str, size: float) -> tuple[DeviceShare, ...]:
        """The first devices that fit; none where they don't suffice."""
        milli, count = (round(1000 * size), 1) if size < 1 else (1000, int(size))
        fitting = [index for index, left in enumerate(self.free[name]) if left >= milli][:count]
        if len(fitting) < count:
            return ()
        for index in fitting:
            self.free[name][index] -= milli
        return tuple(DeviceShare(index, milli) for index in fitting)


def _nodes(chance: Random) -> tuple[Node, ...]:
    racks = [("a", "r1"), ("a", "r2"), ("b", "r3")]
    return tuple(
        Node(
            f"n{at}", cpu_milli=64_000, memory_mib=1 << 20,
            devices=tuple(Device(index, "H100", 81920) for index in range(chance.choice((2, 4, 4)))),
            labels=dict(zip(("zone", "rack", "host"), (*chance.choice(racks), f"n{at}"), strict=True)),
        )
        for at in range(chance.randint(2, 5))
    )  # fmt: skip


def _wishes(chance: Random) -> Affinity | None:
    make = chance.choice((term, anyones))
    row: TaskTerm = make(chance.choice(("host", "host", "zone")), app=chance.choice("xxy"))
    near, apart = Affinity(near=Company((row,))), Affinity(apart=Company((row,)))
    return chance.choice((None, None, near, apart, apart))


def siege(number: int, *, tied: bool = False, racked: bool = False, timed: bool = False) -> Snapshot:
    """tied: much of the work cares who is near it. racked: much of it stands together. timed: it is known of much of it how
    long it runs at most, and room is kept for those who have waited for long.
    """
    chance = Random(number)
    nodes = _nodes(chance)
    room, work = _Free(nodes), list[Workload]()
    for at in range(chance.choice((4, 6, 12, 12))):
        size, home, tasks = chance.choice(SIZES), chance.choice(nodes), list[Task]()
        together = racked and chance.random() < 0.4
        for _ in range(chance.choice((1, 2, 3, 4, 5))):
            node = home if together else chance.choice(nodes)
            shares = room.take(node.name, size)
            if shares:
                name = f"w{at:02}-{len(tasks)}"
                tasks.append(Task(name, "", "running", node.name, shares, request=gpus(size)))
        if tasks:
            wish = chance.choice(WISHES[:2]) if together else None
            work.append(_runs(chance, f"w{at:02}", tasks, wish))
    for at in range(chance.randint(2, 5)):
        work.append(_waits(chance, f"A{at}", racked=racked))
    if tied:
        work = [_tied(chance, row) for row in work]
    if timed:
        minutes = (None, 2, 4, 4, 8, 30)
        work = [
            replace(row, max_duration_ms=(most := chance.choice(minutes)) and most * MINUTE_MS)
            for row in work
        ]
    queues = [
        queue("a", chance.choice((2, 6, 10))), queue("b", chance.choice((1, 2, 4)), parent="t"),
        queue("c", chance.choice((0, 1, 3)), parent="t"), queue("d", chance.choice((0, 2)), limit=chance.choice((None, 6))),
        queue("t", chance.choice((2, 4, 8))),
    ]  # fmt: skip
    strategy: Strategy = chance.choice(("pack", "pack", "pack", "spread"))
    return Snapshot(
        NOW_MS, nodes, tuple(queues), tuple(sorted(work, key=lambda row: row.name)),
        Policy(placement=Placement(strategy, strategy), reserve_after_ms=MINUTE_MS if timed else 1 << 50), (Topology("default", ("zone", "rack")),),
    )  # fmt: skip


def _runs(chance: Random, name: str, tasks: list[Task], wish: TopologyWish | None) -> Workload:
    return Workload(
        name, chance.choice("bbccd"), chance.choice((20, 40, 40, 60)), chance.choice((True, True, True, True, "semi", False)),
        started_ms=NOW_MS - chance.randint(1, 3) * MINUTE_MS, groups=(Group("", chance.randint(1, len(tasks))),),
        tasks=tuple(tasks), topology=wish,
    )  # fmt: skip


def _waits(chance: Random, name: str, *, racked: bool) -> Workload:
    count, size = chance.randint(1, 4), chance.choice(SIZES)
    tasks = [Task(f"{name}-{at}", request=gpus(size)) for at in range(count)]
    if chance.random() < 0.3:
        tasks[-1] = replace(tasks[-1], request=gpus(chance.choice(SIZES)))
    return Workload(
        name, chance.choice("aabcd"), chance.choice((40, 60, 80)), True, submitted_ms=NOW_MS - chance.randint(1, 9) * MINUTE_MS,
        groups=(Group("", chance.randint(1, count)),), tasks=tuple(tasks),
        topology=chance.choice(WISHES) if racked and chance.random() < 0.6 else None,
    )  # fmt: skip


def _tied(chance: Random, row: Workload) -> Workload:
    """Its tasks wish the same, or the first of them nothing."""
    wishes = _wishes(chance)
    tasks = tuple(
        replace(task, affinity=wishes if at or chance.random() < 0.7 else None)
        for at, task in enumerate(row.tasks)
    )
    return replace(row, labels=chance.choice(APPS), tasks=tasks)
