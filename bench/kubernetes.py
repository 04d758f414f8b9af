"""Scheduling on a real control plane, gpumax beside kube-scheduler of the same build, in turn on clusters of their own.

    python bench/kubernetes.py burst [--nodes 100] [--pods 800]      pods that wait when the scheduler comes: first bind to last
    python bench/kubernetes.py large [--nodes 1000] [--pods 10000]   the same, more of them
    python bench/kubernetes.py stream [--nodes 150] [--pods 1000] [--rate 50]   pods as they come: creation to bound
    python bench/kubernetes.py cohorts [--parents 5]                 Kueue's load: 30 queues, 15,000 pods that run for 0.2 to 1 s; see load.py
    python bench/kubernetes.py reclaim [--nodes 500] [--tasks 16]    a gang takes back nodes that another queue has filled: see giveback.py

Moments are those of the API server's audit log. Nodes have eight GPUs, or as many as there are pods for, pods ask for one each. No kubelet runs: only binds are measured. Needs Go,
with which `make controlplane` builds Kubernetes' own programs. kube-scheduler has no queues: of the last two there is gpumax alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import psutil

import giveback
import load
from planes import (
    GPU,
    PODS,
    ROOM,
    Asked,
    ControlPlane,
    Program,
    asked,
    cluster,
    eventually,
    node,
    ours,
    pod,
    post,
    queue,
    used,
    waiting,
)

SCHEDULERS: Final = {"gpumax": "gpumax", "kube-scheduler": "default-scheduler"}
SIZES: Final = {"burst": (100, 800), "large": (1000, 10_000), "stream": (150, 1000)}
"""Nodes and pods, unless something else is asked for."""
ASKS: Final = {GPU: "1", "cpu": "1", "memory": "1Gi"}
EVERYTHING: Final = queue("all", quota=dict.fromkeys(("gpu", "cpu", "memory"), "unlimited"))


class Run(NamedTuple):
    """What one run came to: seconds from the first bind to the last, from the start of the program to it, from each creation until its bind was
    asked for and until it was done, of CPU; and MiB at the end.
    """

    span_s: float
    all_s: float
    thinks_s: list[float]
    waits_s: list[float]
    cpu_s: float
    memory_mib: float


def burst(plane: ControlPlane, scheduler: str, pods: int, _rate: float) -> Program:
    """Everything waits before anybody schedules."""
    post(plane, PODS, (pod(f"p{number}", SCHEDULERS[scheduler], ASKS) for number in range(pods)))
    return _begin(plane, scheduler)


def stream(plane: ControlPlane, scheduler: str, pods: int, rate: float) -> Program:
    """Pods come one after the other, when the scheduler is at work: it has bound one."""
    program = _begin(plane, scheduler)
    post(plane, PODS, [pod(f"p{pods}", SCHEDULERS[scheduler], ASKS)])
    eventually(lambda: not waiting(plane), "the first pod is bound", program)
    began = time.monotonic()
    for number in range(pods):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        plane.api.post(PODS, json=pod(f"p{number}", SCHEDULERS[scheduler], ASKS)).raise_for_status()
    return program


def _begin(plane: ControlPlane, scheduler: str) -> Program:
    return ours(plane, [EVERYTHING]) if scheduler == "gpumax" else plane.start_scheduler()


def run(
    case: Callable[[ControlPlane, str, int, float], Program], scheduler: str, flags: argparse.Namespace
) -> Run:
    """One run on a cluster of its own."""
    room = {**ROOM, GPU: str(max(int(ROOM[GPU]), -(-flags.pods // flags.nodes)))}
    with cluster(node(number, room) for number in range(flags.nodes)) as plane:
        program = case(plane, scheduler, flags.pods, flags.rate)
        eventually(lambda: not waiting(plane), "all are bound", program, patience_s=600)
        cpu_s, memory_mib = used(program)
        made: dict[str, float] = {}
        bound: dict[str, Asked] = {}
        for entry in asked(plane):
            if entry.makes("pods", "binding"):
                bound[entry.object_ref.name] = entry
            elif entry.makes("pods"):
                made[entry.response_object.metadata.name] = entry.answered_s
        ends = {name: entry.answered_s for name, entry in bound.items()}
        last_s = max(ends.values())
        return Run(
            last_s - min(entry.came_s for entry in bound.values()),
            last_s - psutil.Process(program.pid).create_time(),
            [bound[name].came_s - made_s for name, made_s in made.items()],
            [ends[name] - made_s for name, made_s in made.items()],
            cpu_s,
            memory_mib,
        )


def main() -> None:
    """Read the flags, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", choices=(*SIZES, "cohorts", "reclaim"))
    parser.add_argument("--nodes", type=int)
    parser.add_argument("--pods", type=int)
    parser.add_argument("--rate", type=float, default=50.0, help="pods a second, for stream")
    parser.add_argument("--parents", type=int, default=5, help="of cohorts: 3,000 pods below each")
    parser.add_argument("--tasks", type=int, default=16, help="of reclaim: of eight GPUs each")
    parser.add_argument("--repeat", type=int, default=3)
    flags = parser.parse_args()
    if flags.case == "cohorts":
        load.main(flags.parents)
    elif flags.case == "reclaim":
        giveback.main(flags.nodes or 500, flags.tasks, flags.repeat)
    else:
        flags.nodes, flags.pods = flags.nodes or SIZES[flags.case][0], flags.pods or SIZES[flags.case][1]
        _beside(flags)


def _beside(flags: argparse.Namespace) -> None:
    """Both schedulers in turn."""
    case = stream if flags.case == "stream" else burst
    runs: dict[str, list[Run]] = {name: [] for name in SCHEDULERS}
    for number in range(flags.repeat):
        for name in SCHEDULERS:
            found = run(case, name, flags)
            runs[name].append(found)
            print(f"run {number + 1} {name}: {_told(flags.case, found)}", flush=True)
    print(
        f"{flags.case}, {flags.nodes} nodes, {flags.pods} pods, {os.cpu_count()} cores, medians of {flags.repeat}:"
    )
    for name, found_all in runs.items():
        print(f"  {name}: {_told(flags.case, _median(found_all))}")
    ratio = _median(runs["gpumax"]).span_s / _median(runs["kube-scheduler"]).span_s
    if flags.case != "stream":
        print(f"  gpumax takes {ratio:.2f} of the time")


def _median(runs: list[Run]) -> Run:
    return Run(
        statistics.median(run.span_s for run in runs),
        statistics.median(run.all_s for run in runs),
        [wait for run in runs for wait in run.thinks_s],
        [wait for run in runs for wait in run.waits_s],
        statistics.median(run.cpu_s for run in runs),
        statistics.median(run.memory_mib for run in runs),
    )


def _told(case: str, found: Run) -> str:
    rest = f"{found.cpu_s:.1f} s of CPU, {found.memory_mib:.0f} MiB"
    if case != "stream":
        return f"{found.span_s:.2f} s from the first bind to the last, {found.all_s:.1f} s since the program began, {rest}"
    waits, thinks = _quantiles(found.waits_s), _quantiles(found.thinks_s)
    return f"creation to bound {waits}, until its bind was asked for {thinks}, {rest}"


def _quantiles(times_s: list[float]) -> str:
    rows = sorted(times_s)
    p50, p99 = (1000 * rows[min(len(rows) * part // 100, len(rows) - 1)] for part in (50, 99))
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"


if __name__ == "__main__":
    main()
