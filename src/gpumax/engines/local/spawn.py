"""How a supervisor is started: fast, apart from us, and with nothing of a secret on its command line or on disk."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from pathlib import Path
from typing import Final

import gpumax
from gpumax.engines.local.files import LOCK_FD, UP_FD

SOURCE: Final = str(Path(gpumax.__file__).parents[1])
# Behind the standard library, so that nothing beside gpumax can take the place of a module of it.
CODE: Final = (
    "import sys; sys.path.append(sys.argv.pop(1)); from gpumax.engines.local.supervisor import main; main()"
)
NOT_YET: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that wait until the supervisor is ready for them."""

KEPT: Final = ("LD_LIBRARY_PATH",)  # some interpreters don't start without it


def spawn(directory: Path, launch: bytes, lock: int, up: int) -> int:
    """Start the supervisor of the attempt in `directory`: its process id. OSError where that fails.

    launch: its standard input, complete before it starts, so that our end in between can't cut it short.
    lock, up: file descriptors that it goes on holding.
    """
    source = os.memfd_create("launch", os.MFD_CLOEXEC)
    errors = os.open(directory / "errors", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(os.dup(source), "wb") as file:
            file.write(launch)
        os.lseek(source, 0, os.SEEK_SET)
        handed = {0: source, 1: errors, 2: errors, LOCK_FD: lock, UP_FD: up}
        return _start([sys.executable, "-I", "-S", "-c", CODE, SOURCE, str(directory)], handed)
    finally:
        os.close(source)
        os.close(errors)


def _start(argv: list[str], handed: dict[int, int]) -> int:
    """posix_spawn, for it doesn't copy a large server, with file descriptors put where the child looks for them."""
    # Out of the way first: one that is to be handed down may sit where another is to go.
    high = {
        target: fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, UP_FD + 1) for target, source in handed.items()
    }
    env = {"LC_ALL": "C.UTF-8", **{name: os.environ[name] for name in KEPT if name in os.environ}}
    try:
        actions = [(os.POSIX_SPAWN_DUP2, source, target) for target, source in high.items()]
        return os.posix_spawn(argv[0], argv, env, file_actions=actions, setsid=True, setsigmask=NOT_YET)
    finally:
        for source in high.values():
            os.close(source)
