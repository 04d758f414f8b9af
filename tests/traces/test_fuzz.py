"""Whatever bytes a trace is made of, reading it gives arrivals and bad rows in words, or refuses in words; nothing else."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpumax.errors import BadFile
from gpumax.formats.scenario_shapes import TRACE_FORMATS, Table
from gpumax.model.trace import Trace
from gpumax.traces.cluster import read_nodes, read_queues
from gpumax.traces.collect import Wish
from gpumax.traces.read import read_trace
from traces.kit import SAMPLES

_SOME = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
_ODD = (
    b"", b"-1", b"nan", b"1e999", b"9" * 400, b"\"", b"\n", b"\r", b",", b"|", b"\xff", b"\xe2\x80\xa8", b"{", b"]", b"null", b"[[",
    b"1_000", b"\xd9\xa3", b"Unknown", b"0x10", b"99999-99:99:99", b"9999-12-31", b"true", b"\\ud800",
)  # fmt: skip
_NAMES = tuple(path.name for path in sorted(SAMPLES.iterdir()))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is written anew for each example."""
    return tmp_path_factory.mktemp("fuzz") / "trace"


def _in_words(refused: BadFile) -> None:
    """Every fault tells what was found and what was wanted, on one line."""
    assert refused.faults
    for fault in refused.faults:
        assert fault.found
        assert fault.wanted
        assert str(fault).isprintable()


def _try(file: Path, data: bytes, format: str = "", *, timed: bool = True) -> Trace | None:
    """What a file is read as; None where it is refused. Faults, bad rows and notes are words on one line."""
    file.write_bytes(data)
    try:
        trace = read_trace(file, format, None, Wish(timed=timed))
    except BadFile as refused:
        _in_words(refused)
        return None
    for row in trace.bad:
        assert row.row >= 1
        assert row.found
        assert row.wanted
        assert f"{row.column}{row.found}{row.wanted}".isprintable()
    assert len(trace.bad) <= trace.bad_rows <= trace.rows
    for arrival in trace.arrivals:
        assert arrival.submitted_ms >= 0
        assert arrival.duration_ms >= 0
        assert 0 < arrival.milli <= 1000
        assert min(arrival.devices, arrival.cpu_milli, arrival.memory_mib, arrival.gpu_memory_mib) >= 0
        assert f"{arrival.name}{arrival.queue}{arrival.user}{arrival.models}".isprintable()
    assert list(trace.arrivals) == sorted(trace.arrivals, key=lambda one: (one.submitted_ms, one.name))
    return trace


@_SOME
@given(data=st.binary(max_size=400), format=st.sampled_from(("", *TRACE_FORMATS)))
def test_any_bytes(file: Path, data: bytes, format: str) -> None:
    """Of any format."""
    _try(file, data, format)


@st.composite
def _spoiled(draw: st.DrawFn) -> bytes:
    """A sample with parts cut, doubled, or replaced by something odd."""
    data = (SAMPLES / draw(st.sampled_from(_NAMES))).read_bytes()
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 40)))
        data = data[:start] + draw(st.sampled_from((*_ODD, data[start:end] * 2))) + data[end:]
    return data


@_SOME
@given(data=_spoiled(), timed=st.booleans())
def test_spoiled_samples(file: Path, data: bytes, timed: bool) -> None:
    """Known by what is left of their beginning, or named."""
    _try(file, data, timed=timed)


def test_a_cell_that_is_far_too_long(file: Path) -> None:
    """No reader of tables takes it; the rows around it are read."""
    for long in (b"1" * 140_000, b'"' + b"\n" * 140_000):
        trace = _try(file, b"submitted,duration,gpu\n0,60,1\n0," + long + b",1\n5,60,1\n")
        assert trace is not None
        assert trace.bad_rows >= 1
        assert len(trace.arrivals) >= 1


@_SOME
@given(data=_spoiled(), format=st.sampled_from(TRACE_FORMATS))
def test_a_sample_under_another_name(file: Path, data: bytes, format: str) -> None:
    """A table as JSON, JSON as a table."""
    _try(file, data, format)


@_SOME
@given(data=_spoiled(), cut=st.integers(1, 2000), flipped=st.integers(0, 2000))
def test_packed_files_that_are_broken(file: Path, data: bytes, cut: int, flipped: int) -> None:
    """Cut off, or with a byte that is another."""
    packed = bytearray(gzip.compress(data, mtime=0))
    packed[flipped % len(packed)] ^= 0x55
    _try(file, bytes(packed))
    _try(file, gzip.compress(data, mtime=0)[: max(1, len(packed) - cut)])


_TABLES = (
    b"name,pool,cpu,cpu_milli,memory,memory_mib,devices,model,gpu_memory\nh1,p,4,,1Gi,,8,H100,80Gi\nh2,,,64000,,262144,2,P100,\n",
    b"name,nodes,gpu,parent,priority,weight\nall,,,,,\na,4,,all,100,2\nb,,0.5,all,,\n",
)


@_SOME
@given(data=st.data())
def test_tables_of_clusters(file: Path, data: st.DataObject) -> None:
    """Nodes and queues are there, or refused in words."""
    text = data.draw(st.sampled_from(_TABLES))
    for _ in range(data.draw(st.integers(0, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 10)))
        text = text[:start] + data.draw(st.sampled_from(_ODD)) + text[end:]
    file.write_bytes(text)
    for read in (read_nodes, read_queues):
        try:
            assert read(file, Table("x"))
        except BadFile as refused:
            _in_words(refused)
