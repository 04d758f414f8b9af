"""What metrics there are: docs/reference/metrics.md is written from this table."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple


class Row(NamedTuple):
    """One metric. type: what Prometheus calls it; words: what it counts or measures."""

    type: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    words: str


_OF_QUEUE: Final = ("queue", "resource")
_BEFORE: Final = "as the last decision found it"
EXPORTED: Final = {
    "gpumax_build_info": Row("gauge", ("version",), "always 1; which version this is"),
    "gpumax_leader": Row("gauge", (), "1 where this replica schedules; 0 where another does, and in a dry run"),
    "gpumax_cycle_duration_seconds": Row(
        "histogram", (), "a cycle: look, and where something is new decide, check and have it carried out"
    ),
    "gpumax_decide_duration_seconds": Row("histogram", (), "a decision"),
    "gpumax_verify_duration_seconds": Row("histogram", (), "the check of a decision against the rules"),
    "gpumax_cycle_failures_total": Row("counter", (), "cycles that failed; each is tried again"),
    "gpumax_journal_failures_total": Row(
        "counter", (), "decisions that could not be written into the journal, as on a full disk; they are carried out all the same"
    ),
    "gpumax_rule_breaks_total": Row(
        "counter", (), "parts of decisions that broke a rule, and so were not carried out; more than 0 is a bug"
    ),
    "gpumax_queue_quota": Row("gauge", _OF_QUEUE, "what the queue is guaranteed; `+Inf`: unlimited"),
    "gpumax_queue_share": Row("gauge", _OF_QUEUE, f"what the queue may hold, {_BEFORE}"),
    "gpumax_queue_allocated": Row("gauge", _OF_QUEUE, f"what the queue holds, {_BEFORE}"),
    "gpumax_queue_waiting": Row("gauge", _OF_QUEUE, f"what the queue's waiting work asks for, {_BEFORE}"),
    "gpumax_queue_waiting_workloads": Row(
        "gauge", ("queue",), "workloads that wait in the queue or below it"
    ),
    "gpumax_holds": Row("gauge", ("code",), "workloads that wait, by [why](reasons.md)"),
    "gpumax_invalid_pods": Row("gauge", (), "pods that ask for us and are written wrongly; each is told what"),
    "gpumax_binds_total": Row("counter", (), "binds that were sent"),
    "gpumax_evictions_total": Row("counter", ("cause",), "evictions that were asked for"),
    "gpumax_writes_refused_total": Row(
        "counter",
        ("why",),
        "writes that came to nothing. `refused`: by the API server; `kept`: evictions that were refused, as by a disruption budget; `fenced`: not sent, as "
        "another replica schedules",
    ),
    "gpumax_api_request_duration_seconds": Row(
        "histogram", ("verb",), "requests to the API server, watches aside"
    ),
    "gpumax_api_requests_total": Row(
        "counter", ("verb", "code"), "the same, by the code of the answer; `none`: no clear answer came"
    ),
    "gpumax_watch_age_seconds": Row(
        "gauge", ("kind",), "since anything was heard of a kind; the API server speaks about once a minute"
    ),
}  # fmt: skip
