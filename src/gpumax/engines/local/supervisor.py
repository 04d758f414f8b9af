"""The small process beside every attempt: it starts the task once, carries a stop out to the end, and keeps the exit.

It outlives the server. As a subreaper it becomes the parent of all that the task leaves behind, so that nothing of an
attempt is running any more when its end is on record. Standard library only, and what the start doesn't need is
imported after it: this is on the way from submit to a task's first instruction.
"""

from __future__ import annotations

import os
import sys
import time

from gpumax.engines.local import cgroups, files, kernel, tree
from gpumax.engines.local.program import Program
from gpumax.engines.local.tasklog import TaskLog

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select
    from collections.abc import Callable

LEFTOVER_GRACE_MS = 2_000
"""Between SIGTERM and SIGKILL for what is left when a task has ended by itself."""

SHUTDOWN_GRACE_MS = 30_000
"""The same, when it is the supervisor that is sent SIGTERM, as at the machine's shutdown."""

AGAIN_MS = 50  # between two SIGKILLs to what is left: a process may have been forked meanwhile
RETRY_S = 1.0  # between two tries to write the end down
CHUNK = 64 << 10
STOPPED = 143


def main() -> None:
    """Read the launch from standard input; the attempt's directory is the only argument."""
    os.closerange(files.UP_FD + 1, 256)
    for held in (files.LOCK_FD, files.UP_FD):
        os.set_inheritable(held, False)
    with open(0, "rb", closefd=False) as source:
        launch = files.unpack(source.read())
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    kernel.adopt_orphans()
    kernel.name_process("gpumax-task")
    Supervisor(sys.argv[1], launch).run()
    os._exit(0)  # the interpreter has nothing to clean up


