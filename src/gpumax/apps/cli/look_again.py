"""Pictures that are drawn again when something happens."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import click

from gpumax.apps.cli.client import Api, Item
from gpumax.apps.cli.output import say
from gpumax.errors import Unreachable

PAUSE_S: Final = 0.2
"""Between two pictures at least."""

PATIENCE_S: Final = 10.0
"""Ages go on while nothing happens; a person wants to see that."""


def present(
    fetch: Callable[[], Item], draw: Callable[[Item], str], *, watch: Api | None, empty: str = "",
    patience_s: float = PATIENCE_S,
) -> None:  # fmt: skip
    """Print a picture of what is there. watch: again whenever something happens on this server, until interrupted.

    empty: what to say where there is nothing to draw. patience_s: how long a picture on a terminal stays where nothing happens.
    """
    if watch is not None:
        _redraw(watch, fetch, lambda answer: draw(answer) or empty, patience_s)
    elif text := draw(fetch()):
        click.echo(text)
    elif empty:
        say(empty)


def _redraw(api: Api, fetch: Callable[[], Item], draw: Callable[[Item], str], patience_s: float) -> None:
    """At most five pictures a second. Waits for a server that restarts; Unreachable when it is gone for too long."""
    from gpumax.apps.cli.screen import Screen
    from gpumax.apps.cli.stream import Pulse

    pulse = Pulse(api, notice=say)
    with Screen() as screen:
        while True:
            try:
                answer = fetch()
            except Unreachable:
                pulse.wait(1.0)
                continue
            screen.show(draw(answer))
            time.sleep(PAUSE_S)
            pulse.wait(patience_s if screen.live else None)
