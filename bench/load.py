"""Kueue's load on a real control plane: queues below parents, pods of three sizes that come faster than they can run.

Below each parent stand six queues with 20 cores each, of which each may use 100 more. To each come 350 pods of 1 core that run for 0.2 s,
one every 100 ms, with priority 50; 100 of 5 cores (0.5 s, every 500 ms, 100) and 50 of 20 cores (1 s, every 1.2 s, 200). kwok plays the kubelets:
a pod has succeeded when its time is over. Nobody is evicted, since work is protected for longer than it runs.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import ssl
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

import aiohttp
import msgspec
import yaml

from planes import (
    KWOK,
    PODS,
    ControlPlane,
    Document,
    Program,
    built,
    cluster,
    eventually,
    free_ports,
    node,
    ours,
    pod,
    post,
    queue,
    used,
    waiting,
)

CLASSES: Final = "/apis/scheduling.k8s.io/v1/priorityclasses"
QUEUES: Final = 6
CORES: Final = 20
MORE: Final = 100
GOAL_S: Final = 150.0
GOAL_CPU_S: Final = 60.0
RUNS: Final = "bench/runs"
"""The annotation that says for how long a pod runs."""
DONE: Final[Document] = {
    "apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": {"name": "pod-done"},
    "spec": {
        "resourceRef": {"apiGroup": "v1", "kind": "Pod"},
        "selector": {"matchExpressions": [{"key": ".status.phase", "operator": "In", "values": ["Pending"]}]},
        "delay": {
            "durationMilliseconds": 1000,
            "durationFrom": {"expressionFrom": f'.metadata.annotations["{RUNS}"]'},
        },
        "next": {"statusTemplate": "phase: Succeeded"},
    },
}  # fmt: skip


class Size(NamedTuple):
    """Of each queue: so many pods of so many cores, for how long each runs, its priority, and how long after the last it comes."""

    name: str
    pods: int
    cores: int
    run_s: float
    priority: int
    every_s: float


SIZES: Final = (
    Size("small", 350, 1, 0.2, 50, 0.1),
    Size("medium", 100, 5, 0.5, 100, 0.5),
    Size("large", 50, 20, 1.0, 200, 1.2),
)


def queues(parents: int) -> Iterator[Document]:
    """The tree. Work that runs is protected for longer than any does."""
    quota = {"gpu": 0, "memory": "unlimited"}
    for parent in range(parents):
        yield queue(f"cohort-{parent}", quota={**quota, "cpu": 0}, limit={"cpu": QUEUES * CORES})
        for number in range(QUEUES):
            yield queue(
                f"queue-{parent}-{number}", parent=f"cohort-{parent}", quota={**quota, "cpu": CORES}, limit={"cpu": CORES + MORE},
                preemptMinRuntime="10s", reclaimMinRuntime="10s",
            )  # fmt: skip


def arrivals(parents: int) -> list[tuple[float, bytes]]:
    """Each pod, and after how many seconds it comes."""
    found = []
    for parent in range(parents):
        for number in range(QUEUES):
            for size in SIZES:
                for rank in range(size.pods):
                    made = pod(
                        f"{size.name}-{parent}-{number}-{rank}", "gpumax", {"cpu": str(size.cores), "memory": "1Mi"},
                        f"queue-{parent}-{number}", {"gpumax.dev/preemptible": "true"}, {RUNS: f"{size.run_s}s"},
                        priorityClassName=size.name,
                    )  # fmt: skip
                    found.append(((rank + 1) * size.every_s, msgspec.json.encode(made)))
    return sorted(found)


async def _arrive(url: str, files: tuple[str, str, str], rows: list[tuple[float, bytes]]) -> float:
    authority, certificate, key = files
    context = ssl.create_default_context(cafile=authority)
    context.load_cert_chain(certificate, key)
    turns, late_s = asyncio.Semaphore(32), 0.0
    async with aiohttp.ClientSession(
        url,
        connector=aiohttp.TCPConnector(ssl=context, limit=32),
        headers={"Content-Type": "application/json"},
    ) as session:

        async def make(body: bytes) -> None:
            async with turns, session.post(PODS, data=body) as answer:
                answer.raise_for_status()

        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for after_s, body in rows:
                await asyncio.sleep(max(0.0, began + after_s - time.monotonic()))
                late_s = max(late_s, time.monotonic() - began - after_s)
                group.create_task(make(body))
        return max(late_s, time.monotonic() - began - rows[-1][0])


def arrive(url: str, files: tuple[str, str, str], parents: int, done: multiprocessing.Queue[float]) -> None:
    """Make the pods as they come; how late it was at most, in seconds, is put into the queue."""
    done.put(asyncio.run(_arrive(url, files, arrivals(parents))))


def _kwok(plane: ControlPlane) -> Program:
    """Who plays the kubelets."""
    stage = plane.directory / "done.yaml"
    stage.write_text(yaml.safe_dump(DONE))
    home = built(KWOK)
    (port,) = free_ports(1)
    program = Program(
        [
            str(home / "kwok"), "--kubeconfig", str(plane.kubeconfig()), "--manage-all-nodes=true", "--v", "ERROR",
            "--server-address", f"127.0.0.1:{port}", "--config", str(stage),
            "--config", str(home / "stage/node/fast/node-initialize.yaml"),
        ],
        plane.directory / "kwok.log",
    )  # fmt: skip
    program.start()
    return program


def main(parents: int) -> None:
    """Measure and print."""
    pods = parents * QUEUES * sum(size.pods for size in SIZES)
    room = {"cpu": str(QUEUES * CORES), "memory": "512Gi", "pods": "1000"}
    # Nobody reads its audit log, and there would be gigabytes of it.
    with cluster((node(number, room) for number in range(parents)), "--audit-log-path=") as plane:
        post(plane, CLASSES, (_class(size) for size in SIZES))
        program = ours(plane, queues(parents))
        played = _kwok(plane)
        try:
            began = time.monotonic()
            late_s = _made(plane, parents)
            eventually(lambda: _over(plane), "all have run", program, played, patience_s=900)
            span_s = time.monotonic() - began
            cpu_s, memory_mib = used(program)
        finally:
            played.kill()
            program.kill()
    met = "yes" if span_s <= GOAL_S and cpu_s < GOAL_CPU_S else "no"
    print(
        f"cohorts, {pods:,} pods in {parents * QUEUES} queues, {os.cpu_count()} cores: all through in {span_s:.0f} s with {cpu_s:.0f} s of own CPU, "
        f"{memory_mib:.0f} MiB (goal: <= {GOAL_S:g} s, < {GOAL_CPU_S:g} s: {met}); pods came {late_s:.1f} s late at most"
    )


def _over(plane: ControlPlane) -> bool:
    """Whether all have run. To look at all of them costs the API server something: not more than once a second."""
    time.sleep(1)
    return not waiting(plane, "status.phase!=Succeeded")


def _class(size: Size) -> Document:
    meta = {"name": size.name}
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": meta,
        "value": size.priority,
    }


def _made(plane: ControlPlane, parents: int) -> float:
    """Have all pods made by a process of its own; how late it was."""
    certificate, key = plane.authority.client("load", "system:masters")
    files = (str(plane.authority.certificate), str(certificate), str(key))
    context = multiprocessing.get_context("spawn")
    done = context.Queue()
    maker = context.Process(target=arrive, args=(plane.url, files, parents, done))
    maker.start()
    late_s: float = done.get(timeout=900)
    maker.join()
    return late_s