class Supervisor:
    """One attempt, from its start to its end on record."""

    def __init__(self, directory: str, launch: files.Record) -> None:
        self.directory = directory
        self.cgroup = files.first(launch, "cgroup")
        self.env = dict(pair.split("=", 1) for pair in launch.get("env", ()))
        self.workdir = files.first(launch, "workdir")
        setup = files.first(launch, "setup")
        self.commands = [["/bin/sh", "-c", setup]] if setup else []
        self.commands.append(launch["argv"])
        self.log = TaskLog(files.first(launch, "log"), files.number(launch, "log_most") or 0)
        self.output, self.input = os.pipe()
        os.set_blocking(self.output, False)
        # Before the first look for an order, so that none is missed; for both ways, so that it never reports an end.
        self.down = os.open(f"{directory}/down", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.main: int | None = None
        self.code: int | None = None
        self.began = False
        self.message = ""
        self.kill_at: int | None = None  # monotonic ms; set once it has been told to end
        self.told = False  # an order from outside, not the end of the main program
        self.cut_off = False  # that order came before the main program had ended

    def run(self) -> None:
        """Live through the attempt."""
        if self._stop_order() is not None:
            self.cut_off = True
            self.message = "stopped before it started"
            self._record_end(STOPPED)
            return
        self._start_next()
        self._watch()
        self._drain()
        if self.message:
            self.log.say(self.message)
        self.log.close()
        cgroups.remove(self.cgroup)
        self._record_end(STOPPED if self.code is None else self.code)

    def _start_next(self) -> None:
        command = self.commands.pop(0)
        program = Program(command, self.env, self.workdir, self.input, self.cgroup)
        self.main, trouble = program.start(self._record_start)
        if trouble:
            self.message = trouble
            self.commands.clear()
        self._ring()

    def _watch(self) -> None:
        """Until nothing of the task is running any more."""
        import select
        import signal

        ended, tell = os.pipe()
        os.set_blocking(ended, False)
        os.set_blocking(tell, False)
        signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._end(SHUTDOWN_GRACE_MS, told=True))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # they were held back for us
        poll = select.poll()
        for source in (ended, self.down, self.output):
            poll.register(source, select.POLLIN)
        while self._reap():
            self._serve(poll, {ended: self._nothing, self.down: self._obey, self.output: self._nothing})

    def _serve(self, poll: select.poll, handlers: dict[int, Callable[[], None]]) -> None:
        """Wait for something to do, and do it."""
        for source, _ in poll.poll(self._patience_ms()):
            data = _read(source)
            if source == self.output:
                self.log.take(data)
            handlers[source]()
        if self.kill_at is not None and _now_ms() >= self.kill_at:
            self._kill()

    def _nothing(self) -> None:
        """What was read says it all."""

    def _patience_ms(self) -> int | None:
        return None if self.kill_at is None else max(AGAIN_MS, self.kill_at - _now_ms())

    def _reap(self) -> bool:
        """Take note of what has ended. False when nothing is left: orphans are our children, so no child, no process."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.main:
                self._main_ended(os.waitstatus_to_exitcode(status))

    def _main_ended(self, code: int) -> None:
        self.main = None
        if code == 0 and self.commands and not self.told:
            self._start_next()
            return
        if code != 0 or not self.commands:
            self.code = code if code >= 0 else 128 - code
        if code != 0 and self.commands and not self.told:
            self.message = f"its setup failed with exit code {self.code}"
        self._end(LEFTOVER_GRACE_MS, told=False)

    def _obey(self) -> None:
        deadline = self._stop_order()
        if deadline is not None:
            self._reap()  # a main program that has ended by itself was told nothing
            self._end(deadline - _now_ms(), told=True)

    def _stop_order(self) -> int | None:
        """When to kill, if there is an order to stop; monotonic ms."""
        order = files.read(f"{self.directory}/stop")
        return None if order is None else files.number(order, "kill_at") or 0

    def _end(self, grace_ms: int, *, told: bool) -> None:
        """Have all processes go: SIGTERM once, SIGKILL when the shortest grace that was given has passed."""
        first_time = self.kill_at is None or (told and not self.told)
        deadline = _now_ms() + grace_ms
        self.kill_at = deadline if self.kill_at is None else min(self.kill_at, deadline)
        self.told = self.told or told
        self.cut_off = self.cut_off or (told and self.main is not None)
        if first_time and grace_ms > 0:
            for number in (tree.SIGTERM, tree.SIGCONT):
                tree.signal_all(self._processes(), number)

    def _kill(self) -> None:
        cgroups.kill(self.cgroup)
        tree.signal_all(self._processes(), tree.SIGKILL)

    def _processes(self) -> set[int]:
        me = os.getpid()
        return (tree.descendants([me]) | cgroups.members(self.cgroup)) - {me}

    def _drain(self) -> None:
        """What the task wrote last. Bounded, in case a stranger still writes into its output."""
        os.close(self.input)
        for _ in range(1024):
            data = _read(self.output)
            if not data:
                return
            self.log.take(data)

    def _record_start(self, pid: int) -> None:
        if not self.began:
            # Not durable: should the machine end, the task has ended with it.
            files.write(f"{self.directory}/started", [("pid", str(pid)), ("at", str(_wall_ms()))])
            self.began = True

    def _record_end(self, code: int) -> None:
        """The end must get on record, however long the disk refuses."""
        fields = [("code", str(code)), ("told", "1" if self.cut_off else ""), ("at", str(_wall_ms()))]
        fields += [("message", self.message), ("note", self.log.trouble)]
        while True:
            try:
                files.write(f"{self.directory}/exited", fields, durable=True)
                break
            except FileNotFoundError:
                break  # the whole directory is gone: nobody is left who would want to know
            except OSError:
                time.sleep(RETRY_S)
        self._ring()

    def _ring(self) -> None:
        """Tell the server, if there is one, that something changed."""
        try:
            os.write(files.UP_FD, b"!")
        except OSError:
            return


def _read(source: int) -> bytes:
    try:
        return os.read(source, CHUNK)
    except BlockingIOError:
        return b""


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
