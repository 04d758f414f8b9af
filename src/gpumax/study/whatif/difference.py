"""The same work on a cluster as it is and as it would be: what differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Final

from msgspec.structs import replace

from gpumax.errors import GpumaxError
from gpumax.model.study import Failed, Run, Scenario
from gpumax.model.whatif import Difference, Pair, QueueDifference
from gpumax.study.replay import replay
from gpumax.study.report.evictions import total
from gpumax.study.run import Progress, Step, Turn
from gpumax.study.whatif.question import Question
from gpumax.study.whatif.words import difference_in_words

_BEFORE: Final = "as it is"
_AFTER: Final = "as changed"

Watch = Callable[[str, float], None]
"""Told what is played, and the part of it that is done, from 0 to 1. It may raise KeyboardInterrupt."""


def compare(question: Question, watch: Watch = lambda _what, _part: None, *, jobs: int = 1) -> Difference:
    """Play the scenario twice, as it is and as changed, with the same work and the same seed.

    jobs: from two on both sides are played at once, each in a process of its own. What is found is the same.
    """

    def play(scenario: Scenario, what: str) -> Run:
        return replay(scenario, question.policy, question.seed, lambda part: watch(what, part))

    if question.after == question.before:
        # Equal scenarios give equal runs.
        before = after = play(question.before, _BEFORE)
    elif jobs > 1:
        before, after = _at_once(question, watch)
    else:
        before, after = play(question.before, _BEFORE), play(question.after, _AFTER)
    found = _difference(question, before, after)
    return replace(found, finding=tuple(difference_in_words(found)))


def _at_once(question: Question, watch: Watch) -> tuple[Run, Run]:
    # Late, because one process needs none of it.
    from gpumax.study.processes import side_by_side

    sides = [Turn(_BEFORE, question.seed), Turn(_AFTER, question.seed)]
    parts = [0.0] * len(sides)

    def told(step: Step) -> None:
        parts[step.number] = step.part
        watch("both sides", sum(parts) / len(parts))

    ends: dict[int, Run] = {}
    play = partial(_side, question.after, question.policy)
    with closing(side_by_side(question.before, sides, len(sides), told, play)) as steps:
        for number, end in steps:
            if isinstance(end, Failed):
                raise GpumaxError(f"{sides[number].policy}, it broke: {end.error}")
            ends[number] = end
    return ends[0], ends[1]


def _side(after: Scenario, policy: str, before: Scenario, what: str, seed: int, progress: Progress) -> Run:
    """One side, in a process of its own."""
    return replay(after if what == _AFTER else before, policy, seed, progress)


def _difference(question: Question, before: Run, after: Run) -> Difference:
    def pair(figure: Callable[[Run], int | float]) -> Pair:
        return Pair(figure(before), figure(after))

    return Difference(
        question.before.name,
        question.policy,
        question.seed,
        question.changes,
        (),
        nodes=Pair(len(question.before.nodes), len(question.after.nodes)),
        gpus=pair(lambda run: run.gpus),
        workloads=pair(lambda run: run.arrived.workloads),
        never=pair(lambda run: run.arrived.never),
        stuck=pair(lambda run: run.stuck),
        use=pair(lambda run: run.use.requested),
        served=pair(lambda run: run.use.requested * run.gpus * run.window_s / 3600),
        wait_mean_s=pair(lambda run: run.wait_s.mean),
        wait_p50_s=pair(lambda run: run.wait_s.p50),
        wait_p99_s=pair(lambda run: run.wait_s.p99),
        wait_max_s=pair(lambda run: run.wait_s.max),
        completion_mean_s=pair(lambda run: run.completion_s.mean),
        completion_p99_s=pair(lambda run: run.completion_s.p99),
        makespan_s=pair(lambda run: run.makespan_s),
        evictions=pair(total),
        lost=pair(lambda run: run.lost),
        rule_breaks=pair(lambda run: run.rule_breaks),
        queues=tuple(_queues(before, after)),
        assumed=question.assumed,
    )


def _queues(before: Run, after: Run) -> Iterator[QueueDifference]:
    """Every queue that work goes to, before or after; one that it goes to on one side alone had nothing on the other."""
    then = {row.name: row for row in before.queues}
    now = {row.name: row for row in after.queues}
    for name in sorted({**then, **now}):
        sides = (then.get(name), now.get(name))

        def pair(field: str, sides: tuple[object, object] = sides) -> Pair:
            return Pair(*(0 if row is None else getattr(row, field) for row in sides))

        yield QueueDifference(
            name,
            pair("quota"),
            pair("workloads"),
            pair("wait_mean_s"),
            pair("wait_p99_s"),
            pair("served"),
            pair("evictions"),
        )
