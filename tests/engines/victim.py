"""A server that will be killed: it starts and stops attempts as it reads them, and can be told to die within a start.

    python victim.py DATA [before-spawn|after-spawn]

reads lines `start ATTEMPT LINE` and `stop ATTEMPT`, and answers each with `done`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from engine_kit import Machine
from gpumax.engines.local import attempt as attempts
from gpumax.engines.local.spawn import spawn


def die(*_: object) -> int:
    """kill -9 of ourselves."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def say(word: str) -> None:
    """A line to whoever gives the orders."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main() -> None:
    """Obey until the input ends."""
    machine = Machine(Path(sys.argv[1]))
    point = sys.argv[2] if len(sys.argv) > 2 else ""
    points = {"before-spawn": die, "after-spawn": lambda *arguments: die(spawn(*arguments))}
    if point:
        vars(attempts)["spawn"] = points[point]
    say("ready")
    for order in sys.stdin:
        verb, attempt, *line = order.rstrip("\n").split(" ", 2)
        if verb == "start":
            machine.start(attempt, *line)
        else:
            machine.stop(attempt)
        say("done")


if __name__ == "__main__":
    main()
