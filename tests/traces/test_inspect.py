"""What is said about a trace."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpumax.model.trace import Arrival, BadRow, Trace
from gpumax.traces.collect import NEVER_RAN
from gpumax.traces.inspect import STEPS, Inspection, Load, Size, Times, inspect

HOUR = 3_600_000


def _trace(*arrivals: Arrival) -> Trace:
    return Trace(tuple(sorted(arrivals, key=lambda one: (one.submitted_ms, one.name))), len(arrivals))


def _job(begin: float, hours: float, gpus: int, queue: str = "", milli: int = 1000) -> Arrival:
    name = f"j{begin}-{gpus}-{queue}"
    return Arrival(name, round(begin * HOUR), round(hours * HOUR), gpus, milli, queue=queue)


def test_the_load_is_what_would_run_if_all_ran_on_arrival() -> None:
    """Of each tenant and of all, over time from the first arrival to the last."""
    found = inspect(
        _trace(_job(0, 50, 4, "a"), _job(50, 10, 8, "b"), _job(90, 20, 2, "a"), _job(100, 1, 1, "b")), "csv"
    )
    # a: 4 for 50 h, 0 for 40, 2 for 10. b: 8 from hour 50 to 60.
    assert found.tenants == (
        Load("a", 2, 240.0, 2.2, 4.0, 4.0, 4.0),
        Load("b", 2, 81.0, 0.8, 8.0, 8.0, 8.0),
    )
    assert found.pooled == Load("", 4, 321.0, 3.0, 8.0, 8.0, 8.0)
    assert found.sizes == (Size("1", 1, 1.0), Size("2", 1, 40.0), Size("3-4", 1, 200.0), Size("5-8", 1, 80.0))
    assert (found.first_ms, found.last_ms) == (0, 100 * HOUR)
    assert found.duration_s == Times(72_900.0, 54_000.0, 147_600.0, 176_760.0, 180_000.0)


def test_pool_and_partitions_are_compared_in_words() -> None:
    """Peaks at different times need less together."""
    found = inspect(_trace(_job(0, 50, 4, "a"), _job(50, 50, 4, "b"), _job(100, 1, 1, "b")))
    assert found.says[1] == (
        "One pool at p99 needs 4 GPUs, used to 100.0 %; one partition a tenant, each at p99 of its own, 8, used to 50.0 %: "
        "2.0 times as many."
    )


def test_many_gpus_are_counted_whole() -> None:
    """With commas; few with their parts."""
    many = inspect(_trace(_job(0, 100, 1200), _job(50, 50, 34), _job(100, 1, 1)))
    assert many.says[0] == (
        "If all of it ran on arrival, 1,217 GPUs would be in use on average, 1,234 or fewer in 99 % of the time, 1,234 at most."
    )
    few = inspect(_trace(_job(0, 100, 1), _job(50, 50, 1, milli=250), _job(100, 1, 1)))
    assert few.says[0].startswith(
        "If all of it ran on arrival, 1.12 GPUs would be in use on average, 1.25 or fewer"
    )


def test_a_cluster_that_is_nearly_always_idle_needs_no_comparison() -> None:
    """Nothing is in use for 99 % of the time."""
    found = inspect(_trace(_job(0, 1, 4, "a"), _job(500, 1, 4, "b"), _job(1000, 0, 1, "b")))
    assert found.says == (
        "If all of it ran on arrival, 0.01 GPUs would be in use on average, 0 or fewer in 99 % of the time, 4 at most.",
    )


def test_work_from_before_the_window_is_part_of_its_load_alone() -> None:
    """It is none of the workloads that came."""
    trace = _trace(_job(0, 100, 4), _job(20, 10, 1), _job(60, 1, 1))
    found = inspect(trace, window=(10 * HOUR, 50 * HOUR))
    assert found.pooled == Load("", 1, 10.0, 4.25, 5.0, 5.0, 5.0)
    assert (found.workloads, found.rows) == (1, 3)


_JOBS = st.lists(
    st.builds(
        Arrival,
        st.uuids().map(str),
        st.integers(0, 30).map(lambda hour: hour * HOUR),
        st.integers(0, 30).map(lambda hours: hours * HOUR),
        st.integers(0, 9),
        st.sampled_from((250, 500, 1000)),
        queue=st.sampled_from(("a", "b", "")),
    ),
    min_size=2,
    max_size=12,
)


@settings(max_examples=200, deadline=None)
@given(jobs=_JOBS)
def test_the_load_is_that_of_counting_hour_by_hour(jobs: list[Arrival]) -> None:
    """Mean, most, and the mean over the steps of the picture."""
    found = inspect(_trace(*jobs))
    first, last = (edge(job.submitted_ms // HOUR for job in jobs) for edge in (min, max))
    assert found.pooled is not None
    if first == last:
        assert found.pooled.max == sum(job.devices * job.milli for job in jobs) / 1000
        return
    hours = [
        sum(
            job.devices * job.milli
            for job in jobs
            if job.submitted_ms <= hour * HOUR < job.submitted_ms + job.duration_ms
        )
        / 1000
        for hour in range(first, last)
    ]
    assert found.pooled.mean == pytest.approx(sum(hours) / len(hours), abs=1e-3)
    assert found.pooled.max == max(hours)
    assert found.pooled.p95 in hours
    assert len(found.load_over_time) == STEPS
    assert sum(found.load_over_time) / STEPS == pytest.approx(sum(hours) / len(hours), abs=1e-2)
    assert sum(load.mean for load in found.tenants) in (0, pytest.approx(found.pooled.mean, abs=1e-2))


def test_a_trace_without_work_is_no_error() -> None:
    """It says why."""
    found = inspect(Trace((), 3, (BadRow(2, "gpu", '"x"', "a number"),), 2, {NEVER_RAN: 1}), "slurm")
    assert found == Inspection(
        "slurm", 3, 0, 2, bad=(BadRow(2, "gpu", '"x"', "a number"),),
        odd=(
            '2 rows of 3 could not be used; the first: line 2, column gpu: found "x"; wanted a number.',
            "1 row never ran.",
            "No work is left.",
        ),
    )  # fmt: skip


_DAY = 24.0
_2026 = 56 * 365 * _DAY


@pytest.mark.parametrize(
    ("jobs", "sentence"),
    [
        ([_job(0, 1, 1)], "Moments count from the beginning of the trace; it knows no dates."),
        ([_job(0, 1, 1)], "It knows no tenants."),
        ([_job(0, 0, 1), _job(1, 1, 1)], "1 workload ran for no time at all."),
        ([_job(hour, 24, 1) for hour in range(30)], "30 workloads ran for exactly 1d: perhaps a limit, not their end."),
        ([_job(0, 1, 1), _job(10, 9, 1)], "90 % of the GPU hours lie behind the last arrival."),
        ([_job(0, 1, 0), _job(1, 1, 1)], "1 workload of 2 asked for no GPU."),
        ([_job(0, 1, 1, milli=500), _job(1, 1, 1)], "1 workload asked for a part of a GPU."),
        ([_job(hour // 2, 1, 1) for hour in range(40)], "20 workloads came with another of the same moment, tenant, size and duration."),
        ([_job(hour, 1, 1) for hour in range(99)] + [_job(99, 60, 1)], "The largest 1 % of the workloads make up 38 % of the GPU hours."),
        ([_job(0, 3, 1, "a"), _job(1, 1, 1, "b")], "a makes up 75 % of the GPU hours."),
        ([_job(_2026 + hour, 1, 1) for hour in range(60)] + [_job(_2026 + 159, 1, 1)], "Nothing came for 4d4h from 2025-12-20T11:00:00Z on."),
    ],
)  # fmt: skip
def test_what_is_odd_is_said_in_a_sentence(jobs: list[Arrival], sentence: str) -> None:
    """And not of a trace that isn't."""
    assert sentence in inspect(_trace(*jobs)).odd
    usual = [_job(_2026 + hour, 1 + hour % 37 / 37, 1 + hour % 3, "abc"[hour % 3]) for hour in range(300)]
    assert not inspect(_trace(*usual)).odd
