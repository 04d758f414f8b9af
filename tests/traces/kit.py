"""What tests of traces share: bytes in, a trace out."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

from gpumax.model.trace import Trace
from gpumax.traces.collect import Wish
from gpumax.traces.read import read_trace

SAMPLES = Path(__file__).parent / "samples"
HEAD = "name,submitted,duration,gpu,queue\n"


def read(folder: Path, data: str | bytes, format: str = "", **wish: Any) -> Trace:
    """The trace of a file with these bytes."""
    path = folder / "trace"
    path.write_bytes(data if isinstance(data, bytes) else dedent(data).encode("utf-8", "surrogateescape"))
    return read_trace(path, format, None, Wish(**wish))


def bad(trace: Trace) -> list[tuple[int, str, str, str]]:
    """The rows that were left out: line, column, what was found, what was wanted."""
    return [(row.row, row.column, row.found, row.wanted) for row in trace.bad]
