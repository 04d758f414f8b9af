"""One scenario under one policy, from the first arrival to the last end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from time import perf_counter

from gpumax.engines.simulated.world import World
from gpumax.model.queue import Queue
from gpumax.model.study import Effort, Run, Scenario
from gpumax.ports.clock import ManualClock
from gpumax.ports.journal import Journal
from gpumax.study.replay.books import Books
from gpumax.study.replay.guarantee import Guarantee
from gpumax.study.replay.measure import measure
from gpumax.study.replay.players import Player, Stage, paths_of
from gpumax.study.replay.product import Gpumax
from gpumax.study.replay.table import FRACTIONAL, player_of
from gpumax.study.replay.wanted import Wanted, in_fractions, wanted

Progress = Callable[[float], None]
"""Told of the part that is done, from 0 to 1; it may raise KeyboardInterrupt."""

Enough = Callable[[Books, int], bool]
"""Asked now and then whether the rest need not be played: what is written down so far, and how many workloads come in all."""

PATIENCE = 20
"""Work that has not ended after so many times what all of it takes one after the other is stuck: failing nodes throw it back for ever."""

NO_TENANT = "default"
"""The queue of work whose trace knows no tenants, where a scenario has no queues."""


def replay(
    scenario: Scenario,
    policy: str,
    seed: int,
    progress: Progress = lambda part: None,
    *,
    journal: Journal | None = None,
    enough: Enough | None = None,
) -> Run:
    """Play a scenario under a policy. BadFile for a policy that there isn't.

    Equal scenarios, policies and seeds give equal runs, but for the seconds that deciding took. journal: decisions of gpumax are
    written down there, so that they can be made again. enough: ends a run that is then not finished.
    """
    make = player_of(policy)
    came = scenario.arrivals
    if policy in FRACTIONAL:
        came = tuple(in_fractions(came, scenario, seed))
    works = [wanted(row, row.devices_per_task or scenario.devices_per_task) for row in came]
    stage = _stage(scenario, seed, works, journal)
    player, guarantee = make(stage), Guarantee(stage)
    owners = {queue.name for queue in stage.leaves}
    queued = [(work, work.arrival.queue or NO_TENANT) for work in works]
    able = [(work, queue) for work, queue in queued if queue in owners and player.could_ever(work, queue)]
    clock, finished = _Stopwatch(), True
    for arrived in _moments(stage, player, able):
        if arrived:
            for work, queue in arrived:
                stage.books.came(work, queue)
            player.submit(arrived)
        clock.time(player.settle)
        guarantee.look()
        if clock.calls % 200 == 0:
            progress(stage.books.ended / max(1, len(able)))
            if enough is not None and enough(stage.books, len(able)):
                finished = False
                break
    stage.books.close()
    progress(1.0)
    return measure(
        stage,
        policy,
        seed,
        able,
        never=len(works) - len(able),
        violations=guarantee.moments,
        rule_breaks=int(player.loop.status["rule_breaks"]) if isinstance(player, Gpumax) else 0,
        effort=clock.effort,
        finished=finished,
    )


def _moments(
    stage: Stage, player: Player, works: Sequence[tuple[Wanted, str]]
) -> Iterator[Sequence[tuple[Wanted, str]]]:
    """Pass from moment to moment until all work has ended, or never will; gives who comes at each."""
    at = 0
    arrivals = [work.arrival for work, _ in works]
    whole_ms = sum(
        row.duration_ms + stage.scenario.checkpoint.restart_ms + stage.scenario.start_ms for row in arrivals
    )
    end_ms = max((row.submitted_ms for row in arrivals), default=0) + PATIENCE * max(whole_ms, 1)
    while at < len(works) or stage.books.ended < len(stage.books.tales):
        moments = [stage.world.next_ms(), player.next_ms()]
        if at < len(works):
            moments.append(works[at][0].arrival.submitted_ms)
        known = [moment for moment in moments if moment is not None]
        if not known or min(known) > end_ms:
            return
        stage.world.pass_to(min(known))
        until = at
        while until < len(works) and works[until][0].arrival.submitted_ms <= stage.clock.now_ms():
            until += 1
        yield works[at:until]
        at = until


def _stage(scenario: Scenario, seed: int, works: Sequence[Wanted], journal: Journal | None) -> Stage:
    from_ms = works[0].arrival.submitted_ms if works else 0
    last_ms = works[-1].arrival.submitted_ms if works else 0
    window_ms = scenario.window_ms or max(last_ms - from_ms, 1)
    queues = scenario.queues or tuple(
        Queue(name) for name in sorted({work.arrival.queue or NO_TENANT for work in works})
    )
    parents = {queue.parent for queue in queues}
    leaves = tuple(queue for queue in queues if queue.name not in parents)
    clock = ManualClock(from_ms)
    books = Books(clock, paths_of(queues), from_ms, window_ms)
    world = World(
        scenario.nodes,
        clock,
        start_ms=scenario.start_ms,
        failures=scenario.failures,
        seed=seed,
        witnesses=[books],
    )
    return Stage(scenario, queues, leaves, world, books, clock, journal)


class _Stopwatch:
    """What deciding cost."""

    def __init__(self) -> None:
        self.calls = 0
        self._cycles = 0
        self._seconds = 0.0
        self._most = 0.0

    def time(self, work: Callable[[], int]) -> None:
        """Do it, and remember how long it took."""
        began = perf_counter()
        self._cycles += work()
        took = perf_counter() - began
        self.calls += 1
        self._seconds += took
        self._most = max(self._most, took)

    @property
    def effort(self) -> Effort:
        """In all."""
        return Effort(self._cycles, self._seconds, self._most)
