"""What a study leaves behind: its result, its report, its pictures."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from gpumax.apps.cli.output import Column, Item, clean, say, table
from gpumax.errors import GpumaxError, Refused
from gpumax.words import plural

if TYPE_CHECKING:
    from gpumax.model.study import Result

FORMATS: Final = ("table", "json", "html")
_FILES: Final = ("result.json", "report.html")
_SHARP: Final = 3
"""Points of a PNG for each point of its drawing: good for print."""


class Named(click.Path):
    """The path of something. An empty one, as of a variable that is unset, would be the directory that one is in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path."""
        if value == "":
            self.fail("an empty name; `.` is the directory that you are in", param, ctx)
        return super().convert(value, param, ctx)


def prepare(out: Path | None, plots: Path | None) -> None:
    """Make the folders, so that what can't be written is told before hours of work."""
    for folder, names in ((out, _FILES), (plots, ())):
        if folder is None:
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise Refused(f"{folder} is a file; name a directory") from None
        except OSError as error:
            raise Refused(
                f"can't make the directory {folder}: {(error.strerror or str(error)).lower()}"
            ) from None
        if not os.access(folder, os.W_OK | os.X_OK):
            raise Refused(f"can't write into {folder}: permission denied")
        # What pictures there will be is known when they are drawn.
        for file in (*(folder / name for name in names), *(() if names else folder.glob("*.svg"))):
            if file.is_dir():
                raise Refused(f"{file} is a directory; a file of that name is to be written")


@contextmanager
def stoppable() -> Iterator[None]:
    """What a batch system sends before it kills is as good as Ctrl-C: what is done is kept."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def show(result: Result, format_: str) -> None:
    """Print it."""
    # Late, because the command line must start without all that draws.
    from gpumax.formats.result import encode_result
    from gpumax.study.report import page
    from gpumax.study.report.figures import again
    from gpumax.study.report.groups import groups
    from gpumax.study.report.headline import headline
    from gpumax.study.report.lacking import notes

    if format_ == "json":
        click.echo(encode_result(result), nl=False)
    elif format_ == "html":
        click.echo(page(result), nl=False)
    elif result.runs:
        found = groups(result)
        click.echo(_table(result))
        if result.protocol == "replay":
            for note in (*notes(found), *filter(None, (again(found),))):
                say(clean(f"note: {note}"))
        say(clean(headline(result, found)))


def keep(result: Result, out: Path | None, plots: Path | None) -> None:
    """Write result, report and pictures, each as a whole or not at all."""
    from gpumax.formats.result import encode_result
    from gpumax.study import report

    if out is not None:
        data, drawn = (out / name for name in _FILES)
        write_whole(data, encode_result(result))
        write_whole(drawn, report.page(result).encode())
        say(f"wrote {data} and {drawn}")
    if plots is not None:
        _pictures(result, plots)


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file as a whole."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_bytes(content)
        fresh.replace(path)
    except OSError as error:
        raise GpumaxError(f"can't write {path}: {(error.strerror or str(error)).lower()}") from None
    finally:
        with suppress(OSError):
            fresh.unlink()


def _pictures(result: Result, folder: Path) -> None:
    from gpumax.study import report

    pictures = dict(report.plots(result))
    for name, drawing in pictures.items():
        write_whole(folder / f"{name}.svg", drawing.encode())
    try:
        from resvg_py import svg_to_bytes
    except ImportError:
        say(
            f"wrote {plural(len(pictures), 'picture')} to {folder} as SVG; for PNG beside them: pip install resvg-py"
        )
        return
    for name, drawing in pictures.items():
        write_whole(folder / f"{name}.png", bytes(svg_to_bytes(svg_string=drawing, zoom=_SHARP)))
    say(f"wrote {plural(len(pictures), 'picture')} to {folder} as SVG and PNG")


def _table(result: Result) -> str:
    """A line a run, with the figures that are looked at first."""
    from gpumax.study.report.figures import glance

    def text(number: int) -> Column:
        column = columns[number]
        return Column(column.title.upper(), lambda item: column.value(item["run"]))

    columns = glance(result)
    heads = [
        Column("POLICY", lambda item: item["run"].policy + ("" if item["run"].finished else " (stopped)")),
        Column("SEED", lambda item: str(item["run"].seed)),
        Column("GPUS", lambda item: f"{item['run'].gpus:,}"),
    ]
    items: list[Item] = [{"run": run} for run in result.runs]
    return table(items, [*heads, *(text(number) for number in range(len(columns)))])
