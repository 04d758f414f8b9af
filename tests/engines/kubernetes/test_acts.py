"""Binds and evictions in the log."""

from __future__ import annotations

import logging

import pytest

from board import Sketch, queue
from gpumax.engines.kubernetes.acts import Act, bind, evict, log
from gpumax.model.decision import Eviction, Place
from gpumax.model.workload import Workload

LOG = logging.getLogger("gpumax.kubernetes")


def running() -> Workload:
    """b, on n1."""
    drawn = Sketch("n1: b").with_queues(queue("q", 1))
    return drawn.run("b", queue="q").snapshot().workloads[0]


def test_a_line_says_who_where_and_for_whom(caplog: pytest.LogCaptureFixture) -> None:
    """As a sentence and as fields."""
    caplog.set_level(logging.INFO, "gpumax")
    log(LOG, bind(Place("b-0", "n1"), running()), "done", "")
    log(LOG, evict(Eviction("b-0", "reclaim", "x"), running()), "done", "")
    assert caplog.messages == [
        "bound: b-0 to n1, queue q, b",
        "evicted: b-0 from n1, queue q, b; reclaim for x",
    ]
    assert caplog.records[1].context == {  # type: ignore[attr-defined]
        "event": "evict", "pod": "b-0", "queue": "q", "workload": "b", "node": "n1", "cause": "reclaim", "beneficiary": "x",
        "outcome": "done",
    }  # fmt: skip


def test_what_came_to_nothing_says_why_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """However many lines somebody else wrote, and of which length."""
    caplog.set_level(logging.INFO, "gpumax")
    act = Act("evict", "b-0", "q", "b", "n1", "stale")
    log(LOG, act, "kept", "a budget\nforbids it\n" + "x" * 5000)
    (words,) = caplog.messages
    assert words.startswith("not evicted for now: b-0 from n1, queue q, b; stale: a budget forbids it xxx")
    assert len(words) < 1200
    log(LOG, act._replace(event="bind"), "refused", "409 Conflict")
    assert [row.levelname for row in caplog.records] == ["INFO", "WARNING"]
