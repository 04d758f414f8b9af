"""replay."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

import click

from gpumax.apps.cli.output import clean, say
from gpumax.words import plural

PATIENCE_S: Final = 2.0
"""After this long a person is told how far it is."""


@click.command()
@click.argument("journal", type=click.Path(path_type=Path))
@click.pass_context
def replay(context: click.Context, journal: Path) -> None:
    """Decide again what a journal holds, and compare byte for byte.

    JOURNAL is a file, the directory that it is in, or a server's data directory. Every decision that differs is a line
    of output; the exit code is then 1.
    """
    # Late, because the command line must start without NumPy.
    from gpumax.formats.scalars import write_time
    from gpumax.loop.replay import replay as decide_again

    progress = _Progress()
    entries = differences = 0
    for verdict in decide_again(journal):
        progress.show(verdict.number)
        where = f"{verdict.file}:{verdict.line}"
        if verdict.torn:
            progress.clear()
            say(f"{where}: the last line is torn, as a killed server leaves it; passed over")
            continue
        entries += 1
        if verdict.difference:
            differences += 1
            progress.clear()
            at = "" if verdict.at_ms is None else f" of {write_time(verdict.at_ms)}"
            by = f", decided by gpumax {verdict.gpumax}" if verdict.gpumax else ""
            click.echo(f"entry {verdict.number}{at} ({where}{by}): {clean(verdict.difference)}")
    progress.clear()
    if differences:
        verb = "differs" if differences == 1 else "differ"
        say(f"{differences} of {plural(entries, 'decision')} {verb}")
        context.exit(1)
    say(f"{plural(entries, 'decision')}, each the same again" if entries else "no decisions in it")


class _Progress:
    """A line on the terminal that says how far it is."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()
        self._due = time.monotonic() + PATIENCE_S
        self._shown = False

    def show(self, number: int) -> None:
        """So many entries were read; said five times a second at most."""
        if self._on and time.monotonic() >= self._due:
            self._due = time.monotonic() + 0.2
            self._shown = True
            click.echo(f"\r{plural(number, 'decision')}", err=True, nl=False)

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            self._shown = False
            click.echo("\r\x1b[K", err=True, nl=False)
