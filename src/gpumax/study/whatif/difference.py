"""The same work on a cluster as it is and as it would be: what differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from gpumax.model.study import Run, Scenario
from gpumax.model.whatif import Difference, Pair, QueueDifference
from gpumax.study.replay import replay
from gpumax.study.report.evictions import total
from gpumax.study.whatif.question import Question
from gpumax.study.whatif.words import difference_in_words

Watch = Callable[[str, float], None]
"""Told what is played, and the part of it that is done, from 0 to 1. It may raise KeyboardInterrupt."""


def compare(question: Question, watch: Watch = lambda _what, _part: None) -> Difference:
    """Play the scenario twice, as it is and as changed, with the same work and the same seed."""

    def play(scenario: Scenario, what: str) -> Run:
        return replay(scenario, question.policy, question.seed, lambda part: watch(what, part))

    before = play(question.before, "as it is")
    # Equal scenarios give equal runs.
    after = before if question.after == question.before else play(question.after, "as changed")
    found = _difference(question, before, after)
    return replace(found, finding=tuple(difference_in_words(found)))


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
