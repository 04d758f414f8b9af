"""How far a study is: a bar with the time that is left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from gpumax.apps.cli.output import clean, say, span
from gpumax.words import plural

if TYPE_CHECKING:
    from gpumax.study.run import Step, Turn, Watch

EVERY_S: Final = 30.0
"""How often somebody who reads lines is told how far it is."""

_NAMES: Final = 2
"""Runs that a bar names."""


@contextmanager
def shown(turns: Sequence[Turn]) -> Iterator[Watch]:
    """Whom a study tells how far its runs are."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _bar(turns) as watch:
            yield watch
    else:
        yield Lines(turns)


class Lines:
    """Says when a run ends, and now and then how far all of them are."""

    def __init__(
        self,
        turns: Sequence[Turn],
        tell: Callable[[str], None] = say,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._turns = turns
        self._tell = tell
        self._clock = clock
        self._start = self._told = clock()
        self._begun: dict[int, float] = {}
        self._far = Far(len(turns))

    def __call__(self, step: Step) -> None:
        """Note a step."""
        now = self._clock()
        begun = self._begun.setdefault(step.number, now)
        self._far.note(step)
        if step.end is not None:
            self._told = now
            self._tell(
                clean(f"{self._turns[step.number]}: {_ended(step.end, now - begun)} ({self._far.words()})")
            )
        elif now >= self._told + EVERY_S:
            self._told = now
            left = self._far.left_s(now - self._start)
            about = "" if left is None else f", about {span(left)} left"
            self._tell(f"{self._far.part:.0%} done, {self._far.words()}{about}")


class Far:
    """How far all runs are together."""

    def __init__(self, turns: int) -> None:
        self._parts = [0.0] * turns
        self.ended = 0

    def note(self, step: Step) -> None:
        """A step of one of them."""
        self._parts[step.number] = step.part
        self.ended += step.end is not None

    @property
    def part(self) -> float:
        """0 to 1."""
        return sum(self._parts) / max(len(self._parts), 1)

    def words(self) -> str:
        """So many of all."""
        return f"{self.ended} of {plural(len(self._parts), 'run')}"

    def left_s(self, spent_s: float) -> float | None:
        """Seconds that are left if it goes on so; None: too early to say."""
        return spent_s * (1 - self.part) / self.part if self.part > 0.01 else None


def _ended(end: Any, seconds: float) -> str:
    """What became of a run."""
    error = getattr(end, "error", None)
    if error is not None:
        return f"broke: {error}"
    return f"{'done' if end.finished else 'stopped'} after {span(seconds)}"


@contextmanager
def _bar(turns: Sequence[Turn]) -> Iterator[Watch]:
    # Late, because only a terminal needs it.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.table import Column

    far, running = Far(len(turns)), dict[int, str]()
    columns = (
        # The words give way where the terminal is narrow, never the time that is left.
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
        BarColumn(20), TaskProgressColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    console = Console(stderr=True)
    with Progress(*columns, console=console, expand=True, speed_estimate_period=600) as progress:
        task = progress.add_task(far.words(), total=1.0)

        def watch(step: Step) -> None:
            far.note(step)
            running[step.number] = clean(str(turns[step.number]))
            if step.end is not None:
                del running[step.number]
                if hasattr(step.end, "error"):
                    progress.console.print(
                        clean(f"{turns[step.number]}: {_ended(step.end, 0)}"), markup=False
                    )
            names = [*list(running.values())[:_NAMES], *(["..."] if len(running) > _NAMES else [])]
            description = ": ".join(filter(None, (far.words(), ", ".join(names))))
            progress.update(task, completed=far.part, description=description)

        yield watch
