"""A dry run beside the scheduler that runs: what differs, and what only looks as if it did."""

from __future__ import annotations

from msgspec.structs import replace

from board import NOW_MS, Sketch, queue
from gpumax.loop.beside import WAIT_MS, Beside, Difference
from gpumax.loop.steer import Round, Steering
from gpumax.model.decision import Decision
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Placement, Policy, Snapshot
from gpumax.policy.decide import decide
from gpumax.ports.clock import ManualClock
from gpumax.ports.cluster_fake import FakeCluster
from gpumax.ports.journal import MemoryJournal


class Pair:
    """One cluster, who steers it, and who looks on with another policy or other queues."""

    def __init__(
        self, sketch: Sketch, policy: Policy | None = None, queues: tuple[Queue, ...] | None = None
    ) -> None:
        drawn = sketch.snapshot()
        self.cluster = FakeCluster(drawn.nodes, drawn.queues, drawn.workloads)
        self.clock = ManualClock(NOW_MS)
        self.real = Steering(self.cluster, MemoryJournal(), self.clock)
        self.gone: dict[str, str] = {}
        self.beside = Beside(self._think, lambda task: self.gone.get(task, ""))
        self.found: list[Difference] = []
        self._queues = queues
        self.dry = Steering(
            self.cluster, MemoryJournal(), self.clock, policy or Policy(),
            think=self._think, dry=True, hearers=[self._hear],
        )  # fmt: skip
        self._decision = Decision()

    def _think(self, snapshot: Snapshot) -> Decision:
        return decide(snapshot if self._queues is None else replace(snapshot, queues=self._queues))

    def _hear(self, row: Round) -> None:
        if row.answer is not None:
            self._decision = row.answer.decision
        self.found += self.beside.look(row.snapshot, self._decision)

    def act(self) -> None:
        """The real one decides, and it is done."""
        before = len(self.cluster.carried)
        self.real.cycle()
        for decision in self.cluster.carried[before:]:
            self.gone |= {row.task: row.cause for row in decision.evictions}

    def kinds(self) -> list[tuple[str, str]]:
        """What differed so far."""
        return [(row.kind, row.task) for row in self.found]


def waiting() -> Sketch:
    """Two nodes, and two gangs that come to them."""
    drawn = Sketch("n1: ........\nn2: ........")
    drawn.queues += [queue("a", 8), queue("b", 8)]
    drawn.wait("x", queue="a", tasks=4, min=4)
    return drawn.wait("y", queue="b", tasks=2, min=2)


def test_the_same_policy_differs_in_nothing() -> None:
    """Whoever looks first."""
    for first in (True, False):
        pair = Pair(waiting())
        if first:
            pair.dry.cycle()
        else:
            pair.cluster.workloads, rest = {}, pair.cluster.workloads
            pair.dry.cycle()  # saw nothing of them before they were bound
            pair.cluster.workloads = rest
        pair.act()
        pair.dry.cycle()
        assert pair.found == []
        assert pair.beside.counts["same"] == 6


def test_another_placement_is_named_task_by_task() -> None:
    """Spread, where the other packs."""
    drawn = Sketch("n1: bb......\nn2: ........").with_queues(queue("a", 8), queue("b", 8))
    drawn.run("b", queue="b")
    pair = Pair(drawn.wait("x", queue="a"), Policy(placement=Placement(gpu="spread")))
    pair.dry.cycle()
    pair.act()
    pair.dry.cycle()
    assert pair.found == [Difference(NOW_MS, "elsewhere", "x-0", "x", "a", "n2", "n1")]


def test_work_that_would_wait_is_named_with_the_reason() -> None:
    """By other queues: a may hold two."""
    pair = Pair(waiting(), queues=(queue("a", 2, limit=2), queue("b", 8)))
    pair.dry.cycle()
    pair.act()
    pair.dry.cycle()
    assert pair.kinds() == [("started", f"x-{number}") for number in range(4)]
    assert pair.found[0].ours == "OverLimit"
    assert pair.found[0].why


def test_what_nobody_does_is_a_difference_only_after_a_while() -> None:
    """And is told once."""
    pair = Pair(waiting())
    pair.dry.cycle()
    pair.clock.advance(WAIT_MS - 1)
    pair.dry.cycle()
    assert pair.found == []
    pair.clock.advance(1)
    pair.dry.cycle()
    pair.dry.cycle()
    assert sorted(pair.kinds()) == [("waits", f"x-{n}") for n in range(4)] + [
        ("waits", f"y-{n}") for n in (0, 1)
    ]


def crowded() -> Sketch:
    """b holds all of it, half of it beyond its quota, and a wants its own."""
    drawn = Sketch("n1: bbbbbbbb")
    drawn.queues += [queue("a", 4), queue("b", 4)]
    drawn.run("b", queue="b", min=1)
    return drawn.wait("x", queue="a", tasks=4, min=4)


def test_evictions_that_both_decide_are_no_difference() -> None:
    """To the end: those who went, and who came for them."""
    pair = Pair(crowded())
    pair.dry.cycle()
    pair.act()
    pair.dry.cycle()
    pair.cluster.leave(come_back=False)
    pair.dry.cycle()
    pair.act()
    pair.dry.cycle()
    assert pair.found == []
    assert pair.beside.counts["same"] == 8


def test_evictions_that_only_one_decides_are_named() -> None:
    """By other queues b is within its quota; and the other way round."""
    pair = Pair(crowded(), queues=(queue("a", 0), queue("b", 8)))
    pair.dry.cycle()
    pair.act()
    pair.dry.cycle()
    assert {kind for kind, _ in pair.kinds()} == {"evicted"}
    assert pair.found[0].theirs == "evicted (reclaim)"
    still = Pair(crowded())
    still.dry.cycle()
    still.clock.advance(WAIT_MS)
    still.dry.cycle()
    assert [row.kind for row in still.found] == ["stays"] * 4
    assert still.found[0].why == "reclaim for x"


def test_who_leaves_by_themselves_is_nobodys_difference() -> None:
    """Deleted by a user, or done."""
    pair = Pair(crowded())
    pair.dry.cycle()
    del pair.cluster.workloads["b"]
    pair.dry.cycle()
    assert pair.found == []
