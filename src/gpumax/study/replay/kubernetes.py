"""The scheduler that Kubernetes comes with: pods one by one, by priority and age, spread over the nodes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from gpumax.engines.simulated.course import Course
from gpumax.engines.simulated.world import Attempt
from gpumax.model.node import Node
from gpumax.model.workload import Request
from gpumax.study.replay.pieces import Piece, place, place_all
from gpumax.study.replay.players import Stage
from gpumax.study.replay.waiting import Line
from gpumax.study.replay.wanted import Wanted

USUAL_CPU: Final = 100
USUAL_MEMORY: Final = 200
"""What a pod that asks for no cores or memory counts when nodes are compared: 100 millicores and 200 MiB."""


class Pod(NamedTuple):
    """A task that waits or runs: of which workload, and which of its tasks. rank: who is earlier."""

    work: Wanted
    number: int
    request: Request
    rank: tuple[int, ...]


class KubernetesDefault:
    """No queues, no gangs: tasks of one workload start one by one, and hold their devices while they wait for the others.

    A task that finds no room waits, and others pass it. One of a higher priority makes those of lower ones go, on the node
    where the highest of them is lowest, then where they are fewest. Devices are whole.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._pieces = [Piece(node) for node in stage.world.nodes.values()]
        self._line: Line[Pod] = Line()
        self._running: dict[str, tuple[Pod, Piece]] = {}
        self._nominated: dict[tuple[int, ...], list[str]] = {}  # by who asked: attempts that go for it
        self._serial = 0
        stage.world.witnesses.append(self)

    def could_ever(self, work: Wanted, queue: str) -> bool:
        """See Player."""
        spots = place_all(self._pieces, work.requests)
        for (piece, shares), request in zip(spots or (), work.requests, strict=False):
            piece.take(request, shares, -1)
        return spots is not None

    def submit(self, works: Sequence[tuple[Wanted, str]]) -> None:
        """See Player."""
        for work, _ in works:
            self.stage.expect(work.name, work)
            for index, request in enumerate(work.requests):
                self._serial += 1
                self._join(Pod(work, index, request, (-work.arrival.priority, self._serial)))

    def settle(self) -> int:
        """See Player."""
        self._line.serve(self._start, strict=False)
        return 1

    def next_ms(self) -> int | None:
        """See Player."""
        return None

    def _join(self, pod: Pod) -> None:
        asked = pod.request
        wish = (asked.gpu, asked.cpu_milli, asked.memory_mib, pod.work.arrival.priority)
        self._line.join(pod.rank, wish, pod)

    def _start(self, pod: Pod) -> bool:
        spot = place(self._pieces, pod.request, spread)
        if spot is None and self._make_room(pod):
            spot = place(self._pieces, pod.request, spread)
        if spot is None:
            return False
        piece, shares = spot
        piece.take(pod.request, shares)
        self._serial += 1
        task = f"{pod.work.name}-{pod.number}"
        attempt = f"{task}/{self._serial}"
        self._running[attempt] = (pod, piece)
        self.stage.world.begin(attempt, task, pod.work.name, piece.node, shares)
        return True

    def _make_room(self, pod: Pod) -> bool:
        """Have those of lower priority go from the node where that is best; False where there is none."""
        priority, attempts = pod.work.arrival.priority, self.stage.world.attempts
        if any(attempt in attempts for attempt in self._nominated.get(pod.rank, ())):
            return False
        lower: dict[str, list[str]] = {}
        for attempt, (other, piece) in self._running.items():
            if other.work.arrival.priority < priority and attempts[attempt].state != "stopping":
                lower.setdefault(piece.node, []).append(attempt)
        plans = [
            plan for piece in self._pieces if (plan := self._plan(pod, piece, lower.get(piece.node, [])))
        ]
        if not plans:
            return False
        self._nominated[pod.rank] = min(plans)[2]
        for attempt in self._nominated[pod.rank]:
            self.stage.books.evicted(attempts[attempt].task, "preempt")
            self.stage.world.stop(attempt, self.stage.scenario.grace_ms)
        return True

    def _plan(self, pod: Pod, piece: Piece, lower: list[str]) -> tuple[int, int, list[str]] | None:
        """Who would go from a node: first all of lower priority, then as many as can are spared, the most important first."""
        if not lower:
            return None
        attempts = self.stage.world.attempts
        rows = [(attempt, self._running[attempt][0]) for attempt in lower]
        rows.sort(key=lambda row: row[1].rank)
        for attempt, other in rows:
            piece.take(other.request, attempts[attempt].devices, -1)
        victims = [] if piece.find(pod.request) is None else rows
        fits = bool(victims)
        for attempt, other in rows:
            piece.take(other.request, attempts[attempt].devices)
            if fits and piece.find(pod.request) is not None:
                victims = [row for row in victims if row[0] != attempt]
            elif fits:
                piece.take(other.request, attempts[attempt].devices, -1)
        for attempt, other in victims:
            piece.take(other.request, attempts[attempt].devices)
        if not victims:
            return None
        highest = max(other.work.arrival.priority for _, other in victims)
        return highest, len(victims), [attempt for attempt, _ in victims]

    # What the world tells

    def held(self, attempt: Attempt) -> None:
        """See Witness."""

    def goes(self, workload: str, attempts: Collection[Attempt]) -> None:
        """See Witness."""

    def leaves(self, attempt: Attempt, course: Course) -> None:
        """See Witness."""

    def done(self, workload: str, course: Course) -> None:
        """See Witness."""

    def left(self, attempt: Attempt) -> None:
        """See Witness."""
        pod, piece = self._running.pop(attempt.id)
        piece.take(pod.request, attempt.devices, -1)
        self.stage.world.forget(attempt.id)
        if attempt.state == "lost" or attempt.told:
            self._join(pod)
        self._line.room_came()

    def node(self, node: Node) -> None:
        """See Witness."""
        for piece in self._pieces:
            if piece.node == node.name:
                piece.ready = node.ready
        self._line.room_came()


def spread(piece: Piece) -> tuple[float, ...]:
    """Kubernetes' LeastAllocated: the mean part of cores and memory in use, with the usual amounts for pods that ask for none."""
    if not all(piece.whole):
        return (float(piece.tasks),)
    cpu = 1 - piece.cpu / piece.whole[0] + piece.plain_cpu * USUAL_CPU / piece.whole[0]
    memory = 1 - piece.memory / piece.whole[1] + piece.plain_memory * USUAL_MEMORY / piece.whole[1]
    return ((cpu + memory) / 2,)
