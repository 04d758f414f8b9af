"""The few kernel calls that Python's `os` doesn't offer. Standard library only: supervisors start through here.

`signal` offers one of them, but its import takes longer than the rest of a task's start.
"""

from __future__ import annotations

import ctypes

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
SIGKILL = 9
IGNORED_BY_PYTHON = (13, 25)  # SIGPIPE and SIGXFSZ

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
    """Undo what the interpreter changed of signals: the next program must not inherit it."""
    for number in IGNORED_BY_PYTHON:
        _libc.signal(number, None)


def _prctl(option: int, value: object) -> bool:
    return bool(_libc.prctl(option, value, 0, 0, 0) == 0)
