"""Kueue's load without an API server: the loop around a cluster whose API answers at once, while more waits than there is room for.

The queues and pods of load.py, and a clock that is told to move: by so many milliseconds a cycle, so that what is measured doesn't depend on how fast it is, or by what
a cycle took of a core and the rest that follows. All of a cycle but the network, in seconds of one core.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, Final

import msgspec

from gpumax.engines.kubernetes.assembly import Assembly
from gpumax.engines.kubernetes.telling import told
from gpumax.engines.kubernetes.views import NodeObject, Pod
from gpumax.loop.journal import FileJournal
from gpumax.loop.steer import Steering, rest_s
from gpumax.model.decision import Decision
from gpumax.model.snapshot import Policy, Snapshot
from gpumax.ports.clock import ManualClock
from load import CORES, QUEUES, RUNS, SIZES, arrivals, queues
from measure import Figure, Row, apart, show
from planes import node

BEGAN_MS: Final = 1_800_000_000_000
EVERY_MS: Final = 200
LEAST_MS: Final = 5
"""Where cycles come as the loop has them come: at least so much lies between them."""


class Crowded:
    """A cluster whose API answers at once; who was bound is seen so in the next cycle, and has succeeded when its time is over."""

    name = "crowded"
    ours = pressing = True
    wrongs = 0

    def __init__(self, parents: int) -> None:
        self.assembly = Assembly()
        self._read = msgspec.json.Decoder(Pod)
        self._ends: list[tuple[float, str]] = []
        self._pods: dict[str, dict[str, Any]] = {}
        self.waiting = self.ended = 0
        self.now_ms = 0.0
        for size in SIZES:
            self.assembly.see_class(size.name, size.priority)
        room = {"cpu": str(QUEUES * CORES), "memory": "512Gi", "pods": "1000"}
        for number in range(parents):
            self.assembly.see_node(f"n{number}", msgspec.convert(node(number, room), NodeObject))
        for row in queues(parents):
            self.assembly.see_queue(row["metadata"]["name"], row)

    def come(self, made: dict[str, Any]) -> None:
        """A pod is there."""
        name = made["metadata"]["name"]
        made["metadata"] |= {"namespace": "default", "uid": name, "creationTimestamp": _moment(self.now_ms)}
        made["spec"]["priority"] = next(size.priority for size in SIZES if name.startswith(size.name))
        made["status"] = {"phase": "Pending"}
        self._pods[name] = made
        self.waiting += 1
        self._see(made)

    def pass_to(self, now_ms: float) -> None:
        """What ends until then."""
        self.now_ms = now_ms
        while self._ends and self._ends[0][0] <= now_ms:
            made = self._pods.pop(heappop(self._ends)[1])
            made["status"]["phase"] = "Succeeded"
            self.ended += 1
            self._see(made)

    def _see(self, made: dict[str, Any]) -> None:
        name = f"default/{made['metadata']['name']}"
        self.assembly.see_pod(name, self._read.decode(msgspec.json.encode(made)))

    def snapshot(self, now_ms: int, policy: Policy) -> Snapshot:
        """See Cluster."""
        return self.assembly.snapshot(now_ms, policy)

    def carry_out(self, snapshot: Snapshot, decision: Decision) -> None:
        """See Cluster."""
        told(snapshot, decision, self.assembly.faults, self.assembly.workload)
        for place in decision.places:
            made = self._pods[place.task.partition("/")[2]]
            made["spec"]["nodeName"], made["status"]["startTime"] = place.node, _moment(self.now_ms)
            runs_s = float(made["metadata"]["annotations"][RUNS].removesuffix("s"))
            heappush(self._ends, (self.now_ms + 1000 * runs_s, made["metadata"]["name"]))
            self.waiting -= 1
            self._see(made)

    def notes(self) -> tuple[str, ...]:
        """See Cluster."""
        return ()

    def close(self) -> None:
        """See Cluster."""


def _moment(now_ms: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((BEGAN_MS + now_ms) / 1000))


def measured(parents: int, backlog: int, every_ms: int) -> tuple[float, ...]:
    """Seconds of CPU in cycles, how many of them, how long all took by the clock, how many waited at most."""
    cluster, clock = Crowded(parents), ManualClock(BEGAN_MS)
    rows = [(1000 * after_s, msgspec.json.decode(body)) for after_s, body in arrivals(parents)]
    rows.reverse()
    cycle_s, number, most = 0.0, 0, 0
    pods = len(rows)
    with tempfile.TemporaryDirectory() as data:
        steering = Steering(cluster, FileJournal(Path(data)), clock)
        while cluster.ended < pods:
            cluster.pass_to(clock.now_ms() - BEGAN_MS)
            while rows and rows[-1][0] <= cluster.now_ms and cluster.waiting < backlog:
                cluster.come(rows.pop()[1])
            most = max(most, cluster.waiting)
            began = time.process_time()
            steering.cycle()
            took_s = time.process_time() - began
            cycle_s, number = cycle_s + took_s, number + 1
            clock.advance(every_ms or max(LEAST_MS, round(1000 * (took_s + rest_s(took_s)))))
    return cycle_s, float(number), (clock.now_ms() - BEGAN_MS) / 1000, float(most)


def figures(parents: int, backlog: int, every_ms: int, repeat: int) -> list[Row]:
    """In processes of their own."""
    runs = [apart(measured, parents, backlog, every_ms) for _ in range(repeat)]
    cycles_s, numbers, spans_s, mosts = zip(*runs, strict=True)
    often = f"a cycle every {every_ms} ms" if every_ms else "cycles as the loop has them come"
    what = f"Kueue's load below {parents} parents, {often}"
    return [
        Figure(f"{what}: all cycles", "s", cycles_s),
        Figure(
            "  a cycle",
            "ms",
            tuple(1000 * all_ / number for all_, number in zip(cycles_s, numbers, strict=True)),
        ),
        Figure("  until all were through, by the clock that was told to move", "s", spans_s),
        Figure("  waited at most", "pods", mosts),
    ]


def main() -> None:
    """Read the flags, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parents", type=int, default=5)
    parser.add_argument(
        "--backlog", type=int, default=1_500, help="so many wait at most: the next come when there is room"
    )
    parser.add_argument(
        "--every",
        type=int,
        default=EVERY_MS,
        help="milliseconds between cycles; 0: as the loop has them come",
    )
    parser.add_argument("--repeat", type=int, default=1)
    flags = parser.parse_args()
    show(figures(flags.parents, flags.backlog, flags.every, flags.repeat))


if __name__ == "__main__":
    main()
