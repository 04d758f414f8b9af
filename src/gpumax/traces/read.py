"""The one door to traces: a file of any known format becomes arrivals."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from gpumax.formats.parsed import refuse
from gpumax.loop.replay import files_of
from gpumax.model.trace import Trace
from gpumax.traces.collect import Collector, Wish
from gpumax.traces.columns import read_columns
from gpumax.traces.helios import is_helios, read_helios
from gpumax.traces.kubernetes import read_kubernetes
from gpumax.traces.openb import is_openb, read_openb
from gpumax.traces.own import read_journal
from gpumax.traces.philly import read_philly
from gpumax.traces.slurm import is_slurm, read_slurm
from gpumax.traces.source import Source, opened
from gpumax.traces.table import header

CUT: Final = "had no end (the last line; it may be cut off)"

Reader = Callable[..., None]
"""Gives what a source holds to a collector."""

_READERS: Final[dict[str, Reader]] = {
    "slurm": read_slurm,
    "philly": read_philly,
    "openb": read_openb,
    "helios": read_helios,
    "kubernetes": read_kubernetes,
}
_TABLES: Final[dict[str, Callable[[list[str]], bool]]] = {
    "slurm": is_slurm,
    "openb": is_openb,
    "helios": is_helios,
}
"""Tables that are known by their first lines."""
_KEYS: Final = (
    ("journal", re.compile(rb'^\{"version"\s*:\s*"gpumax/v1"\s*,\s*"gpumax"')),
    ("philly", re.compile(rb'"(attempts|submitted_time|jobid)"\s*:')),
    ("kubernetes", re.compile(rb'"(kind|apiVersion|metadata)"\s*:')),
)
"""JSON is known by the first of these that it holds."""


def read_trace(
    path: Path | str, format: str = "", columns: Mapping[str, str] | None = None, wish: Wish | None = None
) -> Trace:
    """The work that a file tells of. format: empty where the file is to say it. columns: ours to theirs, of a table.

    A journal may be a directory. BadFile for what is no trace, or where the wish is to stop at bad rows and there are any.
    """
    return read_known(path, format, columns, wish)[1]


def read_known(
    path: Path | str, format: str = "", columns: Mapping[str, str] | None = None, wish: Wish | None = None
) -> tuple[str, Trace]:
    """The same, with the format that it was read as."""
    wish = wish or Wish()
    collector = Collector("standard input" if str(path) == "-" else str(path), wish)
    if format == "journal" or (not format and str(path) != "-" and Path(path).is_dir()):
        return "journal", _read_journal(path, collector)
    with opened(path) as source:
        format = format or ("csv" if columns else detected(source))
        if format == "journal":
            return "journal", _read_journal(path, collector)
        if format == "csv":
            read_columns(source, columns or {}, collector, timed=wish.timed)
        else:
            _READERS[format](source, collector, timed=wish.timed)
        if not source.ended and not source.torn:
            collector.note(CUT)
    return format, collector.trace()


def _read_journal(path: Path | str, collector: Collector) -> Trace:
    if str(path) == "-":
        raise refuse("standard input", None, "a journal", "the file of a journal, or its directory")
    read_journal(files_of(Path(path)), collector, timed=collector.wish.timed)
    return collector.trace()


def is_journal(path: Path) -> bool:
    """Whether a path is that of a journal: its directory, or a file that begins like one. BadFile where nothing can be read."""
    if path.is_dir():
        return True
    with opened(path) as source:
        return _KEYS[0][1].match(source.head.lstrip()) is not None


def detected(source: Source) -> str:
    """The format that the beginning of a file tells of."""
    head = source.head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if head[:1] in (b"{", b"["):
        for format, key in _KEYS:
            if key.search(head):
                return format
        wanted = "a trace; --format names what it is"
        raise refuse(source.name, 1, "JSON of which the beginning tells nothing", wanted)
    names = header(source)
    return next((format for format, fits in _TABLES.items() if fits(names)), "csv")
