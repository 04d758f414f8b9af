"""A broker's process: started where none is at work in a directory, joined where one is."""

from __future__ import annotations

import os
import select
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from gpumax.apps.gpu.rules import USUAL, Rules
from gpumax.broker.control import Control, Device
from gpumax.devices.uuids import Sharable
from gpumax.errors import GpumaxError, Unreachable

START_S: Final = 30.0
"""How long a broker may take to answer."""
LOOK_S: Final = 0.02
MOST_LOG: Final = 1 << 20
_NOT_ITS_OWN: Final = ("GPUMAX_LIMIT", "GPUMAX_SOCKET", "GPUMAX_GROUP", "GPUMAX_SWAP", "GPUMAX_RANKS")


class Child:
    """A broker that we started, and that may outlive us."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        try:
            self._end = os.pidfd_open(pid)
        except ProcessLookupError:  # it was nobody's child, and has ended already
            self._end = -1

    def ended(self) -> bool:
        """Whether it has ended; it's no zombie of ours then."""
        end = select.poll()
        if self._end >= 0:
            end.register(self._end, select.POLLIN)
        if end.poll(0):
            os.close(self._end)
            self._end = -1
            with suppress(ChildProcessError):
                os.waitpid(self._pid, 0)
        return self._end < 0


def start(
    directory: Path, devices: Sequence[Sharable], *, idle_s: float, swap_bytes: int | None = None,
    driver: Mapping[str, str] | None = None, heir: bool = False, rules: Rules = USUAL,
) -> Child:  # fmt: skip
    """Begin a broker. It ends by itself where another one has the directory or a device.

    driver: the environment in which the devices' driver is found; None: ours. heir: nobody else watches over it.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    said = msgspec.json.encode([Device(each.uuid, each.bytes, each.name) for each in devices]).decode()
    swap = [] if swap_bytes is None else ["--swap-memory", str(swap_bytes)]
    env = _environment(os.environ) | dict(driver or {})
    sparse = ["--sparse-swap"] if "GPUMAX_EMU" in env else []
    # -P: what lies in the working directory is none of its modules.
    command = [
        sys.executable, "-P", "-m", "gpumax.broker", "--directory", str(directory), "--exclusive",
        "--devices", said, "--idle", f"{idle_s:g}", *rules.words(), *swap, *sparse, *(["--heir"] if heir else []),
    ]  # fmt: skip
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, str(_log(directory)), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        *((os.POSIX_SPAWN_CLOSE, each) for each in _left_open()),
    ]

    def spawn() -> int:
        return os.posix_spawn(sys.executable, command, env, file_actions=actions, setsid=True)

    return Child(_no_child_of_ours(spawn) if heir else spawn())


def _left_open() -> list[int]:
    """What whoever started us left open to programs, as a lock or the end of a pipe: a broker that stays would keep it."""
    found = [int(each) for each in os.listdir("/proc/self/fd") if int(each) > 2]
    return [each for each in found if _is_inherited(each)]


def _is_inherited(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False  # the one by which we looked


def _no_child_of_ours(spawn: Callable[[], int]) -> int:
    """The process that `spawn` makes, with another parent: we become the user's program, which waits for its own children."""
    reads, writes = os.pipe()
    between = os.fork()
    if not between:
        try:
            os.write(writes, str(spawn()).encode())
        finally:
            os._exit(0)
    os.close(writes)
    try:
        said = os.read(reads, 32)
    finally:
        os.close(reads)
        os.waitpid(between, 0)
    if not said:
        raise GpumaxError("the broker of the GPUs can't begin: the system has no room for a process")
    return int(said)


def joined(directory: Path, devices: Sequence[Sharable], *, idle_s: float, rules: Rules = USUAL) -> Control:
    """The broker in a directory, started by these rules where there is none, with an heir. GpumaxError, with what it said, where it can't begin."""
    control = Control(directory)
    if answers(control):
        return control
    return begun(control, start(directory, devices, idle_s=idle_s, heir=True, rules=rules), directory)


def begun(control: Control, child: Child, directory: Path) -> Control:
    """Wait until a broker that was started answers, or another one that was faster."""
    until = time.monotonic() + START_S
    while not answers(control):
        if child.ended():
            said = last_words(directory)
            if not answers(control) and f"another broker is at work in {directory}" not in said:
                raise GpumaxError(f"the broker of the GPUs can't begin: {said}")
        if time.monotonic() > until:
            raise GpumaxError(
                f"the broker of the GPUs doesn't answer within {START_S:g} s; {_log(directory)} may say why"
            )
        time.sleep(LOOK_S)
    return control


def answers(control: Control) -> bool:
    """Whether a broker is there."""
    try:
        control.status()
    except Unreachable:
        return False
    return True


def last_words(directory: Path) -> str:
    """What a broker said last; where it has no room for words, that."""
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"x")
    except OSError as error:
        return f"{directory}: {(error.strerror or str(error)).lower()}"
    try:
        lines = _log(directory).read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    # Who is killed has said nothing of its end: its last word is that it has begun.
    if lines and f"the broker is up in {directory}" in lines[-1]:
        return "it said nothing of why"
    return lines[-1].removeprefix("gpumax broker: ") if lines else "it said nothing"


def _log(directory: Path) -> Path:
    path = directory / "log"
    if path.exists() and path.stat().st_size > MOST_LOG:
        path.unlink()
    return path


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Ours, without what holds a program to a part of a GPU."""
    kept = {name: value for name, value in ours.items() if name not in _NOT_ITS_OWN}
    preloaded = [each for each in kept.get("LD_PRELOAD", "").replace(":", " ").split() if "libgpumax-cuda" not in each and "libgpumax-ml" not in each]  # fmt: skip
    return kept | ({"LD_PRELOAD": " ".join(preloaded)} if "LD_PRELOAD" in kept else {})
