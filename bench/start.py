"""How long a scheduler of a large cluster takes to start: from the first list to its first decision, and what memory that takes.

    python bench/start.py [--pods 50000] [--repeat 3]

The API server is a stand-in in a process of its own, which says the same bytes each time: nodes of eight GPUs, Jobs of eight pods of which most run
and a few wait, and pods of another scheduler. Seconds are of the scheduler's own CPU, so that the stand-in's work doesn't count, and of the clock. Memory
is the most that it ever took, what Python itself takes included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from typing import Any, Final

from aiohttp import web

from gpumax.engines.kubernetes.client.access import Access
from gpumax.engines.kubernetes.client.credentials import Anonymous
from gpumax.engines.kubernetes.cluster import KubernetesCluster
from gpumax.engines.kubernetes.lease import Fence
from gpumax.model.snapshot import Policy
from gpumax.policy.decide import decide
from measure import Figure, Row, show

OLD: Final = "2026-01-01T00:00:00Z"
SIZE: Final = 8  # pods of a Job, GPUs of a node
WAITING: Final = 50  # one Job of so many waits
VERSION: Final = "100000"
KINDS: Final = {
    "/api/v1": ("pods", "nodes", "namespaces"),
    "/apis/batch/v1": ("jobs",),
    "/apis/scheduling.k8s.io/v1": ("priorityclasses",),
    "/apis/gpumax.dev/v1alpha1": ("queues",),
}
NAMES: Final = {
    "pods": "Pod", "nodes": "Node", "namespaces": "Namespace", "jobs": "Job", "priorityclasses": "PriorityClass", "queues": "Queue",
}  # fmt: skip


def objects(pods: int) -> dict[str, list[dict[str, Any]]]:
    """All there is, by the name of the kind. Three of five pods are ours."""
    ours = pods * 3 // 5 // SIZE
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in NAMES}
    found["namespaces"] = [{"metadata": {"name": "default"}}]
    for queue in range(10):
        quota = {"gpu": ours * SIZE // 10, "cpu": "unlimited", "memory": "unlimited"}
        found["queues"].append({"metadata": {"name": f"q{queue}"}, "spec": {"quota": quota}})
    for number in range(ours):
        name = f"j{number:06}"
        found["nodes"].append(_node(f"n{number:06}"))
        found["jobs"].append(_job(name))
        where = "" if number % WAITING == 0 else f"n{number:06}"
        found["pods"] += [
            _pod(f"{name}-{index}", "gpumax", name, where, number % 10) for index in range(SIZE)
        ]
    for number in range(pods - ours * SIZE):
        found["pods"].append(_pod(f"web-{number:06}", "default-scheduler", "", f"n{number % ours:06}", 0))
    for kind, rows in found.items():
        for row in rows:
            row["metadata"] |= {"uid": f"{kind}/{row['metadata']['name']}", "resourceVersion": "7", "creationTimestamp": OLD}  # fmt: skip
    return found


def _node(name: str) -> dict[str, Any]:
    room = {"cpu": "96", "memory": "1024Gi", "pods": "110", "nvidia.com/gpu": str(SIZE)}
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": "a"}},
        "spec": {},
        "status": {"allocatable": room, "capacity": room, "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": OLD}]},
    }  # fmt: skip


def _job(name: str) -> dict[str, Any]:
    spec = {"completionMode": "Indexed", "completions": SIZE, "parallelism": SIZE, "template": {"spec": _pod_spec("", "gpumax")}}  # fmt: skip
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


def _pod(name: str, scheduler: str, job: str, node: str, queue: int) -> dict[str, Any]:
    owners = [{"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": f"jobs/{job}", "controller": True}] if job else []  # fmt: skip
    placed = {"type": "PodScheduled", "status": "True", "lastTransitionTime": OLD}
    return {
        "metadata": {
            "name": name, "namespace": "default", "labels": {"gpumax.dev/queue": f"q{queue}"} if job else {"app": "web"},
            "ownerReferences": owners, "managedFields": [_managed(manager) for manager in ("kube-controller-manager", "kubelet")],
        },
        "spec": {**_pod_spec(node, scheduler)},
        "status": {"phase": "Running", "startTime": OLD, "podIP": "10.0.0.1", "conditions": [placed]} if node else {"phase": "Pending"},
    }  # fmt: skip


def _pod_spec(node: str, scheduler: str) -> dict[str, Any]:
    limits = {"cpu": "4", "memory": "16Gi"} | ({"nvidia.com/gpu": "1"} if scheduler == "gpumax" else {})
    container = {
        "name": "main", "image": "registry.example/team/train:1.2.3", "resources": {"limits": limits, "requests": limits},
        "command": ["python", "-m", "train"], "env": [{"name": f"VARIABLE_{number}", "value": "some value or other"} for number in range(12)],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
    }  # fmt: skip
    tolerations = [
        {"key": f"node.kubernetes.io/{why}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
        for why in ("not-ready", "unreachable")
    ]  # fmt: skip
    return {
        "schedulerName": scheduler, "containers": [container], "tolerations": tolerations, "restartPolicy": "Never",
        "volumes": [{"name": "data", "emptyDir": {}}, {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
    } | ({"nodeName": node} if node else {})  # fmt: skip


def _managed(manager: str) -> dict[str, Any]:
    fields: dict[str, Any] = {f"f:{name}": {".": {}, "f:value": {}} for name in ("metadata", "labels", "spec", "containers", "env", "status", "conditions")}  # fmt: skip
    return {"manager": manager, "operation": "Update", "apiVersion": "v1", "time": OLD, "fieldsType": "FieldsV1", "fieldsV1": fields}  # fmt: skip


def serve(pods: int, told: Connection) -> None:
    """The stand-in, until it is killed; its port is told when it answers."""
    found = objects(pods)
    streams = {kind: list(_stream(kind, rows)) for kind, rows in found.items()}
    single = {kind: {row["metadata"]["name"]: json.dumps(row).encode() for row in rows} for kind, rows in found.items() if kind != "pods"}  # fmt: skip
    nothing = list(_stream("", ()))
    del found

    async def answer(request: web.Request) -> web.StreamResponse:
        group, _, kind = request.path.rpartition("/")
        if request.path in KINDS:
            rows = [{"name": name, "kind": NAMES[name], "namespaced": True, "verbs": ["watch"]} for name in KINDS[request.path]]  # fmt: skip
            return web.json_response({"resources": rows})
        if request.query.get("watch"):
            response = web.StreamResponse()
            await response.prepare(request)
            for piece in streams.get(kind, nothing) if "sendInitialEvents" in request.query else ():
                await response.write(piece)
            await asyncio.Event().wait()
        parent = group.rpartition("/")[2]
        body = single.get(parent, {}).get(kind)
        return web.Response(status=200 if body else 404, body=body or b"{}", content_type="application/json")

    async def run() -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        told.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(run())


def _stream(kind: str, rows: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """A streamed list in pieces of a MiB or so."""
    lines: list[bytes] = []
    for row in rows:
        lines.append(json.dumps({"type": "ADDED", "object": row}, separators=(",", ":")).encode() + b"\n")
        if len(lines) == 256:
            yield b"".join(lines)
            lines = []
    end = {"resourceVersion": VERSION, "annotations": {"k8s.io/initial-events-end": "true"}}
    bookmark = {"type": "BOOKMARK", "object": {"kind": NAMES.get(kind, ""), "metadata": end}}
    yield b"".join(lines) + json.dumps(bookmark).encode() + b"\n"


def measured(url: str) -> dict[str, float]:
    """In a process of its own: one start, up to the first decision that knows all owners."""
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    cluster = KubernetesCluster(Access(name="bench", server=url, credential=Anonymous()), int, fence=Fence())
    cluster.start(30)
    listed_s = time.process_time() - cpu_s
    while cluster._feed.missing():
        time.sleep(0.01)
    owned_s = time.process_time() - cpu_s
    snapshot = cluster.snapshot(int(time.time() * 1000), Policy())
    seen_s = time.process_time() - cpu_s
    decision = decide(snapshot)
    found = {"cpu": time.process_time() - cpu_s, "wall": time.perf_counter() - wall_s, "listed": listed_s, "owned": owned_s, "seen": seen_s}  # fmt: skip
    tasks = sum(len(row.tasks) for row in snapshot.workloads)
    memory_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cluster.close()
    return {**found, "memory": memory_mib, "tasks": tasks, "held": len(decision.holds), "placed": len(decision.places)}  # fmt: skip


def figures(pods: int, repeat: int) -> list[Row]:
    """Starts one after the other, each in a fresh process."""
    here, there = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(pods, there), daemon=True)
    server.start()
    try:
        url = f"http://127.0.0.1:{here.recv()}"
        argv = [sys.executable, __file__, "--of", url]
        runs = [
            json.loads(subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout) for _ in range(repeat)
        ]
    finally:
        server.kill()
        server.join()
    what = f"start with {pods:,} pods, list to first decision"

    def row(name: str, unit: str, key: str, goal: float | None = None) -> Figure:
        return Figure(name, unit, tuple(run[key] for run in runs), goal=goal)

    return [
        row(f"{what}: CPU", "s", "cpu", 5),
        row("of it until all is listed", "s", "listed"),
        row("until all owners are known", "s", "owned"),
        row("until there is a snapshot", "s", "seen"),
        row("the clock's time", "s", "wall"),
        row("memory", "MiB", "memory", 500),
        row("tasks in the snapshot", "", "tasks"),
    ]


def main() -> None:
    """Read the flags, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pods", type=int, default=50_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--of", metavar="URL", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.of:
        print(json.dumps(measured(flags.of)))
    else:
        show(figures(flags.pods, flags.repeat))


if __name__ == "__main__":
    main()
