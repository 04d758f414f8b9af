"""The few kernel calls that Python's `os` doesn't offer. Standard library only: supervisors start through here.

`signal` offers one of them, but its import takes longer than the rest of a task's start.
"""

from __future__ import annotations

import ctypes
import os

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
SIGKILL = 9
CLONE3 = 435  # the number of this call on every processor
CLONE_INTO_CGROUP = 1 << 33
SIGCHLD = 17
SIG_SETMASK = 2
LARGEST_SIGNAL_SET = 128  # bytes, of any C library
STANDARD_SIGNALS = 31

_libc = ctypes.CDLL(None, use_errno=True)


def adopt_orphans() -> bool:
    """Become the parent of every descendant whose parent ends, so that none can slip away. False where refused."""
    return _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> bool:
    """Have this process killed when its parent ends, whatever ends it."""
    return _prctl(PR_SET_PDEATHSIG, SIGKILL)


def name_process(name: str) -> None:
    """Set the name that `ps` and `top` show, at most 15 bytes."""
    _prctl(PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]))


def default_signals() -> None:
    """Undo what was changed of signals, none ignored and none blocked: the next program must not inherit it.

    Python ignores some of them, and a shell for what it starts in the background others, `nohup` SIGHUP.
    """
    for number in range(1, STANDARD_SIGNALS + 1):
        _libc.signal(number, None)  # refused, without harm, for the two that nobody may change
    _libc.sigprocmask(SIG_SETMASK, ctypes.create_string_buffer(LARGEST_SIGNAL_SET), None)


def fork_into(cgroup: str) -> int:
    """Fork a child that begins its life in a cgroup; as os.fork(). OSError where the kernel can't or may not.

    To move a process costs 10 to 20 ms each time, more than all the rest of a start. Only for processes of one thread
    that soon become another program: nothing of what Python does after a fork is done.
    """
    directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack and its size, tls, set_tid and its size
        call = (ctypes.c_uint64 * 11)(CLONE_INTO_CGROUP, 0, 0, 0, SIGCHLD, 0, 0, 0, 0, 0, directory)
        pid = int(_libc.syscall(CLONE3, ctypes.byref(call), ctypes.c_size_t(ctypes.sizeof(call))))
        if pid < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return pid
    finally:
        os.close(directory)


def _prctl(option: int, value: object) -> bool:
    return bool(_libc.prctl(option, value, 0, 0, 0) == 0)
