"""Pictures that are drawn again when something happens."""

from __future__ import annotations

import time
from collections.abc import Callable

from gpumax.apps.cli.client import Api
from gpumax.apps.cli.output import clear_screen, on_terminal, say


def redraw(api: Api, draw: Callable[[], None]) -> None:
    """Draw, and draw again whenever something happened, at most five times a second, until interrupted."""
    from gpumax.apps.cli.stream import Pulse

    pulse = Pulse(api, notice=say)
    # Ages go on while nothing happens; only a person wants to see that.
    patience_s = 10.0 if on_terminal() else None
    first = True
    while True:
        if not first or on_terminal():
            clear_screen()
        draw()
        first = False
        time.sleep(0.2)
        pulse.wait(patience_s)
