"""An attempt as the engine sees it: its directory, its supervisor's life line, and the orders that go there."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from gpumax.engines.local import cgroups, files, tree
from gpumax.engines.local.checkpoints import newest_ms
from gpumax.engines.local.files import Record, first, number
from gpumax.engines.local.spawn import spawn
from gpumax.ports.engine import AttemptSeen, AttemptState, Launch

STOPPED = 143
"""The exit code of what was stopped before it started."""

LONGEST_PAUSE_S = 1.0

ENDS: Final[tuple[AttemptState, ...]] = ("exited", "lost")
"""How an attempt can have ended; each is also the name of the record of it."""


class Attempt:
    """One attempt, from its directory on.

    life: the reading end of `up`; readable when the supervisor has something to tell, hung up when it is gone.
    ours: the supervisor's process id, where it is a child of this process.
    """

    def __init__(self, directory: Path, life: int, ours: int | None = None) -> None:
        self.id = directory.name
        self.directory = directory
        self.life = life
        self.ours = ours
        facts = files.read(self._path("attempt")) or {}
        self.cgroup = first(facts, "cgroup")
        self._checkpoint_dir = first(facts, "checkpoint_dir")
        # What can't change any more is read once.
        self._started: Record | None = None
        self._end: AttemptSeen | None = None

    def seen(self) -> AttemptSeen:
        """What is known of it now."""
        if self._end is None:
            self._end = self._ended()
        if self._end is not None:
            return self._end
        if self._started is None:
            self._started = files.read(self._path("started"))
        state: AttemptState = "starting" if self._started is None else "running"
        if os.path.exists(self._path("stop")):
            state = "stopping"
        return self._seen(state, self._started or {})

    def stop(self, grace_ms: int) -> None:
        """Have the supervisor end it. A shorter grace than one given before counts, a longer one doesn't."""
        kill_at = time.monotonic_ns() // 1_000_000 + grace_ms
        order = files.read(self._path("stop"))
        given = None if order is None else number(order, "kill_at")
        if given is None or kill_at < given:
            files.write(self._path("stop"), [("kill_at", str(kill_at))])
            with suppress(OSError):
                files.reserve(self._path("stop"))  # for the next
        # Without a reader, the supervisor isn't there yet, and will look for an order first; or it is gone.
        with suppress(OSError):
            door = os.open(self._path("down"), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(door, "wb", buffering=0) as file:
                file.write(b"!")

    def hear(self) -> bool:
        """Take in what the supervisor told. False when it is gone."""
        try:
            return bool(os.read(self.life, 4096))
        except BlockingIOError:
            return True

    def bury(self) -> None:
        """The supervisor is gone: have all that is left of the attempt end, then write down how it ended.

        Waits for processes that take long to end.
        """
        if self.ours is not None:
            with suppress(ChildProcessError):
                os.waitpid(self.ours, 0)
            self.ours = None
        if self.ended():
            return
        began = os.path.exists(self._path("started"))
        if not began and os.path.exists(self._path("stop")):
            self._write_end("exited", "stopped before it started", code=STOPPED)
            return
        self._end_orphans()
        message = "its supervisor died" if began else f"its supervisor could not start{self._last_words()}"
        self._write_end("lost", message)

    def began(self) -> bool:
        """Whether it may have run, or was told never to: if not, it may be forgotten as if it had never been."""
        return any(os.path.exists(self._path(name)) for name in ("started", "stop", "exited", "lost"))

    def ended(self) -> bool:
        """Whether its end is on record, or of no interest to anybody any more."""
        return self._ended() is not None or not self.directory.exists()

    def forget(self) -> None:
        """Drop all that is kept of it; its log and checkpoints are not part of that."""
        cgroups.remove(self.cgroup)
        discard(self.directory)

    def let_go(self) -> None:
        """Close the life line."""
        if self.life >= 0:
            os.close(self.life)
            self.life = -1

    def _path(self, name: str) -> str:
        return f"{self.directory}/{name}"

    def _ended(self) -> AttemptSeen | None:
        for state in ENDS:
            if (end := files.read(self._path(state))) is not None:
                return self._seen(state, files.read(self._path("started")) or {}, end)
        return None

    def _seen(self, state: AttemptState, started: Record, end: Record | None = None) -> AttemptSeen:
        end = end or {}
        return AttemptSeen(
            self.id,
            state,
            exit_code=number(end, "code"),
            told=bool(first(end, "told")),
            started_ms=number(started, "at"),
            ended_ms=number(end, "at"),
            checkpointed_ms=newest_ms(self._checkpoint_dir),
            message=first(end, "message"),
            note=first(end, "note"),
        )

    def _end_orphans(self) -> None:
        pause_s = 0.005
        while left := tree.orphaned(self.id, self.cgroup):
            cgroups.kill(self.cgroup)
            tree.signal_all(left, tree.SIGKILL)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        cgroups.remove(self.cgroup)

    def _write_end(self, name: str, message: str, code: int | None = None) -> None:
        fields = [("at", str(time.time_ns() // 1_000_000)), ("message", message)]
        if code is not None:
            fields += [("code", str(code)), ("told", "1")]
        while True:
            try:
                files.write(self._path(name), fields, durable=True)
                return
            except FileNotFoundError:
                return  # forgotten meanwhile
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                time.sleep(LONGEST_PAUSE_S)

    def _last_words(self) -> str:
        with suppress(OSError):
            lines = Path(self._path("errors")).read_text(errors="replace").split("\n")
            words = [line for line in lines if line.strip()]
            return f": {words[-1]}" if words else ""
        return ""


def begin(attempts: Path, launch: Launch, handed: bytes, cgroup: str) -> Attempt:
    """Set the directory up and start the supervisor in it. OSError, and nothing is left, where that fails.

    handed: the launch in full, secrets included: it goes to the supervisor by a file that is in memory only.
    """
    fresh, directory = attempts / f".{launch.attempt}", attempts / launch.attempt
    with _whole(fresh):
        _furnish(fresh, launch, cgroup)
        with _life_line(fresh) as (lock, life, up):
            os.rename(fresh, directory)
            # Complete before the start: what fails after it would leave a task that runs and isn't known.
            attempt = Attempt(directory, life)
            try:
                attempt.ours = spawn(directory, handed, lock, up)
            except BaseException:
                discard(directory)
                raise
            return attempt


def tombstone(attempts: Path, attempt: str) -> Attempt:
    """An attempt that is stopped before it was ever started: remembered, so that a start that comes late finds it."""
    fresh, directory = attempts / f".{attempt}", attempts / attempt
    with _whole(fresh):
        fresh.mkdir(mode=0o700)
        fields = [("code", str(STOPPED)), ("told", "1"), ("at", str(time.time_ns() // 1_000_000))]
        files.write(f"{fresh}/exited", [*fields, ("message", "stopped before it started")], durable=True)
        os.rename(fresh, directory)
    return Attempt(directory, -1)


def adopt(directory: Path) -> tuple[Attempt, bool]:
    """An attempt that an earlier server started, and whether its supervisor lives."""
    try:
        life = os.open(directory / "up", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return Attempt(directory, -1), False
    # In this order: whoever holds the lock now holds the other end of the life line, and letting go of it will be seen.
    return Attempt(directory, life), _is_locked(directory / "lock")


def discard(directory: Path) -> None:
    """Remove a directory so that nobody ever sees half of it."""
    gone = directory.with_name(f".gone-{directory.name}")
    with suppress(FileNotFoundError):
        os.rename(directory, gone)
    shutil.rmtree(gone, ignore_errors=True)


@contextmanager
def _whole(directory: Path) -> Iterator[None]:
    try:
        shutil.rmtree(directory, ignore_errors=True)
        yield
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _furnish(directory: Path, launch: Launch, cgroup: str) -> None:
    directory.mkdir(mode=0o700)
    facts = [("task", launch.task), ("checkpoint_dir", launch.checkpoint_dir), ("cgroup", cgroup)]
    files.write(f"{directory}/attempt", facts)
    for name in ("started", "stop", "exited", "lost"):
        files.reserve(f"{directory}/{name}")
    for name in ("up", "down"):
        os.mkfifo(directory / name, 0o600)


@contextmanager
def _life_line(directory: Path) -> Iterator[tuple[int, int, int]]:
    """The held lock, and both ends of `up`: the supervisor inherits lock and writing end, so that there is no moment in
    which an attempt that is being started looks dead. We keep the reading end, unless something fails."""
    with ExitStack() as always, ExitStack() as on_failure:
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        always.callback(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        life = os.open(directory / "up", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        on_failure.callback(os.close, life)
        up = os.open(directory / "up", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        always.callback(os.close, up)
        yield lock, life, up
        on_failure.pop_all()


def _is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
