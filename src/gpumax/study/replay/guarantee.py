"""The guarantee, looked at from outside: nobody within its quota waits while work runs that is over somebody's quota."""

from __future__ import annotations

from gpumax.model.node import Node
from gpumax.model.workload import NON_PREEMPTIBLE_FROM, Request
from gpumax.study.replay.books import Books, Tale
from gpumax.study.replay.players import Stage, paths_of
from gpumax.study.replay.rooms import Room, rooms_of


class Guarantee:
    """Counts the moments at which the guarantee had not held for longer than an eviction takes.

    A workload is owed its start where its queue, and each above, holds no more than its quota with it, and where it would
    have room if work went of queues above their quotas: whole workloads that may be evicted, each while its queue, and each
    above up to the common one, is above its quota. On one node the smallest go first, so that most of them can; for a gang,
    node after node. So what is counted is broken for certain. Where only an involved choice of victims would help, it isn't
    counted; and of several who are owed at once, one is watched.
    """

    def __init__(self, stage: Stage) -> None:
        self.moments = 0
        self._stage = stage
        self._books: Books = stage.books
        self._queues = {queue.name: queue for queue in stage.queues}
        self.paths = paths_of(stage.queues)
        self._owed: str | None = None  # who is
        self._nodes: tuple[str, ...] = ()  # where it would run: looked at first the next time
        self._since_ms = 0

    def look(self) -> None:
        """All that follows from a moment has been done; nothing has happened between the last one and this."""
        now_ms = self._stage.clock.now_ms()
        if self._owed is not None and now_ms - self._since_ms > self._stage.scenario.grace_ms:
            self.moments += 1
        owed = self._find()
        if owed != self._owed:
            self._owed, self._since_ms = owed, now_ms

    def held(self, name: str) -> int:
        """The milli that a queue holds."""
        return self._books.holds[name][0]

    def quota(self, name: str) -> int:
        """The milli of its quota."""
        return self._queues[name].quota.gpu

    def _find(self) -> str | None:
        """Somebody who is owed a start, the one that was before if it still is; None where nobody is."""
        books = self._books
        if not books.waiting or not any(map(self._above, books.holds)):
            return None
        before = books.waiting.get(self._owed or "")
        if before is not None and self._within(before) and self._could(before, self._nodes):
            return self._owed
        heads: dict[object, Tale] = {}
        for tale in books.waiting.values():
            key = (tale.queue, tale.work.wish)
            if key not in heads and self._within(tale):
                heads[key] = tale
        everywhere = tuple(self._stage.world.nodes)
        return next((tale.work.name for tale in heads.values() if self._could(tale, everywhere)), None)

    def _could(self, tale: Tale, names: tuple[str, ...]) -> bool:
        """Whether it would have room on these nodes if those went who are above their quotas, and not without."""
        nodes = self._stage.world.nodes
        # Whoever leaves will have left in time.
        held = (part for part in self._books.staying() if part[0].node in names)
        plan = _Plan(self, tale.queue, rooms_of([nodes[name] for name in names], held), self._victims())
        if not (all(map(plan.place, tale.work.requests)) and plan.gone):
            return False
        self._nodes = tuple(plan.chosen)
        return True

    def _victims(self) -> dict[str, list[Tale]]:
        """By node: work that may be evicted, the smallest first."""
        found: dict[str, dict[str, Tale]] = {}
        for tale in self._books.running():
            if (
                tale.work.arrival.priority < NON_PREEMPTIBLE_FROM
                and self._above(tale.queue)
                and not self._protected(tale)
            ):
                for attempt in tale.attempts.values():
                    found.setdefault(attempt.node, {})[tale.work.name] = tale
        return {node: sorted(rows.values(), key=lambda tale: tale.holds[0]) for node, rows in found.items()}

    def _protected(self, tale: Tale) -> bool:
        runtimes = [self._queues[name].reclaim_min_runtime_ms or 0 for name in self.paths[tale.queue]]
        return self._stage.clock.now_ms() - tale.started_ms < max(runtimes)

    def _above(self, name: str) -> bool:
        return self.held(name) > self.quota(name)

    def _within(self, tale: Tale) -> bool:
        """Whether its queue and each above would be within quota and limit with it."""
        more = tale.work.amounts
        for name in self.paths[tale.queue]:
            queue = self._queues[name]
            bounds = zip(
                queue.quota.vector(), queue.limit.vector(), self._books.holds[name], more, strict=True
            )
            if any(add and held + add > min(quota, limit) for quota, limit, held, add in bounds):
                return False
        return True


class _Plan:
    """Who would go for one workload, tried on copies."""

    def __init__(
        self, guarantee: Guarantee, queue: str, rooms: dict[str, Room], victims: dict[str, list[Tale]]
    ) -> None:
        self.gone: dict[str, Tale] = {}
        self.chosen: dict[str, None] = {}
        self._guarantee = guarantee
        self._ours = frozenset(guarantee.paths[queue])
        self._rooms = rooms
        self._own: dict[str, Room] = {}  # rooms that this plan has changed
        self._victims = victims

    def place(self, request: Request) -> bool:
        """Room for one more task, where fewest milli go for it."""
        best: tuple[int, str, list[Tale]] | None = None
        for node in self._rooms:
            going = self._for(node, request)
            if going is not None:
                cost = sum(tale.holds[0] for tale in going)
                if best is None or cost < best[0]:
                    best = (cost, node, going)
                if not cost:
                    break
        if best is None:
            return False
        self.chosen[best[1]] = None
        for tale in best[2]:
            self.gone[tale.work.name] = tale
            for attempt, request_ in tale.parts():
                self._at(attempt.node).take(attempt, request_, -1)
        return self._at(best[1]).fit(request)

    def _for(self, node: str, request: Request) -> list[Tale] | None:
        """Who would go from a node, none where there is room; None where that doesn't help."""
        room = self._at(node).copy()
        if room.copy().fit(request):
            return []
        going: list[Tale] = []
        for tale in self._victims.get(node, ()):
            if tale.work.name in self.gone or not self._may_go(tale, going):
                continue
            going.append(tale)
            for attempt, request_ in tale.parts():
                if attempt.node == node:
                    room.take(attempt, request_, -1)
            if room.copy().fit(request):
                return going
        return None

    def _may_go(self, tale: Tale, going: list[Tale]) -> bool:
        """Whether its queue, and each above up to the common one, is above its quota when those before it have gone."""
        guarantee = self._guarantee
        for name in guarantee.paths[tale.queue]:
            if name in self._ours:
                break
            left = guarantee.held(name) - sum(
                other.holds[0]
                for other in (*self.gone.values(), *going)
                if name in guarantee.paths[other.queue]
            )
            if left <= guarantee.quota(name):
                return False
        return tale.queue not in self._ours

    def _at(self, node: str) -> Room:
        if node not in self._own:
            if node not in self._rooms:
                return Room(Node(node))
            self._own[node] = self._rooms[node].copy()
        return self._own[node]
