"""The words of the report: none is false of runs that differ in what they did."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gpumax.model.study import Moved, Result, Run
from gpumax.study.report.evictions import evictions
from gpumax.study.report.figures import GLANCE
from gpumax.study.report.groups import groups
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
