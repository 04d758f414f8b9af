"""The smallest cluster of the same make that meets a goal."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Final

from msgspec.structs import replace

from gpumax.formats.scenario_shapes import MOST_NODES
from gpumax.model.study import Scenario
from gpumax.model.whatif import Found, Try
from gpumax.study.replay import replay
from gpumax.study.replay.books import Books
from gpumax.study.scale import scaled_queue
from gpumax.study.whatif.cluster import gpus, so_many
from gpumax.study.whatif.difference import Watch
from gpumax.study.whatif.goal import Goal
from gpumax.study.whatif.question import Question
from gpumax.study.whatif.search import smallest
from gpumax.study.whatif.words import found_in_words

MOST_TIMES: Final = 16
"""So many times as large as the cluster that is there is the largest that is tried."""

FEW: Final = 2_000
"""So many times are looked at whenever a run may be ended; more of them less often."""

Tell = Callable[[Try], None]
"""Told of each cluster that was played."""


def find(
    question: Question, watch: Watch = lambda _what, _part: None, tell: Tell = lambda _made: None
) -> Found:
    """Search the number of nodes, each kind in proportion. The question has a goal.

    A cluster on which more work could never run than on the one that is there does not meet any goal.
    """
    search = _Search(question, watch, tell)
    there = len(question.after.nodes)
    nodes = smallest(search.meets, there, min(MOST_TIMES * there, MOST_NODES), search.hopeless)
    tries = tuple(search.tries[number] for number in sorted(search.tries))
    found = Found(
        question.before.name,
        question.policy,
        question.seed,
        str(question.goal),
        question.changes,
        (),
        nodes,
        None if nodes is None else search.tries[nodes].gpus,
        tries,
        question.scale_quotas,
        question.assumed,
    )
    assert question.goal is not None
    return replace(
        found, finding=tuple(found_in_words(found, question.goal.figure, hopeless=search.hopeless()))
    )


class _Search:
    """Plays clusters, each once."""

    def __init__(self, question: Question, watch: Watch, tell: Tell) -> None:
        self._question = question
        self._watch = watch
        self._tell = tell
        self.tries: dict[int, Try] = {}
        self._never: int | None = None  # of the first, which is as large as the one that is there
        self._waits_s = 0.0  # the longest of the last

    def meets(self, nodes: int) -> bool:
        """Whether so many nodes meet the goal."""
        if nodes not in self.tries:
            self.tries[nodes] = made = self._play(nodes)
            self._tell(made)
        return self.tries[nodes].met

    def hopeless(self) -> bool:
        """Whether nobody waited on the last cluster: a larger one gives nothing more."""
        return self._waits_s == 0

    def _play(self, nodes: int) -> Try:
        question, goal = self._question, self._question.goal
        assert goal is not None
        scenario = sized(question.after, nodes, scale_quotas=question.scale_quotas)
        what = f"{nodes} node{'' if nodes == 1 else 's'}"
        run = replay(
            scenario,
            question.policy,
            question.seed,
            lambda part: self._watch(what, part),
            enough=_Enough(goal),
        )
        never = run.arrived.never
        self._never = never if self._never is None else self._never
        self._waits_s = run.wait_s.max
        if not run.finished:
            return Try(nodes, run.gpus, goal.miss_ms / 1000, never, run.stuck, met=False, at_least=True)
        met = goal.met(run) and never <= self._never and not run.stuck
        return Try(nodes, run.gpus, goal.value_s(run), never, run.stuck, met)


class _Enough:
    """Ends a run that misses the goal by far: on a cluster that is much too small everything waits, and playing it takes longest."""

    def __init__(self, goal: Goal) -> None:
        self._goal = goal
        self._asked = 0

    def __call__(self, books: Books, workloads: int) -> bool:
        """Looked at less often where there are more workloads to look at."""
        self._asked += 1
        if self._asked % (1 + len(books.tales) // FEW):
            return False
        times_ms = books.waits_ms() if self._goal.measure == "wait" else books.ages_ms()
        return self._goal.far_missed(times_ms, workloads)


def sized(scenario: Scenario, nodes: int, *, scale_quotas: bool) -> Scenario:
    """The scenario on so many nodes, its queues in proportion to its GPUs where they are to be scaled."""
    cluster = so_many(scenario.nodes, nodes)
    part = Fraction(gpus(cluster), gpus(scenario.nodes))
    sized_queues = tuple(scaled_queue(queue, part) for queue in scenario.queues)
    return replace(scenario, nodes=cluster, queues=sized_queues if scale_quotas else scenario.queues)
