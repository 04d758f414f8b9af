"""The one door to traces: a file of any known format becomes arrivals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from gpumax.model.trace import Trace
from gpumax.traces.collect import Collector, Wish
from gpumax.traces.columns import read_columns
from gpumax.traces.openb import is_openb, read_openb
from gpumax.traces.source import Source, opened
from gpumax.traces.table import header

_CUT: Final = "has no end and may be cut off; it is the last line"

Reader = Callable[..., None]
"""Gives what a source holds to a collector."""

_READERS: Final[dict[str, Reader]] = {"openb": read_openb}
_TABLES: Final[dict[str, Callable[[list[str]], bool]]] = {"openb": is_openb}


def read_trace(
    path: Path | str, format: str = "", columns: Mapping[str, str] | None = None, wish: Wish | None = None
) -> Trace:
    """The work that a file tells of. format: empty where the file is to say it. columns: ours to theirs, of a table.

    BadFile for what is no trace, or where the wish is to stop at bad rows and there are any.
    """
    wish = wish or Wish()
    with opened(path) as source:
        format = format or ("csv" if columns else detected(source))
        collector = Collector(source.name, wish)
        if format == "csv":
            read_columns(source, columns or {}, collector, timed=wish.timed)
        else:
            _READERS[format](source, collector, timed=wish.timed)
        if not source.ended and not source.torn:
            collector.note(_CUT)
        return collector.trace()


def detected(source: Source) -> str:
    """The format that the beginning of a file tells of."""
    names = header(source)
    return next((format for format, fits in _TABLES.items() if fits(names)), "csv")
