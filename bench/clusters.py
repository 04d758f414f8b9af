"""Clusters to measure on, as snapshot documents: drawn by chance from a seed, so that every run sees the same.

Sizes follow what public traces of shared clusters look like: most work is small, most GPUs are in large gangs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final

Document = dict[str, Any]

NOW: Final = 1_760_000_000
DEVICES: Final = 8
MEMORY: Final = "80Gi"
# (part of the tasks, GPUs of a task, tasks of a workload); 0: work without GPUs
MIX: Final = ((25, 0.25, 1), (10, 0.5, 1), (15, 0, 4), (30, 1, 1), (8, 1, 4), (6, 2, 1), (3, 4, 2), (3, 8, 4))


def machines(count: int) -> list[Document]:
    """Nodes, all alike."""
    devices = {"count": DEVICES, "model": "H100", "memory": MEMORY}
    return [{"name": f"n{row:05d}", "cpu": 192, "memory": "2Ti", "devices": devices} for row in range(count)]


class Cluster:
    """Nodes that fill up, first fit."""

    def __init__(self, nodes: int, seed: int) -> None:
        self.chance = random.Random(seed)
        self.free = [[1000] * DEVICES for _ in range(nodes)]
        self._first: dict[float, int] = {}  # by size of ask, the first node that may still have room

    def fit(self, gpu: float) -> tuple[int, list[Document]] | None:
        """A node and devices for one task; None where none has room."""
        if not gpu:
            return self.chance.randrange(len(self.free)), []
        milli, count = (round(gpu * 1000), 1) if gpu < 1 else (1000, int(gpu))
        for row in range(self._first.get(gpu, 0), len(self.free)):
            indexes = [index for index, free in enumerate(self.free[row]) if free >= milli][:count]
            if len(indexes) == count:
                self._first[gpu] = row
                for index in indexes:
                    self.free[row][index] -= milli
                return row, [{"index": index, "milli": milli} for index in indexes]
        self._first[gpu] = len(self.free)
        return None


def queues(capacity: int) -> list[Document]:
    """Four departments of four projects; their quotas add up to three quarters of the GPUs."""
    rows: list[Document] = []
    for number in range(4):
        rows.append({"name": f"dept-{number}", "quota": _quota(capacity * 3 / 16)})
        rows += [
            {"name": f"team-{number}{letter}", "parent": f"dept-{number}", "quota": _quota(capacity * 3 / 64), "priority": 100 + (letter == "a")}
            for letter in "abcd"
        ]  # fmt: skip
    return rows


def _quota(gpus: float) -> Document:
    return {"gpu": int(gpus), "cpu": "unlimited", "memory": "unlimited"}


def busy(nodes: int, running: int, waiting: int, *, used: float, teams: str, seed: int) -> Document:
    """A cluster of which about `used` is held; `teams`: the letters of the projects that run work ("abcd": all).

    Waiting work belongs to all projects.
    """
    cluster = Cluster(nodes, seed)
    capacity = nodes * DEVICES
    held = [f"team-{number}{letter}" for number in range(4) for letter in teams]
    everyone = [f"team-{number}{letter}" for number in range(4) for letter in "abcd"]
    workloads = list(_running(cluster, running, capacity * used, held))
    workloads += _waiting(cluster.chance, waiting, everyone)
    return {
        "version": "gpumax/v1", "now": NOW,
        "nodes": machines(nodes),
        "queues": queues(capacity), "workloads": workloads,
    }  # fmt: skip


def _running(cluster: Cluster, tasks: int, budget: float, teams: list[str]) -> Iterator[Document]:
    chance, left, number = cluster.chance, tasks, 0
    while left > 0:
        gpu, count = _draw(chance)
        count = min(count, left)
        if gpu * count > budget:
            gpu = max(size for size in (1, 0.5, 0.25, 0) if size * count <= budget)
        placed = [
            cluster.fit(gpu) or cluster.fit(1) or cluster.fit(0.25) or cluster.fit(0) for _ in range(count)
        ]
        rows = [
            {"name": f"r{number}-{rank}", "state": "running", "node": f"n{spot[0]:05d}", **_what(spot[1])}
            for rank, spot in enumerate(placed) if spot is not None
        ]  # fmt: skip
        budget -= sum(share["milli"] for spot in placed if spot is not None for share in spot[1]) / 1000
        left -= len(rows)
        started = NOW - chance.randrange(600, 200_000)
        yield {
            "name": f"r{number}", "queue": chance.choice(teams), "priority": chance.choice((50, 50, 50, 75, 100)),
            "submitted": started - 60, "started": started, "tasks": rows,
        }  # fmt: skip
        number += 1


def _what(shares: list[Document]) -> Document:
    """Devices that are held, and the request that they answer."""
    gpu = sum(share["milli"] for share in shares) / 1000
    return {"request": _request(gpu), "devices": shares} if shares else {"request": _request(0)}


def _waiting(chance: random.Random, tasks: int, teams: list[str]) -> Iterator[Document]:
    left, number = tasks, 0
    while left > 0:
        gpu, count = _draw(chance)
        count = min(count, left)
        rows = [{"name": f"w{number}-{rank}", "state": "pending"} for rank in range(count)]
        elastic = count > 2 and chance.random() < 0.3
        yield {
            "name": f"w{number}", "queue": chance.choice(teams), "priority": chance.choice((50, 50, 75)),
            "submitted": NOW - chance.randrange(1, 20_000), "request": _request(gpu), "tasks": rows,
            **({"groups": [{"name": "workers", "min": count // 2}]} if elastic else {}),
        }  # fmt: skip
        left -= count
        number += 1


def _draw(chance: random.Random) -> tuple[float, int]:
    (kind,) = chance.choices(MIX, [part for part, _, _ in MIX])
    return kind[1], kind[2]


def _request(gpu: float) -> Document:
    cores = max(2, round(gpu * 12))
    return {"cpu": cores, "memory": f"{cores * 8}Gi", **({"gpu": gpu} if gpu else {})}


def hard_preempt(nodes: int) -> Document:
    """The hard reclaim inside one queue: the gang's priority is higher than that of all who run."""
    document = hard_reclaim(nodes)
    document["queues"] = [{"name": "owner", "quota": {"gpu": nodes * DEVICES}}]
    for workload in document["workloads"]:
        workload["queue"] = "owner"
    document["workloads"][-1]["priority"] = 75
    return document


