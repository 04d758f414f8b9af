"""Pictures that are drawn again when something happens."""

from __future__ import annotations

import time
from collections.abc import Callable

from gpumax.apps.cli.client import Api, Item
from gpumax.apps.cli.output import clear_screen, on_terminal, say
from gpumax.errors import Unreachable

PAUSE_S = 0.2
"""Between two pictures at least."""


def redraw(api: Api, fetch: Callable[[], Item], draw: Callable[[Item], None]) -> None:
    """Fetch and draw, again whenever something happened, at most five times a second, until interrupted.

    Waits for a server that restarts; Unreachable when it is gone for too long.
    """
    from gpumax.apps.cli.stream import Pulse

    pulse = Pulse(api, notice=say)
    # Ages go on while nothing happens; only a person wants to see that.
    patience_s = 10.0 if on_terminal() else None
    first = True
    while True:
        try:
            answer = fetch()
        except Unreachable:
            pulse.wait(1.0)
            continue
        if not first or on_terminal():
            clear_screen()
        draw(answer)
        first = False
        time.sleep(PAUSE_S)
        pulse.wait(patience_s)
