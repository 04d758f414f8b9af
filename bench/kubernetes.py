"""Scheduling on a real control plane, gpumax beside kube-scheduler of the same build, in turn on clusters of their own.

    python bench/kubernetes.py burst [--nodes 100] [--pods 800]      pods that wait when the scheduler comes: first bind to last
    python bench/kubernetes.py stream [--nodes 150] [--pods 1000] [--rate 50]   pods as they come: creation to bound

Moments are those of the API server's audit log. Nodes have eight GPUs, pods ask for one each. No kubelet runs: only binds are measured. Needs Go,
with which `make controlplane` builds Kubernetes' own programs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from controlplane.plane import ControlPlane
from controlplane.processes import Program, eventually

GPU: Final = "nvidia.com/gpu"
PODS: Final = "/api/v1/namespaces/default/pods"
QUEUES: Final = "/apis/gpumax.dev/v1alpha1/queues"
ROOM: Final = {"cpu": "64", "memory": "512Gi", "pods": "110", GPU: "8"}
SCHEDULERS: Final = {"gpumax": "gpumax", "kube-scheduler": "default-scheduler"}
OLD: Final = "2026-01-01T00:00:00Z"


class Run(NamedTuple):
    """What one run came to: seconds from the first bind to the last, from each creation to its bind, of CPU; and MiB at the end."""

    span_s: float
    waits_s: list[float]
    cpu_s: float
    memory_mib: float


def node(number: int) -> dict[str, Any]:
    """A node that says that it is ready, though nothing is there."""
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": OLD, "lastTransitionTime": OLD}
    return {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": f"n{number}"},
        "status": {"allocatable": ROOM, "capacity": ROOM, "conditions": [ready]},
    }  # fmt: skip


def pod(number: int, scheduler: str) -> dict[str, Any]:
    """A pod of one GPU."""
    limits = {GPU: "1", "cpu": "1", "memory": "1Gi"}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"p{number}", "labels": {"gpumax.dev/queue": "all"}},
        "spec": {
            "schedulerName": scheduler, "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "main", "image": "none", "resources": {"limits": limits}}],
        },
    }  # fmt: skip


@contextmanager
def cluster(nodes: int) -> Iterator[ControlPlane]:
    """A control plane with nodes and a queue. Its controllers are ended, so that nothing but schedulers writes."""
    with tempfile.TemporaryDirectory() as directory:
        plane = ControlPlane("newest", Path(directory))
        try:
            plane.start()
            plane.controllers.kill()
            for number in range(nodes):
                plane.api.post("/api/v1/nodes", json=node(number)).raise_for_status()
            yield plane
        finally:
            plane.stop()


def ours(plane: ControlPlane) -> Program:
    """gpumax in a process of its own, with the queue that the pods name."""
    program = Program(
        [
            sys.executable,
            "-m",
            "gpumax.apps.cli.main",
            "up",
            "--kubernetes",
            "--install",
            "--data",
            str(plane.directory / "data"),
        ],
        plane.directory / "gpumax.log",
        env={"KUBECONFIG": str(plane.kubeconfig())},
    )
    program.start()
    quota = dict.fromkeys(("gpu", "cpu", "memory"), "unlimited")
    queue = {
        "apiVersion": "gpumax.dev/v1alpha1",
        "kind": "Queue",
        "metadata": {"name": "all"},
        "spec": {"quota": quota},
    }
    eventually(
        lambda: plane.api.post(QUEUES, json=queue).status_code in (201, 409), "the queue is there", program
    )
    return program


def burst(plane: ControlPlane, scheduler: str, pods: int, _rate: float) -> Program:
    """Everything waits before anybody schedules."""
    for number in range(pods):
        plane.api.post(PODS, json=pod(number, SCHEDULERS[scheduler])).raise_for_status()
    return ours(plane) if scheduler == "gpumax" else plane.start_scheduler()


def stream(plane: ControlPlane, scheduler: str, pods: int, rate: float) -> Program:
    """Pods come one after the other, when the scheduler is at work: it has bound one."""
    program = ours(plane) if scheduler == "gpumax" else plane.start_scheduler()
    plane.api.post(PODS, json=pod(pods, SCHEDULERS[scheduler])).raise_for_status()
    eventually(lambda: not waiting(plane), "the first pod is bound", program)
    began = time.monotonic()
    for number in range(pods):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        plane.api.post(PODS, json=pod(number, SCHEDULERS[scheduler])).raise_for_status()
    return program


def waiting(plane: ControlPlane) -> bool:
    """Whether a pod has no node."""
    query = {"fieldSelector": "spec.nodeName=", "limit": "1"}
    return bool(plane.api.get(PODS, params=query).json()["items"])


def run(
    case: Callable[[ControlPlane, str, int, float], Program], scheduler: str, flags: argparse.Namespace
) -> Run:
    """One run on a cluster of its own."""
    with cluster(flags.nodes) as plane:
        program = case(plane, scheduler, flags.pods, flags.rate)
        eventually(lambda: not waiting(plane), "all are bound", program)
        process = psutil.Process(program.pid)
        times = process.cpu_times()
        memory_mib = process.memory_info().rss / (1 << 20)
        made, bound = {}, {}
        for entry in plane.audited():
            about = entry.get("objectRef", {})
            if (
                about.get("resource") != "pods"
                or entry["verb"] != "create"
                or entry["responseStatus"]["code"] != 201
            ):
                continue
            if about.get("subresource") == "binding":
                bound[about["name"]] = entry
            elif "subresource" not in about:
                made[entry["responseObject"]["metadata"]["name"]] = entry
        begins = [_moment(entry["requestReceivedTimestamp"]) for entry in bound.values()]
        ends = {name: _moment(entry["stageTimestamp"]) for name, entry in bound.items()}
        waits = [ends[name] - _moment(entry["stageTimestamp"]) for name, entry in made.items()]
        return Run(max(ends.values()) - min(begins), waits, times.user + times.system, memory_mib)


def _moment(written: str) -> float:
    return datetime.fromisoformat(written).timestamp()


def main() -> None:
    """Read the flags, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", choices=("burst", "stream"))
    parser.add_argument("--nodes", type=int, help="unset: 100 for burst, 150 for stream")
    parser.add_argument("--pods", type=int, help="unset: 800 for burst, 1000 for stream")
    parser.add_argument("--rate", type=float, default=50.0, help="pods a second, for stream")
    parser.add_argument("--repeat", type=int, default=3)
    flags = parser.parse_args()
    flags.nodes = flags.nodes or (100 if flags.case == "burst" else 150)
    flags.pods = flags.pods or (800 if flags.case == "burst" else 1000)
    case = burst if flags.case == "burst" else stream
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
    if flags.case == "burst":
        print(f"  gpumax takes {ratio:.2f} of the time")


def _median(runs: list[Run]) -> Run:
    return Run(
        statistics.median(run.span_s for run in runs),
        [wait for run in runs for wait in run.waits_s],
        statistics.median(run.cpu_s for run in runs),
        statistics.median(run.memory_mib for run in runs),
    )


def _told(case: str, found: Run) -> str:
    rest = f"{found.cpu_s:.1f} s of CPU, {found.memory_mib:.0f} MiB"
    if case == "burst":
        return f"{found.span_s:.2f} s from the first bind to the last, {rest}"
    waits = sorted(found.waits_s)
    p50, p99 = waits[len(waits) // 2], waits[min(len(waits) * 99 // 100, len(waits) - 1)]
    return f"creation to bound p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, {rest}"


if __name__ == "__main__":
    main()