def hard_consolidate(nodes: int) -> Document:
    """Every node one GPU short of a whole one: a one-GPU task runs on each; a gang of a tenth as many 8-GPU tasks waits."""
    document = hard_reclaim(nodes)
    *running, gang = document["workloads"]
    document["workloads"] = [*running[::DEVICES], gang]
    document["queues"] = [
        {"name": "lender", "quota": {"gpu": nodes}},
        {"name": "owner", "quota": {"gpu": nodes * (DEVICES - 1)}},
    ]
    return document


def hard_reclaim(nodes: int) -> Document:
    """Every GPU held by a one-GPU task of a queue without quota; one gang of nodes / 10 tasks of 8 GPUs has the quota for all.

    KAI-Scheduler's benchmark ReclaimLargeJobs, in our words.
    """
    running = [
        {
            "name": f"r{row}-{index}", "queue": "lender", "started": NOW - 3600, "submitted": NOW - 3600, "request": {"gpu": 1},
            "tasks": [{"name": f"r{row}-{index}-0", "state": "running", "node": f"n{row:05d}", "devices": [{"index": index, "milli": 1000}]}],
        }
        for row in range(nodes) for index in range(DEVICES)
    ]  # fmt: skip
    gang = {
        "name": "gang", "queue": "owner", "submitted": NOW, "request": {"gpu": 8},
        "tasks": [{"name": f"gang-{rank}", "state": "pending"} for rank in range(nodes // 10)],
    }  # fmt: skip
    return {
        "version": "gpumax/v1", "now": NOW,
        "nodes": machines(nodes),
        "queues": [{"name": "lender", "weight": 0}, {"name": "owner", "quota": {"gpu": nodes * DEVICES}}],
        "workloads": [*running, gang],
    }  # fmt: skip
