"""trace inspect, trace convert."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, TypeVar

import click

from gpumax.apps.cli.lazy import Guessing
from gpumax.apps.cli.output import (
    Column,
    Item,
    clean,
    emit_document,
    number,
    on_terminal,
    say,
    span,
    table,
    terminal_width,
)
from gpumax.apps.cli.plot import plot
from gpumax.apps.cli.study_files import Named
from gpumax.errors import GpumaxError, Refused
from gpumax.words import plural

if TYPE_CHECKING:
    from gpumax.model.trace import Trace
    from gpumax.traces.collect import Wish
    from gpumax.traces.inspect import Inspection

Command = TypeVar("Command", bound=Callable[..., Any])

# As in formats.scenario_shapes, which is too much to import for a --help.
FORMATS: Final = ("csv", "slurm", "philly", "openb", "helios", "kubernetes", "journal")
_WIDEST: Final = 100


@click.group("trace", cls=Guessing)
def trace() -> None:
    """Traces of other clusters: what came, when, and for how long it ran."""


def _columns(_context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """OURS=THEIRS, several times."""
    from gpumax.formats.scenario_shapes import ARRIVAL_COLUMNS

    found = {}
    for value in values:
        ours, sign, theirs = value.partition("=")
        if not sign or ours not in ARRIVAL_COLUMNS:
            raise click.BadParameter(
                f"{value!r} is no OURS=THEIRS; ours are {', '.join(ARRIVAL_COLUMNS)}", param=parameter
            )
        found[ours] = theirs
    return found


def _between(
    _context: click.Context, parameter: click.Parameter, values: tuple[str, str] | None
) -> tuple[int, int] | None:
    """Two days, or moments."""
    from gpumax.traces.cells import BadCell, moment

    if values is None:
        return None
    try:
        first, last = (moment("", value) for value in values)
    except BadCell as bad:
        raise click.BadParameter(f"found {bad.found}; wanted {bad.wanted}", param=parameter) from None
    if first >= last:
        raise click.BadParameter("the first moment is not before the second", param=parameter)
    return first, last


def _source_options(command: Command) -> Command:
    """What both commands need to read a file."""
    for add in (
        click.option(
            "--on-bad-row", type=click.Choice(("skip", "stop")), default="skip", show_default=True,
            help="Leave a row that can't be used out and count it, or refuse the file.",
        ),
        click.option(
            "--between", nargs=2, metavar="FIRST LAST", callback=_between,
            help="Look at this time alone: from a day or moment until before another one.",
        ),
        click.option(
            "--column", "columns", multiple=True, metavar="OURS=THEIRS", callback=_columns,
            help="What a CSV calls one of our columns; may be repeated. Of the others its first line is to say it; `OURS=`: there is none.",
        ),
        click.option(
            "--format", "format_", type=click.Choice(FORMATS), metavar="NAME",
            help=f"What the file is; unset: as its beginning tells. One of {', '.join(FORMATS)}.",
        ),
        click.argument("file", metavar="FILE", type=Named(path_type=str)),
    ):  # fmt: skip
        command = add(command)
    return command


def _read(file: str, format_: str | None, columns: dict[str, str], wish: Wish) -> tuple[str, Trace]:
    from gpumax.traces.read import read_known

    if columns and format_ not in (None, "csv"):
        raise click.UsageError(f"--column is for tables of one's own; --format {format_} has its columns")
    if file == "-" and sys.stdin.isatty():
        raise click.UsageError("FILE is standard input; pipe a trace in")
    known, read = read_known(file, format_ or "", columns, wish)
    if read.bad and not read.arrivals and not wish.between:
        first = read.bad[0]
        raise Refused(
            f"{clean(file)}: not one row can be used as {known}; the first: line {first.row}: "
            f"found {clean(first.found)}; wanted {clean(first.wanted)}"
        )
    return known, read


@trace.command("inspect", short_help="What is in one, and what is odd about it.")
@_source_options
@click.option(
    "-o", "--output", type=click.Choice(("table", "json", "yaml")), default="table", metavar="FORMAT",
    help="How to print it: table, json or yaml.",
)  # fmt: skip
def inspect_command(
    file: str, format_: str | None, columns: dict[str, str], between: tuple[int, int] | None,
    on_bad_row: str, output: str,
) -> None:  # fmt: skip
    """What is in a trace: spans, sizes, tenants, the load that it would be, and what is odd about it.

    FILE is a CSV, what `sacct --parsable2` or `kubectl get pods -A -o json` printed, a published trace (Philly, openb, Helios), or a
    journal of gpumax; packed with gzip or not; `-` reads standard input.

    \b
      gpumax trace inspect jobs.csv --column submitted=created_at --column gpu=gpus
    """
    # Late, because the command line must start without NumPy.
    from gpumax.traces.collect import Wish
    from gpumax.traces.inspect import inspect

    wish = Wish(on_bad_row="stop" if on_bad_row == "stop" else "skip")
    found, read = _read(file, format_, columns, wish)
    inspection = inspect(read, found, between)
    if output != "table":
        emit_document(_document(inspection), output)
        return
    for text in _parts("standard input" if file == "-" else file, inspection):
        click.echo(text)


def _document(found: Inspection) -> Item:
    """As JSON: moments in RFC 3339."""
    import msgspec

    from gpumax.formats.scalars import write_time

    document: Item = msgspec.to_builtins(found)
    for key in ("first", "last"):
        document[key] = write_time(document.pop(f"{key}_ms")) if found.workloads else None
    return document


def _parts(name: str, found: Inspection) -> Iterator[str]:
    """Paragraphs, divided by empty lines."""
    from gpumax.units import format_duration

    yield clean(f"{name}: {found.format}, {plural(found.rows, 'row')}, {plural(found.workloads, 'workload')}")
    if found.pooled is not None:
        first, last = _moment(found.first_ms), _moment(found.last_ms)
        yield f"came from {first} to {last}, {format_duration(found.last_ms - found.first_ms)}"
        times = found.duration_s
        yield (
            f"ran for {span(times.mean)} on average, half of them for {span(times.p50)} or less, 1 in 100 for {span(times.p99)} or more, "
            f"{span(times.max)} at most"
        )
        yield "\nGPUs in use if all of it ran on arrival"
        width = min(terminal_width(), _WIDEST)
        yield "\n".join(plot(found.load_over_time, (first[:10], last[:10]), width, blocks=on_terminal()))
        yield f"\n{table(_loads(found), _LOAD)}"
        yield f"\n{table([_item(size) for size in found.sizes], _SIZES)}"
    if found.says:
        yield "\n" + "\n".join(found.says)
    if found.odd:
        yield "\n" + "\n".join(f"- {clean(sentence)}" for sentence in found.odd)


def _moment(ms: int) -> str:
    """A moment; of a trace that counts from its own beginning, how far in it is."""
    from gpumax.formats.scalars import write_time
    from gpumax.traces.oddities import dated
    from gpumax.units import format_duration

    return write_time(ms) if dated(ms) else format_duration(ms)


def _loads(found: Inspection) -> list[Item]:
    rows = [{**_item(load), "tenant": load.tenant or "(none)"} for load in found.tenants]
    return [*rows, {**_item(found.pooled), "tenant": "all, pooled"}]


def _item(row: object) -> Item:
    import msgspec

    return dict(msgspec.to_builtins(row))


def _count(key: str, digits: int = 0) -> Callable[[Item], str]:
    """A number, in a column that lines up at its right."""

    def text(item: Item) -> str:
        value = item[key]
        if isinstance(value, float) and value < 10 and not digits:
            return number(round(value, 2))
        return f"{value:,.{digits}f}"

    return text


_LOAD: Final = (
    Column("TENANT", lambda item: str(item["tenant"])),
    Column("WORKLOADS", _count("workloads")),
    Column("GPU HOURS", _count("gpu_hours")),
    Column("MEAN GPUS", _count("mean")),
    Column("P95", _count("p95")),
    Column("P99", _count("p99")),
    Column("MOST", _count("max")),
)
_SIZES: Final = (
    Column("GPUS", lambda item: str(item["gpus"])),
    Column("WORKLOADS", _count("workloads")),
    Column("GPU HOURS", _count("gpu_hours")),
)


@trace.command("convert", short_help="Write one as a CSV.")
@_source_options
@click.option(
    "-o",
    "--out",
    type=Named(path_type=str),
    default="-",
    metavar="FILE",
    help="Where to; unset: standard output. .gz is packed.",
)
def convert_command(
    file: str, format_: str | None, columns: dict[str, str], between: tuple[int, int] | None,
    on_bad_row: str, out: str,
) -> None:  # fmt: skip
    """Write a trace as a CSV that scenarios read as it is.

    \b
      gpumax trace convert sacct.txt -o jobs.csv
    """
    from gpumax.traces.collect import Wish
    from gpumax.traces.names import renamed_in_words
    from gpumax.traces.write import write_trace

    wish = Wish(between=between, on_bad_row="stop" if on_bad_row == "stop" else "skip")
    _, read = _read(file, format_, columns, wish)
    with _written(out) as to:
        write_trace(read.arrivals, to)
    for sentence in renamed_in_words(read.renamed):
        say(clean(sentence))
    bad = f"; {plural(read.bad_rows, 'row')} could not be used" if read.bad_rows else ""
    say(f"{plural(len(read.arrivals), 'workload')} of {plural(read.rows, 'row')}{bad}")


@contextmanager
def _written(out: str) -> Iterator[TextIO]:
    """A file to write to."""
    if out == "-":
        yield sys.stdout
        return
    import gzip
    import io

    try:
        raw = Path(out).open("wb")  # noqa: SIM115 - opening is one thing, writing another
    except OSError as error:
        raise Refused(f"can't write {out}: {(error.strerror or str(error)).lower()}") from None
    try:
        # Without a moment in it: equal traces make equal files.
        packed = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if out.endswith(".gz") else raw
        with raw, io.TextIOWrapper(packed, encoding="utf-8", newline="") as text:
            yield text
    except OSError as error:
        # No fault of whoever named the file: as where standard output can't be written.
        raise GpumaxError(f"can't write {out}: {(error.strerror or str(error)).lower()}") from None
