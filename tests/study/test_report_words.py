"""The words of the report: none is false of runs that differ in what they did."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from gpumax.model.study import Arrived, Moved, Result, Run
from gpumax.study.report import page
from gpumax.study.report.evictions import evictions
from gpumax.study.report.figures import GLANCE
from gpumax.study.report.groups import groups
from gpumax.study.report.headline import headline
from study.results import replayed


def _run(policy: str = "gpumax", **more: Any) -> Run:
    return msgspec.structs.replace(replayed(policy, 0.5, 0, 1, 100, 1_000), **more)


@pytest.mark.parametrize(
    ("moved", "lost", "words"),
    [
        (Moved(), 0.0, "none"),
        (Moved(reclaim=3, preempt=1), 0.02, "4, 2.0 %"),
        (Moved(failure=7), 0.02, "0 and 7 by failures, 2.0 %"),
        (Moved(failure=1), 0.0, "0 and 1 by failures, 0 %"),
        (Moved(reclaim=3, failure=7), 0.02, "3 and 7 by failures, 2.0 %"),
        (Moved(), 0.02, "0, 2.0 %"),
    ],
)
def test_what_failures_took_is_no_nothing(moved: Moved, lost: float, words: str) -> None:
    """Lost time is always said; tasks that failing nodes took are counted apart from those that a policy evicted."""
    (column,) = (column for column in GLANCE if column.title == "evicted, lost")
    assert column.value(_run(evictions=moved, lost=lost)).replace("\u00a0", " ") == words


def test_a_policy_does_not_answer_for_failures() -> None:
    """The title of the picture says who took tasks, where nodes failed."""
    drawn = evictions(groups(Result("x", (_run(evictions=Moved(reclaim=3, failure=7), lost=0.02),))))
    assert drawn is not None
    assert "evicts 3 tasks" in drawn.finding
    assert "failing nodes take 7 tasks" in drawn.finding


def test_waits_of_different_work_are_not_compared_as_if_they_were_of_the_same() -> None:
    """What can never run or never ends under one policy alone is said before any wait is."""
    mine, theirs = _run(), _run("static-backfill", arrived=Arrived(68_503, 1.0, 16), stuck=1)
    title = headline(found := Result("x", (mine, theirs)), groups(found)).replace("\u00a0", " ")
    assert title == (
        "2 workloads can never run under gpumax, 16 workloads can never run under static-backfill "
        "and 1 workload never ended under static-backfill; of the work that is counted: on the same 704 GPUs, "
        "99 % of workloads wait at most 1.7 min under gpumax and under static-backfill"
    )
    like = Result("x", (mine, _run("static-backfill")))
    assert "never" not in headline(like, groups(like))


def test_one_is_one() -> None:
    """A cluster of one GPU is told in the singular, wherever it stands."""
    runs = [replayed(policy, 0.5, 0, 1, 100, 1_000, gpus=1) for policy in ("gpumax", "static-fifo")]
    text = re.sub(r"\s+", " ", page(Result("x", tuple(runs))))
    assert "On the same 1 GPU, 99 %" in re.sub("<[^>]*>", "", text)
    assert re.findall(r"\b1 (?:GPUs|nodes|workloads|runs|seeds|tasks)\b", text) == []
    two = Result("x", (*runs, replayed("gpumax", 0.5, 0, 1, 100, 1_000, gpus=2)))
    assert re.findall(r"\b1\s(?:GPUs|nodes|workloads|runs|seeds|tasks)\b", page(two)) == []
