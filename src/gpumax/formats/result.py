"""The result document: what came of a study, run by run. The nouns carry the names of the file."""

from __future__ import annotations

from typing import Final, get_args

import msgspec

from gpumax.formats.parsed import LineOf
from gpumax.formats.result_sense import falling, queues_once, runs_once, sensible, too_large, too_many
from gpumax.formats.scalars import Choice, Flag, Real, Text, Whole
from gpumax.formats.shape import Bad, Field, Map, Object, Rows, Then, bad_file
from gpumax.formats.snapshot import VERSION
from gpumax.formats.text import one_document
from gpumax.model.study import (
    Arrived,
    Effort,
    Failed,
    Moved,
    Protocol,
    QueueRun,
    Result,
    Run,
    Series,
    Spread,
    Use,
)  # fmt: skip
from gpumax.model.trace import BadRow
from gpumax.model.workload import Document

# Names come from traces of any origin, so nothing is asked of them.
_TEXT: Final = Text(r"[\s\S]*", "text", most=100_000)
_AMOUNT: Final = Real()
_AMOUNTS: Final = Rows(_AMOUNT)
# Sums of what was rounded may end a little above one.
_PART: Final = Real(most=1.000001, wanted="a part, 0 to 1")
_PARTS: Final = Rows(_PART)
_COUNT: Final = Whole()
_PERCENT: Final = Map(Text(r"[0-9]+", "a whole number of percent", most=4), _PART, most=10_000)

_ARRIVED: Final = Object(
    "Arrived",
    {
        "workloads": Field(_COUNT, "How many came.", required=True),
        "gpu_hours": Field(_AMOUNT, "Their durations times the devices that they asked for.", required=True),
        "never": Field(_COUNT, "How many of them no empty cluster could hold."),
    },
    sensible(Arrived, too_large),
    about="What there was to do.",
    clash=too_large,
)
_USE: Final = Object(
    "Use",
    {
        "requested": Field(_PART, "What was asked for and ran.", required=True),
        "allocated": Field(_PART, "Devices of which anything was held.", required=True),
    },
    Use,
    about="Parts of the GPUs of the cluster times the window.",
)
_SPREAD: Final = Object(
    "Spread",
    {
        "mean": Field(_AMOUNT, "The mean."),
        "p50": Field(_AMOUNT, "Half of them are at most so long."),
        "p90": Field(_AMOUNT, "90 % of them."),
        "p99": Field(_AMOUNT, "99 % of them."),
        "max": Field(_AMOUNT, "The longest."),
    },
    sensible(Spread, falling),
    about="A distribution, in seconds.",
    clash=falling,
)
_MOVED: Final = Object(
    "Moved",
    {
        "reclaim": Field(_COUNT, "For a queue that took back what is its own."),
        "preempt": Field(_COUNT, "For work of higher priority in the same queue."),
        "consolidate": Field(_COUNT, "Moved, so that others fit."),
        "stale": Field(_COUNT, "Of gangs that stayed below their minimum."),
        "failure": Field(_COUNT, "Taken along by a node that failed."),
    },
    Moved,
    about="Tasks that were evicted, by cause.",
)
_QUEUE: Final = Object(
    "QueueRun",
    {
        "name": Field(_TEXT, "Which queue.", required=True),
        "quota": Field(_AMOUNT, "Its quota, in devices.", required=True),
        "demand": Field(_AMOUNT, "GPU hours asked for in the window.", required=True),
        "served": Field(_AMOUNT, "GPU hours that it got in the window.", required=True),
        "wait_p99_s": Field(_AMOUNT, "99 % of its workloads wait at most so many seconds.", required=True),
        "wait_mean_s": Field(_AMOUNT, "The mean of their waits, in seconds."),
        "workloads": Field(_COUNT, "How many came."),
        "evictions": Field(_COUNT, "How many of its tasks were evicted."),
        "held": Field(_AMOUNTS, "Devices in use on average, in each step of the run's series."),
    },
    QueueRun,
    about="One queue in a run.",
)
_SERIES: Final = Object(
    "Series",
    {
        "step_s": Field(Real(0.001), "How long a step is, in seconds.", required=True),
        "requested": Field(_PARTS, "What was asked for and ran, as a part of the GPUs."),
        "allocated": Field(_PARTS, "Devices of which anything was held, as a part of the GPUs."),
        "waiting": Field(_AMOUNTS, "Workloads that waited."),
    },
    Series,
    about="The run over time, in equal steps from the first arrival.",
)
_EFFORT: Final = Object(
    "Effort",
    {
        "cycles": Field(_COUNT, "How often was decided.", required=True),
        "seconds": Field(_AMOUNT, "How long that took in all.", required=True),
        "seconds_max": Field(_AMOUNT, "How long the slowest took.", required=True),
    },
    Effort,
    about="What deciding cost on the machine of the study: all that differs when it is made again.",
)
_RUN: Final = Object(
    "Run",
    {
        "policy": Field(_TEXT, "Who decided.", required=True),
        "seed": Field(Whole(), "Where chance began.", required=True),
        "gpus": Field(Whole(1), "GPUs of the cluster.", required=True),
        "arrived": Field(_ARRIVED, "What there was to do.", required=True),
        "use": Field(_USE, "What the GPUs did.", required=True),
        "wait_s": Field(_SPREAD, "All time in which not every task of a workload had room, in seconds."),
        "completion_s": Field(_SPREAD, "From submission to the end, in seconds."),
        "makespan_s": Field(_AMOUNT, "From the first arrival to the last end, in seconds."),
        "evictions": Field(_MOVED, "Tasks that were evicted, by cause."),
        "lost": Field(
            _PART, "Part of the served GPU time that went into repeating lost work, and into restarts."
        ),
        "jain": Field(_PART, "Fairness over what queues got of the smaller of demand and quota: 1 is equal."),
        "violations": Field(
            _COUNT,
            "Moments at which a queue within its quota waited though others ran over theirs, beyond grace.",
        ),
        "queues": Field(Then(Rows(_QUEUE), queues_once), "One row a queue."),
        "allocation": Field(
            _PERCENT, "Inflate: by percent arrived, the part of the GPUs that was allocated."
        ),
        "fragments": Field(
            _PERCENT, "Inflate: by percent arrived, the part of the GPUs that nobody could use."
        ),
        "placed": Field(_COUNT, "Inflate: how many workloads with GPUs found a place."),
        "waits_s": Field(_AMOUNTS, "101 quantiles of the waits in seconds, from p0 to p100."),
        "series": Field(_SERIES, "The run over time."),
        "finished": Field(Flag(), "false: it was stopped before its end."),
        "window_s": Field(
            _AMOUNT, "Over so many seconds use, and the hours of queues, were measured; 0: unknown."
        ),
        "scheduler": Field(_EFFORT, "What deciding cost."),
        "jain_due": Field(
            _PART,
            "The same fairness, with nothing counted that a queue got beyond the smaller of demand and quota.",
        ),
        "stuck": Field(_COUNT, "Workloads that had not ended when nothing could happen any more."),
        "rule_breaks": Field(_COUNT, "How often a decision of gpumax broke a rule of its policy."),
    },
    sensible(Run, too_many),
    about="What came of the scenario under one policy and seed.",
    clash=too_many,
)
_BAD_ROW: Final = Object(
    "BadRow",
    {
        "row": Field(_COUNT, "Its line in the file, from 1.", required=True),
        "column": Field(_TEXT, "As the file calls it; empty: the row as a whole.", required=True),
        "found": Field(_TEXT, "What stands there.", required=True),
        "wanted": Field(_TEXT, "What was wanted.", required=True),
    },
    BadRow,
    about="A row of a trace that was left out.",
)
_FAILED: Final = Object(
    "Failed",
    {
        "policy": Field(_TEXT, "Which policy.", required=True),
        "seed": Field(Whole(), "Which seed.", required=True),
        "error": Field(_TEXT, "Why, in a sentence.", required=True),
    },
    Failed,
    about="A run that broke.",
)

