"""The result document: what is written is what is read, whatever a trace called its queues."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from formats.checker import matches
from formats.kit import fault_of, faults_of
from gpumax.formats.result import dump_result, encode_result, load_result
from gpumax.formats.schema import schema
from gpumax.model.study import Arrived, Effort, Failed, Moved, QueueRun, Result, Run, Series, Spread, Use
from gpumax.model.trace import BadRow

_SOME = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_COUNTS = st.integers(0, 1 << 50)
_AMOUNTS = st.floats(0, 1e12)
_PARTS = st.floats(0, 1)
_MANY = st.lists(_AMOUNTS, max_size=4).map(tuple)
_RISING = st.lists(_AMOUNTS, max_size=4).map(lambda waits: tuple(sorted(waits)))
_BY_PERCENT = st.dictionaries(st.integers(0, 130).map(str), _PARTS, max_size=3)
_SPREADS = st.lists(_AMOUNTS, min_size=4, max_size=4).map(lambda some: Spread(sum(some) / 4, *sorted(some)))
_QUEUES = st.builds(QueueRun, _TEXT, *[_AMOUNTS] * 5, _COUNTS, _COUNTS, _MANY)
_RUNS = st.builds(
    Run,
    policy=_TEXT,
    seed=_COUNTS,
    gpus=st.integers(1, 1 << 50),
    arrived=st.tuples(_COUNTS, _AMOUNTS).map(lambda came: Arrived(*came, came[0] // 3)),
    use=st.builds(Use, _PARTS, _PARTS),
    wait_s=_SPREADS,
    completion_s=_SPREADS,
    makespan_s=_AMOUNTS,
    evictions=st.builds(Moved, *[_COUNTS] * 5),
    lost=_PARTS,
    jain=_PARTS,
    violations=_COUNTS,
    queues=st.lists(_QUEUES, max_size=2, unique_by=lambda queue: queue.name).map(tuple),
    allocation=_BY_PERCENT,
    fragments=_BY_PERCENT,
    waits_s=_RISING,
    series=st.none()
    | st.builds(Series, st.floats(0.001, 1e9), *[st.lists(_PARTS, max_size=4).map(tuple)] * 2, _MANY),
    finished=st.booleans(),
    window_s=_AMOUNTS,
    scheduler=st.builds(Effort, _COUNTS, _AMOUNTS, _AMOUNTS),
)
RESULTS = st.builds(
    Result,
    scenario=_TEXT,
    runs=st.lists(_RUNS, min_size=1, max_size=2, unique_by=lambda run: (run.policy, run.seed, run.gpus)).map(
        tuple
    ),
    gpumax=_TEXT,
    bad_rows=_COUNTS,
    bad=st.lists(st.builds(BadRow, _COUNTS, _TEXT, _TEXT, _TEXT), max_size=2).map(tuple),
    caveats=st.lists(_TEXT, max_size=2).map(tuple),
    command=_TEXT,
    protocol=st.sampled_from(("replay", "inflate")),
    failed=st.lists(st.builds(Failed, _TEXT, _COUNTS, _TEXT), max_size=2).map(tuple),
    unfinished=_COUNTS,
)

_ROW = {"name": "a", "quota": 4, "demand": 1, "served": 1, "wait_p99_s": 0}
_SOUND = {
    "policy": "gpumax", "seed": 1, "gpus": 8, "arrived": {"workloads": 2, "gpu_hours": 1}, "use": {"requested": 0.5, "allocated": 0.6},
}  # fmt: skip
"""A run of which nothing is wrong."""

# The example of the format, as it is published.
PUBLISHED = """
version: gpumax/v1
scenario: philly-quarter
runs:
  - policy: gpumax
    seed: 42
    gpus: 704
    arrived: {workloads: 68503, gpu_hours: 1.0e+6}
    use: {requested: 0.65, allocated: 0.66}
    wait_s: {mean: 0, p50: 0, p90: 0, p99: 0, max: 0}
    completion_s: {mean: 0, p50: 0, p90: 0, p99: 0}
    makespan_s: 0
    evictions: {reclaim: 0, preempt: 0, consolidate: 0}
    lost: 0.0007
    jain: 0.99
    violations: 0
    queues: [{name: 6214e9, quota: 128, demand: 0, served: 0, wait_p99_s: 0}]
    allocation: {"100": 0.952, "130": 0.954}
    scheduler: {cycles: 0, seconds: 0.0, seconds_max: 0.0}
