"""A gang takes back nodes that another queue has filled, on a real control plane: from its last pod's creation to the last eviction that is sent."""

from __future__ import annotations

import os
import statistics
import time

from planes import (
    GPU,
    PODS,
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
)

GOAL_S = 2.0
UNLIMITED = {"cpu": "unlimited", "memory": "unlimited"}


def one(nodes: int, tasks: int) -> tuple[float, float]:
    """Seconds until the last eviction was sent, and of CPU for it. Pods of one GPU each fill all nodes; no kubelet runs."""
    with cluster(node(number) for number in range(nodes)) as plane:
        asks = {GPU: "1", "cpu": "1", "memory": "1Gi"}
        lent = (
            pod(f"b{number}", "gpumax", asks, "b", nodeName=f"n{number // 8}") for number in range(8 * nodes)
        )
        post(plane, PODS, lent)
        program = ours(
            plane,
            [queue("a", quota={"gpu": 8 * nodes, **UNLIMITED}), queue("b", quota={"gpu": 0, **UNLIMITED})],
        )
        _settled(plane, program)
        before_s, _ = used(program)
        gang = {"gpumax.dev/gang": "a"}
        wide = {GPU: "8", "cpu": "8", "memory": "8Gi"}
        post(
            plane,
            PODS,
            (
                pod(f"a{number}", "gpumax", wide, "a", gang, {"gpumax.dev/min": str(tasks)})
                for number in range(tasks)
            ),
        )
        eventually(lambda: _count(plane) >= 8 * tasks, "all evictions are sent", program)
        after_s, _ = used(program)
        return max(_sent(plane)) - max(_made(plane)), after_s - before_s


def _settled(plane: ControlPlane, program: Program) -> None:
    """It steers: a pod that needs no GPU is bound."""
    post(plane, PODS, [pod("first", "gpumax", {"cpu": "1", "memory": "1Gi"}, "a")])
    path = f"{PODS}/first"
    eventually(lambda: plane.api.get(path).json()["spec"].get("nodeName"), "a first pod is bound", program)


def _count(plane: ControlPlane) -> int:
    """How many evictions were sent; not looked up too often, since the log is long."""
    time.sleep(0.5)
    return plane.audit_log.read_bytes().count(b'"subresource":"eviction"')


def _sent(plane: ControlPlane) -> list[float]:
    return [entry.came_s for entry in asked(plane) if entry.object_ref.subresource == "eviction"]


def _made(plane: ControlPlane) -> list[float]:
    return [
        entry.answered_s
        for entry in asked(plane)
        if entry.makes("pods") and entry.response_object.metadata.name.startswith("a")
    ]


def main(nodes: int, tasks: int, repeat: int) -> None:
    """Measure and print."""
    runs = [one(nodes, tasks) for _ in range(repeat)]
    spans, cpus = zip(*runs, strict=True)
    median_s = statistics.median(spans)
    print(
        f"reclaim, {nodes} nodes, {8 * tasks} evictions, {os.cpu_count()} cores, median of {repeat}: {median_s:.2f} s from the gang's last pod "
        f"to the last eviction sent (goal: < {GOAL_S:g} s: {'yes' if median_s < GOAL_S else 'no'}), {statistics.median(cpus):.1f} s of CPU; "
        f"all: {', '.join(f'{span:.2f}' for span in spans)}"
    )
