"""How far something is, told to who has waited for two seconds: a line on a terminal, now and then one elsewhere."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import Final

import click

from gpumax.apps.cli.output import clean, say, span

PATIENCE_S: Final = 2.0
"""After this long somebody is told how far it is."""
EVERY_S: Final = 30.0
"""How often somebody who reads lines is told."""
_DRAWN_S: Final = 0.2
"""How often a line on a terminal is drawn anew."""


class Patient:
    """Told what is done, and which part of it; a context that leaves nothing on the screen."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._begun = time.monotonic()
        self._due = self._begun + PATIENCE_S
        self._what = ""
        self._since = self._begun
        self._shown = False

    def __enter__(self) -> Patient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def __call__(self, what: str, part: float) -> None:
        """So much of this is done, from 0 to 1."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._since = what, now
        if now < self._due or part >= 1:
            return
        left = f", about {span((now - self._since) * (1 - part) / part)} left" if part > 0.01 else ""
        text = clean(f"{what}: {part:.0%}{left}")
        if self._on:
            self._due, self._shown = now + _DRAWN_S, True
            click.echo(f"\r\x1b[K{text}", err=True, nl=False)
        else:
            self._due = now + EVERY_S
            say(text)

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            self._shown = False
            click.echo("\r\x1b[K", err=True, nl=False)
