"""A picture that takes the place of the last one."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Final

import click

from gpumax.apps.cli.output import on_terminal
from gpumax.words import plural

_BEGIN: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l"
"""The terminal's second page, no cursor, and no wrapping of lines that are too long."""

_END: Final = "\x1b[?7h\x1b[?25h\x1b[?1049l"


class Screen:
    """Draws pictures on a terminal, each over the last one; the last one stays when it is over.

    Where nobody looks, or the terminal can't, an empty line divides the pictures.
    """

    def __init__(self) -> None:
        self.live = on_terminal() and os.environ.get("TERM") not in (None, "", "dumb")
        self._last = ""

    def __enter__(self) -> Screen:
        if self.live:
            click.echo(_BEGIN, nl=False)
        return self

    def show(self, picture: str) -> None:
        """Draw this one."""
        # First, because Ctrl-C may come while it is drawn.
        before, self._last = self._last, picture
        if not self.live:
            click.echo(f"\n{picture}" if before else picture)
        else:
            lines = fitted(picture.splitlines(), os.get_terminal_size(sys.stdout.fileno()).lines)
            click.echo("\x1b[H" + "".join(f"\x1b[2K{line}\n" for line in lines) + "\x1b[J", nl=False)

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self.live:
            click.echo(_END, nl=False)
            if self._last:
                click.echo(self._last)


def fitted(lines: list[str], height: int) -> list[str]:
    """As many lines as a terminal shows; the last one tells how many are left out. One row is for the cursor."""
    room = max(height - 1, 2)
    if len(lines) <= room:
        return lines
    return [*lines[: room - 1], f"... {plural(len(lines) - room + 1, 'more line')}"]
