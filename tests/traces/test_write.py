"""A trace that is written reads back as it was."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpumax.model.trace import Arrival
from gpumax.traces.collect import STILL_RUNNING
from gpumax.traces.read import read_trace
from gpumax.traces.write import COLUMNS, write_trace
from traces.kit import SAMPLES, read

_NAME = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,20}", fullmatch=True)
_MODELS = st.lists(
    st.text("ABCH0123456789 -", min_size=1).map(str.strip).filter(bool), max_size=3, unique=True
).map(tuple)
_MS = st.integers(0, 10**12)


@st.composite
def _arrivals(draw: st.DrawFn) -> Arrival:
    devices = draw(st.integers(0, 64))
    memory = draw(st.sampled_from((0, 20_480))) if devices else 0
    return Arrival(
        draw(_NAME), draw(_MS), draw(_MS), devices, draw(st.integers(1, 1000)) if devices else 1000, memory, draw(_MODELS),
        draw(st.integers(0, 10**9)), draw(st.integers(0, 10**9)), draw(st.one_of(st.just(""), _NAME)),
        draw(st.sampled_from(("", "ada", 'o"brien, jr', "李"))), draw(st.integers(-100, 1000)),
        draw(st.one_of(st.none(), st.integers(1, 10**12))), draw(st.integers(0, 8)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is written anew for each example."""
    return tmp_path_factory.mktemp("written") / "trace.csv"


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(arrivals=st.lists(_arrivals(), max_size=6, unique_by=lambda one: one.name))
def test_arrivals_read_back_equal(file: Path, arrivals: list[Arrival]) -> None:
    """To the millisecond and the thousandth."""
    with file.open("w", encoding="utf-8", newline="") as to:
        write_trace(arrivals, to)
    found = read_trace(file)
    assert found.bad == ()
    assert list(found.arrivals) == sorted(arrivals, key=lambda one: (one.submitted_ms, one.name))


@pytest.mark.parametrize("name", [path.name for path in sorted(SAMPLES.iterdir())])
def test_every_format_can_be_written(tmp_path: Path, name: str) -> None:
    """What is left out is left out."""
    whole = read_trace(SAMPLES / name)
    text = io.StringIO()
    write_trace(whole.arrivals, text)
    again = read(tmp_path, text.getvalue())
    assert again.arrivals == whole.arrivals
    assert STILL_RUNNING not in again.notes


def test_the_columns_are_ours() -> None:
    """A scenario reads them without being told."""
    from gpumax.formats.scenario_shapes import ARRIVAL_COLUMNS

    assert set(COLUMNS) <= set(ARRIVAL_COLUMNS)
