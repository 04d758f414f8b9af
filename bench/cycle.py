"""One cycle of the loop around a large cluster: nothing has changed since the last one, or so many tasks have ended.

All of a cycle but the database: records in memory, a decision where one is due, its check. Seconds of one core.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from gpumax.loop.cycle import Loop
from gpumax.model.node import Device, Node
from gpumax.model.queue import Queue
from gpumax.model.records import Changes
from gpumax.model.spec import GroupSpec, WorkloadSpec
from gpumax.model.workload import Request
from gpumax.ports.clock import ManualClock
from gpumax.ports.engine import AttemptSeen, Forget, Launch, Observation, Order, Refusal
from gpumax.ports.journal import MemoryJournal
from gpumax.ports.store_fake import MemoryStore
from measure import Figure, Row, show


class Seen:
    """An engine whose attempts end when they are told to."""

    name = "seen"

    def __init__(self, nodes: tuple[Node, ...]) -> None:
        self.attempts: dict[str, AttemptSeen] = {}
        self._nodes = nodes
        self._told: tuple[AttemptSeen, ...] | None = None

    def end(self, attempts: Sequence[str], now_ms: int) -> None:
        """These have succeeded."""
        for name in attempts:
            self.attempts[name] = replace(self.attempts[name], state="exited", exit_code=0, ended_ms=now_ms)
        self._told = None

    def observe(self) -> Observation:
        """See Engine."""
        if self._told is None:
            self._told = tuple(self.attempts.values())
        return Observation(self._nodes, self._told)

    def apply(self, orders: Sequence[Order]) -> tuple[Refusal, ...]:
        """See Engine."""
        for order in orders:
            if isinstance(order, Forget) and self.attempts.pop(order.attempt, None) is not None:
                self._told = None
        return ()

    def objection(self, launch: Launch) -> str:
        """See Engine."""
        return ""

    def notes(self) -> tuple[str, ...]:
        """See Engine."""
        return ()

    def close(self) -> None:
        """See Engine."""


def running(nodes: int, tasks: int, clock: ManualClock) -> tuple[MemoryStore, Seen]:
    """So many tasks, each a workload of its own, on so many nodes."""
    devices = tuple(Device(index, "H100", 80 * 1024) for index in range(8))
    there = tuple(
        Node(f"n{number:05}", cpu_milli=96_000, memory_mib=1 << 20, devices=devices)
        for number in range(nodes)
    )
    store, engine, now_ms = MemoryStore(), Seen(there), clock.now_ms()
    store.set_queue(Queue("a"), now_ms=now_ms)
    groups = (GroupSpec("", 1, 1, Request(cpu_milli=500, memory_mib=512), "true"),)
    specs = [WorkloadSpec(f"w{number:06}", "a", groups) for number in range(tasks)]
    records = store.submit(specs, key="", digest="", now_ms=now_ms)
    placed = []
    for number, task in enumerate(store.tasks_of([record.id for record in records])):
        name = f"attempt-{number:06}"
        engine.attempts[name] = AttemptSeen(name, "running", started_ms=now_ms)
        placed.append(
            replace(task, state="running", attempt=name, node=there[number % nodes].name, started_ms=now_ms)
        )
    begun = tuple(replace(record, state="running", started_ms=now_ms, runs=1) for record in records)
    store.commit(Changes(begun, tuple(placed)))
    return store, engine


def figures(nodes: int, tasks: int, changed: int, repeat: int, seed: int) -> list[Row]:
    """Cycles in which nothing has changed, and those in which tasks have ended, one after the other."""
    clock, chance = ManualClock(1_000_000_000_000), random.Random(seed)
    store, engine = running(nodes, tasks, clock)
    with tempfile.TemporaryDirectory() as data:
        loop = Loop(store, engine, MemoryJournal(), clock, Path(data))

        def cycle() -> float:
            clock.advance(1_000)
            began = time.process_time()
            loop.cycle()
            return time.process_time() - began

        cycle()
        still, stirred = [], []
        for _ in range(repeat):
            engine.end(chance.sample(sorted(engine.attempts), changed), clock.now_ms())
            stirred.append(cycle())
            cycle()
            still.append(cycle())
    what = f"cycle, {nodes:,} nodes, {tasks:,} tasks"
    return [
        Figure(f"{what}: nothing changed", "s", tuple(still), 0.05),
        Figure(f"{what}: {changed} ended", "s", tuple(stirred), 1.0),
    ]


def main() -> None:
    """Read the flags, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=4_000)
    parser.add_argument("--tasks", type=int, default=140_000)
    parser.add_argument("--changed", type=int, default=500)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    flags = parser.parse_args()
    show(figures(flags.nodes, flags.tasks, flags.changed, flags.repeat, flags.seed))


if __name__ == "__main__":
    main()