RESULT: Final = Object(
    "Result",
    {
        "version": Field(Choice((VERSION,)), "The version of the format.", keep=False),
        "scenario": Field(_TEXT, "The name of the scenario.", required=True),
        "protocol": Field(Choice(get_args(Protocol)), "How it was played. Unset: replay."),
        "gpumax": Field(_TEXT, "The version of the program."),
        "command": Field(_TEXT, "The line that makes it again."),
        "runs": Field(
            Then(Rows(_RUN, least=1), runs_once),
            "What came of it, one row a policy, a seed and a size of the cluster.",
            required=True,
        ),
        "failed": Field(Rows(_FAILED), "Runs that broke."),
        "unfinished": Field(_COUNT, "How many runs are missing because the study was stopped."),
        "bad_rows": Field(_COUNT, "How many rows of the traces were left out."),
        "bad": Field(Rows(_BAD_ROW), "The first of them."),
        "caveats": Field(Rows(_TEXT), "What is assumed, in sentences."),
    },
    Result,
    about="A study's answer.",
)


def load_result(obj: object, *, source: str = "", line_of: LineOf | None = None) -> Result:
    """The result of a document, or of a file: its bytes, its text, or its Path. BadFile with every fault that it has."""
    parsed = one_document(obj, source, line_of)
    try:
        return RESULT.read(parsed.document)
    except Bad as bad:
        raise bad_file(bad, parsed.source, parsed.line_of) from None


def dump_result(result: Result) -> Document:
    """The document of a result; loading it gives an equal result."""
    fields: Document = msgspec.to_builtins(result)
    for run in fields["runs"]:
        for key in ("allocation", "fragments"):
            run[key] = dict(sorted(run[key].items(), key=lambda entry: int(entry[0])))
    return {key: fields[key] for key in RESULT.fields}


def encode_result(result: Result) -> bytes:
    """A JSON file with one run a line. Equal results give equal bytes."""
    lines = [
        b"  %b: %b"
        % (msgspec.json.encode(key), _rows(value) if key == "runs" else msgspec.json.encode(value))
        for key, value in dump_result(result).items()
    ]
    return b"{\n" + b",\n".join(lines) + b"\n}\n"


def _rows(rows: list[object]) -> bytes:
    return b"[\n" + b",\n".join(b"    " + msgspec.json.encode(row) for row in rows) + b"\n  ]"