"""


def test_the_published_example_is_read() -> None:
    """Every field of it means what it says."""
    result = load_result(PUBLISHED.replace("name: 6214e9", 'name: "6214e9"'))
    (run,) = result.runs
    assert (run.policy, run.gpus, run.lost, run.allocation["130"]) == ("gpumax", 704, 0.0007, 0.954)
    assert run.queues == (QueueRun("6214e9", 128.0, 0.0, 0.0, 0.0),)


@_SOME
@given(RESULTS)
def test_what_is_written_is_read_again(result: Result) -> None:
    """Equal, with equal bytes, whatever names and rows it carries."""
    written = encode_result(result)
    assert load_result(written) == result
    assert encode_result(load_result(written)) == written


@_SOME
@given(RESULTS)
def test_what_is_written_fits_its_schema(result: Result) -> None:
    """Whatever it holds."""
    root = schema("result")
    document: Any = msgspec.json.decode(encode_result(result))
    assert matches(document, root, root)
    assert list(document) == list(dump_result(result))


def test_a_run_is_a_line() -> None:
    """So that results can be compared and cut with tools for lines."""
    run = Run("gpumax", 1, 8, Arrived(1, 1.0), Use(0.5, 0.5))
    lines = encode_result(Result("small", (run, run))).splitlines()
    assert sum(line.lstrip().startswith(b'{"policy":"gpumax"') for line in lines) == 2


def test_every_fault_is_told_at_once() -> None:
    """With its line."""
    text = """
scenario: x
runs:
  - {policy: a, seed: -1, gpus: 8, arrived: {workloads: 1, gpu_hours: many}, use: {requested: .nan, allocated: 0}}
  - {policy: b, seed: 1, gpus: 8, arrived: {workloads: 1, gpu_hours: 1}}
"""
    faults = faults_of(load_result, text)
    assert [fault.path for fault in faults] == [
        "runs[0].seed",
        "runs[0].arrived.gpu_hours",
        "runs[0].use.requested",
        "runs[1].use",
    ]
    assert [fault.line for fault in faults] == [4, 4, 4, 5]


@pytest.mark.parametrize(
    ("run", "path", "wanted"),
    [
        ({"gpus": 0}, "gpus", "a whole number, 1 or more"),
        ({"use": {"requested": -0.1, "allocated": 0.5}}, "use.requested", "a part, 0 to 1"),
        ({"use": {"requested": 0.5, "allocated": 1.5}}, "use.allocated", "a part, 0 to 1"),
        ({"series": {"step_s": 0}}, "series.step_s", "a number, 0.001 to"),
        ({"series": {"step_s": 60, "requested": [0.1, 2]}}, "series.requested[1]", "a part, 0 to 1"),
        ({"wait_s": {"p50": 9, "p99": 8, "max": 10}}, "wait_s.p99", "at least the p50, 9.0"),
        ({"wait_s": {"mean": 11, "max": 10}}, "wait_s.mean", "at most the max, 10.0"),
        ({"waits_s": [0, 3, 2]}, "waits_s[2]", "at least the one before, 3.0"),
        ({"arrived": {"workloads": 2, "gpu_hours": 1, "never": 3}}, "arrived.never", "at most the 2 workloads that arrived"),
        ({"stuck": 3}, "stuck", "at most the 2 workloads that arrived"),
        ({"placed": 3}, "placed", "at most the 2 workloads that arrived"),
        ({"jain": 1.1}, "jain", "a part, 0 to 1"),
        ({"lost": 2}, "lost", "a part, 0 to 1"),
        ({"allocation": {"100": 1.2}}, 'allocation["100"]', "a part, 0 to 1"),
        ({"queues": [_ROW, _ROW]}, "queues[1]", "each once"),
    ],
)  # fmt: skip
def test_what_no_study_can_have_found_is_refused(run: dict[str, Any], path: str, wanted: str) -> None:
    """Where it stands, what stands there, and what could."""
    fault = fault_of(load_result, {"scenario": "x", "runs": [{**_SOUND, **run}]})
    assert fault.path == f"runs[0].{path}"
    assert fault.wanted.startswith(wanted)


def test_a_result_has_runs_each_once() -> None:
    """None is no result; one that stands there twice would count twice. One that was stopped may stand beside the one that was not."""
    assert fault_of(load_result, {"scenario": "x", "runs": []}).wanted == "at least one entry"
    twice = fault_of(load_result, {"scenario": "x", "runs": [_SOUND, _SOUND]})
    assert (twice.path, twice.found) == ("runs[1]", '"gpumax, seed 1, on 8 GPUs" again, first at [0]')
    assert len(load_result({"scenario": "x", "runs": [_SOUND, {**_SOUND, "finished": False}]}).runs) == 2


def test_impossible_figures_are_told_with_all_other_faults() -> None:
    """Nobody has to mend a file twice."""
    run = {**_SOUND, "seed": "one", "stuck": 5, "wait_s": {"p50": "x", "p90": 2, "p99": 1}}
    assert [fault.path for fault in faults_of(load_result, {"scenario": "x", "runs": [run]})] == [
        "runs[0].seed",
        "runs[0].wait_s.p50",
        "runs[0].wait_s.p99",
        "runs[0].stuck",
    ]


def test_another_version_is_refused() -> None:
    """By its name."""
    assert (
        "gpumax/v1"
        in fault_of(load_result, {"version": "gpumax/v9", "scenario": "x", "runs": [_SOUND]}).wanted
    )
