"""Clusters played forward: decide, carry out, and on to the next moment at which anything changes.

What is told is compared with what comes: by workload the forecast of the first decision that holds it, and its start.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from board import MINUTE_MS, NOW_MS, gpus, queue
from gpumax.loop.upcoming import Upcoming
from gpumax.model.node import Device, Node
from gpumax.model.snapshot import Policy, Snapshot
from gpumax.model.workload import ACTIVE, DeviceShare, Group, Task, Workload
from gpumax.policy.decide import decide
from gpumax.policy.forecast import NONE
from properties.carry_out import Chain

MOST_CYCLES: Final = 2_000
MOST_AT_ONCE: Final = 30
"""Cycles before time moves on though not everybody who made way has found other room: a real clock would not wait."""


@dataclass
class Story:
    """A cluster, how long each workload really runs, and who comes later, by the moment."""

    snapshot: Snapshot
    spans: dict[str, int]
    arrivals: list[tuple[int, Workload]] = field(default_factory=list)


@dataclass
class Told:
    """What a workload was told first, and when some of it started; None: never, as far as it was played."""

    at: int
    forecast: int | None
    start: int | None = None

    @property
    def error(self) -> int | None:
        """By how much it started later than it was told."""
        return None if self.forecast is None or self.start is None else self.start - self.forecast


def play(story: Story) -> dict[str, Told]:
    """Play until nothing changes any more."""
    chain, told, upcoming = Chain(story.snapshot), dict[str, Told](), Upcoming()
    arrivals = sorted(story.arrivals, key=lambda row: row[0], reverse=True)
    at_once = 0
    for _ in range(MOST_CYCLES):
        now_ms = chain.snapshot.now_ms
        decision = decide(chain.snapshot, effort=NONE)
        if any(hold.workload not in told for hold in decision.holds):
            decision = decide(chain.snapshot)
        owner = {task.name: work.name for work in chain.snapshot.workloads for task in work.tasks}
        for place in decision.places:
            row = told.get(owner[place.task])
            if row is not None and row.start is None:
                row.start = now_ms
        for hold in decision.holds:
            told.setdefault(hold.workload, Told(now_ms, hold.forecast_ms))
        before = chain.snapshot
        chain.carry_out(decision)
        at_once += 1
        if (chain.snapshot != before or chain.leaving) and at_once < MOST_AT_ONCE:
            continue
        at_once = 0
        moments = [end for _, end in _ends(chain.snapshot, story.spans)]
        moments += [moment for moment, _ in arrivals[-1:]]
        again = upcoming.next_ms(chain.snapshot)
        if not moments:
            return told
        moment = min([*moments, *([again] if again is not None else [])])
        over = {name for name, end in _ends(chain.snapshot, story.spans) if end <= moment}
        rows = [work for work in chain.snapshot.workloads if work.name not in over]
        while arrivals and arrivals[-1][0] <= moment:
            rows.append(arrivals.pop()[1])
        rows.sort(key=lambda work: work.name)
        chain.snapshot = replace(chain.snapshot, now_ms=moment, workloads=tuple(rows))
    raise AssertionError("it doesn't come to an end")


def _ends(snapshot: Snapshot, spans: dict[str, int]) -> Iterator[tuple[str, int]]:
    """When what runs is over."""
    for work in snapshot.workloads:
        if work.started_ms is not None and any(task.state in ACTIVE for task in work.tasks):
            yield work.name, work.started_ms + spans[work.name]


def crowded(seed: int, *, later: int = 0, over: int = 1, waiting: int = 24) -> Story:
    """A few nodes that are mostly taken, by queues with and without quota, and work of all sizes that waits.

    later: so many workloads come afterwards; over: durations are told so many times too long.
    """
    chance = random.Random(seed)
    width = chance.choice((4, 8))
    nodes = tuple(
        Node(f"n{row}", cpu_milli=64_000, memory_mib=1 << 20, devices=tuple(Device(i, "H100", 81920) for i in range(width)))
        for row in range(chance.randint(1, 5))
    )  # fmt: skip
    names = "pqr"[: chance.randint(1, 3)]
    whole = width * len(nodes)
    queues = tuple(queue(name, chance.randint(0, whole // len(names))) for name in names)
    work, spans = [], {}
    for row, node in enumerate(nodes):
        for index in range(width):
            if chance.random() < 0.15:
                continue
            name = f"r{row}{index}"
            spans[name] = chance.randint(31, 240) * MINUTE_MS
            task = Task(f"{name}-0", "", "running", node.name, (DeviceShare(index, 1000),), request=gpus(1))
            work.append(
                Workload(
                    name, chance.choice(names), preemptible=chance.random() < 0.5, started_ms=NOW_MS - chance.randint(0, 30) * MINUTE_MS,
                    max_duration_ms=spans[name] * over, groups=(Group("", 1),), tasks=(task,),
                )
            )  # fmt: skip
    arrivals = []
    for number in range(waiting + later):
        name = f"w{number:02d}"
        spans[name] = chance.randint(5, 240) * MINUTE_MS
        came = NOW_MS - chance.randint(1, 90) * MINUTE_MS
        if number >= waiting:
            came = NOW_MS + chance.randint(1, 300) * MINUTE_MS
        tasks = chance.choice((1, 1, 1, 2, 3))
        ask = gpus(chance.choice((0.5, 1, 1, 1, 2, 4, width)))
        new = Workload(
            name, chance.choice(names), priority=chance.choice((50, 50, 50, 60)), submitted_ms=came,
            max_duration_ms=spans[name] * over, groups=(Group("", chance.randint(1, tasks)),),
            tasks=tuple(Task(f"{name}-{index}", request=ask) for index in range(tasks)),
        )  # fmt: skip
        if number >= waiting:
            arrivals.append((came, new))
        else:
            work.append(new)
    rows = tuple(sorted(work, key=lambda row: row.name))
    policy = Policy(reserve_after_ms=chance.choice((10, 60, 600)) * MINUTE_MS)
    return Story(Snapshot(NOW_MS, nodes, queues, rows, policy), spans, arrivals)
