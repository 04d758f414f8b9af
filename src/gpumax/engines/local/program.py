"""One program of a task, started: the short way between fork and exec. Standard library only: supervisors use it."""

from __future__ import annotations

import os

from gpumax.engines.local import cgroups, kernel
from gpumax.engines.local.files import LOCK_FD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NOT_THERE = 127
NOT_USABLE = 126
"""Exit codes for what can't be started, as shells give them."""


class Program:
    """A command with all that it is to find around it. output: where standard output and error go, a file descriptor."""

    def __init__(
        self, argv: list[str], env: dict[str, str], workdir: str, output: int, cgroup: str = ""
    ) -> None:
        self.argv = argv
        self.env = env
        self.workdir = workdir
        self.output = output
        self.cgroup = cgroup

    def start(self, before: Callable[[int], None]) -> tuple[int, str]:
        """Start it in a session of its own: its process id, and why it could not be started, if so.

        before: called with the process id; the program begins only when that has returned. So nothing runs that isn't
        on record, and should this process die here, the child ends without having begun.
        """
        go, let_go = os.pipe()
        heard, say = os.pipe()
        parent = os.getpid()
        pid = self._fork()
        if pid == 0:
            os.close(let_go)
            self._become(parent, go, say)
        os.close(go)
        os.close(say)
        try:
            before(pid)
            os.write(let_go, b"g")
        finally:
            os.close(let_go)
        with open(heard, "rb") as file:  # ends when the program has begun, for then the other end is closed
            return pid, file.read().decode("utf-8", "surrogateescape")

    def _fork(self) -> int:
        """Fork, into the cgroup if there is one."""
        if self.cgroup:
            try:
                return kernel.fork_into(self.cgroup)
            except OSError:
                pid = os.fork()
                if pid == 0:
                    cgroups.join(self.cgroup)
                return pid
        return os.fork()

    def _become(self, parent: int, go: int, say: int) -> None:
        """In the child: become the program, or say why not and end."""
        code = NOT_USABLE
        try:
            os.close(LOCK_FD)  # a supervisor that dies now must be seen to be dead
            os.setsid()
            kernel.die_with_parent()
            os.dup2(self.output, 1)
            os.dup2(self.output, 2)
            kernel.default_signals()
            if os.getppid() == parent and os.read(go, 1) == b"g":
                code, why = self._exec()
                os.write(say, why.encode("utf-8", "surrogateescape"))
        except Exception as error:
            os.write(say, f"can't run {self.argv[0]}: {error}".encode("utf-8", "surrogateescape"))
        finally:
            os._exit(code)

    def _exec(self) -> tuple[int, str]:
        try:
            os.chdir(self.workdir)
        except OSError as error:
            return _code(error), f"can't work in {self.workdir}: {error.strerror}"
        command = self.argv[0]
        try:
            os.execvpe(command, self.argv, self.env)  # noqa: S606 - exec form is a promise
        except FileNotFoundError:
            there = os.path.lexists(command) if "/" in command else False
            why = "what its first line names isn't there" if there else "no such command"
            return NOT_THERE, f"can't run {command}: {why}"
        except OSError as error:
            return _code(error), f"can't run {command}: {_words(error)}"


def _code(error: OSError) -> int:
    return NOT_THERE if isinstance(error, FileNotFoundError | NotADirectoryError) else NOT_USABLE


def _words(error: OSError) -> str:
    import errno

    if error.errno == errno.ENOEXEC:
        return "no program (a script needs a first line like #!/bin/sh)"
    if error.errno == errno.E2BIG:
        return "its arguments and environment are too large"
    return error.strerror or str(error)
