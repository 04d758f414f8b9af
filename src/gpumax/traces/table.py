"""Tables as text: the first line names the columns, every row knows its line."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from gpumax.errors import BadFile, Fault
from gpumax.formats.lines import quote
from gpumax.traces.source import Source
from gpumax.words import plural

Row = dict[str, str]
"""Texts by our columns."""

Report = Callable[[int, str, str, str], None]
"""Takes a row that is none: its line, its column, what was found, what was wanted."""

_DELIMITERS: Final = (",", "|", "\t", ";")


def header(source: Source) -> list[str]:
    """The names of the columns, from the first bytes of a file."""
    line = _first_line(source)
    return [name.strip() for name in next(csv.reader([line], delimiter=_delimiter(line)), [])]


def _first_line(source: Source) -> str:
    first = source.head.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n").splitlines()
    return first[0].decode("utf-8", "replace") if first else ""


def _delimiter(line: str) -> str:
    """What divides the columns of a first line."""
    return max(_DELIMITERS, key=line.count)


def picked(source: Source, columns: Mapping[str, str], report: Report) -> Iterator[tuple[int, Row]]:
    """The rows as texts by our columns. columns: ours to theirs. BadFile where one isn't there."""
    faults = unknown(source, columns)
    if faults:
        raise BadFile(faults, source.name)
    names = header(source)
    places = [(ours, names.index(theirs.strip())) for ours, theirs in columns.items()]
    for line, row in rows(source, report):
        yield line, {ours: row[place] for ours, place in places}


def unknown(source: Source, columns: Mapping[str, str]) -> list[Fault]:
    """Every one of their columns that isn't there, or there twice."""
    names = header(source)
    faults = []
    for ours, theirs in columns.items():
        found = names.count(theirs.strip())
        if found != 1:
            what = "no such column" if not found else f"{found} columns of this name"
            wanted = f"one of {', '.join(quote(name) for name in names[:20])}"
            faults.append(Fault(quote(theirs) + (f" for {ours}" if ours != theirs else ""), 1, what, wanted))
    return faults


def rows(source: Source, report: Report) -> Iterator[tuple[int, list[str]]]:
    """Each row under the header, with the line on which it begins. Rows that are none are reported."""
    width = 0
    # A row waits for the next one: only the last may be cut off.
    waiting: tuple[int, list[str]] | None = None
    for line, row in _read(source, report):
        if waiting is not None:
            if len(waiting[1]) == width:
                yield waiting
            else:
                _report_width(waiting, width, report)
        elif not width:
            width = len(row)
            continue
        waiting = (line, row)
    if source.torn:
        yield from _torn(waiting, width, source, report)
    elif waiting is not None and len(waiting[1]) == width:
        yield waiting
    elif waiting is not None and not source.ended:
        report(waiting[0], "", "a line that breaks off", "a whole one")
    elif waiting is not None:
        _report_width(waiting, width, report)


def _torn(
    last: tuple[int, list[str]] | None, width: int, source: Source, report: Report
) -> Iterator[tuple[int, list[str]]]:
    """The last row of a packed file that breaks off, where it is whole. The row in which it does is one bad row, however bad."""
    line = last[0] if last else 1
    if last is not None and source.ended:
        line += 1
        if len(last[1]) == width:
            yield last
        else:
            _report_width(last, width, report)
    report(line, "", f"a .gz file that breaks off ({source.torn})", "a whole one")


def _report_width(row: tuple[int, list[str]], width: int, report: Report) -> None:
    report(row[0], "", plural(len(row[1]), "cell"), f"{width}, as in the first line")


def _read(source: Source, report: Report) -> Iterator[tuple[int, list[str]]]:
    divider = _delimiter(_first_line(source))
    # Slurm, which writes bars, quotes nothing.
    lines = source.lines()
    bars = divider == "|"
    reader = (
        csv.reader(lines, delimiter=divider, quoting=csv.QUOTE_NONE)
        if bars
        else csv.reader(lines, delimiter=divider)
    )
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            report(line, "", f"a row that can't be read ({error})", "a row of the table")
            continue
        if any(row) and any(cell.strip() for cell in row):
            yield line, row
