"""Who takes over where a broker is killed and nobody else watches over it: a process that waits for its end, and becomes the next one.

Each sees to it that the other is there, so only who ends both at once ends them. It imports next to nothing, because it does nothing else.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path


class Heir:
    """The broker's view of it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pid = 0

    def see_to_it(self) -> None:
        """Have one. OSError where the system has no room for a process."""
        if self._pid and os.waitpid(self._pid, os.WNOHANG) == (0, 0):
            return
        command = [
            sys.executable, "-P", "-m", "gpumax.broker.heir", str(os.getpid()), str(self._directory),
            *sys.orig_argv[1:],
        ]  # fmt: skip
        self._pid = os.posix_spawn(sys.executable, command, os.environ, setsid=True)

    def dismiss(self) -> None:
        """The broker ends in good order: nobody takes over."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0


def main() -> None:
    broker, directory, command = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    _await(broker)
    if any((directory / "groups").glob("*.json")):
        os.execv(sys.executable, [sys.executable, *command])  # noqa: S606


def _await(broker: int) -> None:
    """Until our parent has ended: it may have before we began."""
    try:
        end = os.pidfd_open(broker)
    except ProcessLookupError:
        return
    if os.getppid() == broker:
        poll = select.poll()
        poll.register(end, select.POLLIN)
        poll.poll()
    os.close(end)


if __name__ == "__main__":
    main()
