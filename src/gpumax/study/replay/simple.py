"""Policies that others have: each workload starts whole, first come first served, on whole devices."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from gpumax.engines.simulated.course import Course
from gpumax.engines.simulated.world import Attempt
from gpumax.model.node import Node
from gpumax.study.replay.pieces import Piece, place_all
from gpumax.study.replay.players import Stage
from gpumax.study.replay.waiting import Line
from gpumax.study.replay.wanted import Wanted
from gpumax.units import MILLI


class Running:
    """A workload that runs: what its attempts hold. broken: one of its tasks was lost, so all of it begins anew."""

    __slots__ = ("broken", "queue", "rank", "spots", "work")

    def __init__(self, work: Wanted, queue: str, rank: int) -> None:
        self.work = work
        self.queue = queue
        self.rank = rank
        self.spots: dict[str, tuple[Piece, int]] = {}  # by attempt: where, and which of the tasks
        self.broken = False


class FirstCome:
    """A line of its own for every queue. strict: nobody passes one who has to wait.

    pieces: by queue, the room that its work may use, which queues may share.
    """

    strict = False

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.pieces = self.divide(stage)
        self._every = list({id(piece): piece for row in self.pieces.values() for piece in row}.values())
        self._lines: dict[str, Line[Running]] = {queue.name: Line() for queue in stage.leaves}
        self._running: dict[str, Running] = {}  # by attempt
        self._broken: list[Running] = []
        self._serial = 0
        stage.world.witnesses.append(self)

    def divide(self, stage: Stage) -> Mapping[str, Sequence[Piece]]:
        """The room of each queue; unless a policy says otherwise everything is everybody's."""
        pool = [Piece(node) for node in stage.world.nodes.values()]
        return {queue.name: pool for queue in stage.leaves}

    def allows(self, work: Wanted, queue: str) -> bool:
        """Whether it may start as far as its queue goes."""
        return True

    def could_ever(self, work: Wanted, queue: str) -> bool:
        """See Player."""
        spots = place_all(self.pieces[queue], work.requests)
        for (piece, shares), request in zip(spots or (), work.requests, strict=False):
            piece.take(request, shares, -1)
        return spots is not None and self.allows(work, queue)

    def submit(self, works: Sequence[tuple[Wanted, str]]) -> None:
        """See Player."""
        for work, queue in works:
            self._serial += 1
            self.stage.expect(work.name, work)
            self._lines[queue].join((self._serial,), work.wish, Running(work, queue, self._serial))

    def settle(self) -> int:
        """See Player."""
        for run in self._broken:
            for attempt in tuple(run.spots):
                self.stage.world.stop(attempt, self.stage.scenario.grace_ms)
        self._broken.clear()
        for line in self._lines.values():
            line.serve(self._start, strict=self.strict)
        return 1

    def next_ms(self) -> int | None:
        """See Player."""
        return None

    def _start(self, run: Running) -> bool:
        if not self.allows(run.work, run.queue):
            return False
        requests = run.work.requests
        spots = place_all(self.pieces[run.queue], requests)
        if spots is None:
            return False
        self.count(run, 1)
        self._serial += 1
        for index, (piece, shares) in enumerate(spots):
            task = f"{run.work.name}-{index}"
            attempt = f"{task}/{self._serial}"
            run.spots[attempt] = (piece, index)
            self._running[attempt] = run
            self.stage.world.begin(attempt, task, run.work.name, piece.node, shares)
        return True

    def count(self, run: Running, sign: int) -> None:
        """A workload starts, or, with sign -1, has gone."""

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
        run = self._running.pop(attempt.id)
        piece, index = run.spots.pop(attempt.id)
        piece.take(run.work.requests[index], attempt.devices, -1)
        self.stage.world.forget(attempt.id)
        if attempt.state == "lost" and not run.broken:
            run.broken = True
            self._broken.append(run)
        if not run.spots:
            self.count(run, -1)
            if run.broken:
                run.broken = False
                self._lines[run.queue].join((run.rank,), run.work.wish, run)
        self.room_came(run.queue)

    def node(self, node: Node) -> None:
        """See Witness."""
        for piece in self._every:
            if piece.node == node.name:
                piece.ready = node.ready
        for queue in self._lines:
            self.room_came(queue)

    def room_came(self, queue: str) -> None:
        """Work of this queue has left."""
        self._lines[queue].room_came()


def devices_of(work: Wanted) -> int:
    """How many whole devices it takes, in milli."""
    return work.arrival.devices * MILLI
