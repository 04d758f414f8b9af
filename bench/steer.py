"""One cycle of the loop around a large cluster of Kubernetes: nothing has changed since the last one, or so many pods have ended and as many have come.

All of a cycle but the network: objects as the API shows them, the snapshot that they come to, a decision where one is due, its check, its line in the
journal, and what is to be written back. Seconds of one core, and what the process holds at its end.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from gpumax.engines.kubernetes.assembly import Assembly
from gpumax.engines.kubernetes.telling import told
from gpumax.engines.kubernetes.views import NodeObject, Pod
from gpumax.loop.journal import FileJournal
from gpumax.loop.steer import Steering
from gpumax.model.decision import Decision
from gpumax.model.snapshot import Policy, Snapshot
from gpumax.ports.clock import ManualClock
from measure import Figure, Row, apart, show
from planes import OLD, Document, node, pod, queue

ROOM: Final = {"cpu": "96", "memory": "1Ti", "pods": "250", "nvidia.com/gpu": "8"}
ASKS: Final = {"cpu": "500m", "memory": "512Mi"}


class Shown:
    """A cluster whose API answers at once: what is bound is seen so in the next cycle."""

    name = "shown"
    ours = pressing = True
    wrongs = 0

    def __init__(self, nodes: int, pods: int) -> None:
        self.assembly = Assembly()
        self._pods = msgspec.json.Decoder(Pod)
        for number in range(nodes):
            self.assembly.see_node(f"n{number}", msgspec.convert(node(number, ROOM), NodeObject))
        self.assembly.see_queue(
            "all", queue("all", quota=dict.fromkeys(("gpu", "cpu", "memory"), "unlimited"))
        )
        self.running = [f"p{number}" for number in range(pods)]
        for number, name in enumerate(self.running):
            self.see(name, f"n{number % nodes}", "Running")

    def see(self, name: str, where: str = "", phase: str = "Pending") -> None:
        """A pod as the API shows it."""
        made: Document = pod(name, "gpumax", ASKS)
        made["metadata"] |= {"namespace": "default", "uid": name, "creationTimestamp": OLD}
        made["spec"] |= {"nodeName": where}
        made["status"] = {"phase": phase, "startTime": OLD if where else None}
        self.assembly.see_pod(f"default/{name}", self._pods.decode(msgspec.json.encode(made)))

    def snapshot(self, now_ms: int, policy: Policy) -> Snapshot:
        """See Cluster."""
        return self.assembly.snapshot(now_ms, policy)

    def carry_out(self, snapshot: Snapshot, decision: Decision) -> None:
        """See Cluster."""
        told(snapshot, decision, self.assembly.faults, self.assembly.workload)
        for place in decision.places:
            self.see(place.task.partition("/")[2], place.node, "Running")

    def notes(self) -> tuple[str, ...]:
        """See Cluster."""
        return ()

    def close(self) -> None:
        """See Cluster."""


def measured(nodes: int, pods: int, changed: int, repeat: int, seed: int) -> tuple[Any, ...]:
    """The first cycle, those in which nothing has changed, those in which pods ended and came, and MiB at most."""
    chance, clock = random.Random(seed), ManualClock(1_800_000_000_000)
    cluster = Shown(nodes, pods)
    with tempfile.TemporaryDirectory() as data:
        steering = Steering(cluster, FileJournal(Path(data)), clock)

        def cycle() -> float:
            clock.advance(1_000)
            began = time.process_time()
            steering.cycle()
            return time.process_time() - began

        first, still, stirred = cycle(), [], []
        for turn in range(repeat):
            for at in chance.sample(range(len(cluster.running)), changed):
                cluster.see(cluster.running[at], "n0", "Succeeded")
                cluster.running[at] = f"{cluster.running[at]}-{turn}"
                cluster.see(cluster.running[at])
            stirred.append(cycle())
            cycle()  # sees them where they were bound
            still.append(cycle())
    return (first,), tuple(still), tuple(stirred), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def figures(nodes: int, pods: int, changed: int, repeat: int, seed: int) -> list[Row]:
    """In a process of their own."""
    first, still, stirred, peak_mib = apart(measured, nodes, pods, changed, repeat, seed)
    what = f"cycle around Kubernetes, {nodes:,} nodes, {pods:,} pods"
    return [
        Figure(f"{what}: the first", "s", first),
        Figure(f"{what}: nothing changed", "s", still, 0.05),
        Figure(f"{what}: {changed} ended and as many came", "s", stirred, 1.0),
        Figure("  peak memory of the process", "MiB", (peak_mib,)),
    ]


def main() -> None:
    """Read the flags, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=4_000)
    parser.add_argument("--pods", type=int, default=140_000)
    parser.add_argument("--changed", type=int, default=500)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    flags = parser.parse_args()
    show(figures(flags.nodes, flags.pods, flags.changed, flags.repeat, flags.seed))


if __name__ == "__main__":
    main()
