"""A timer of the kernel's: asyncio's goes by whole milliseconds, by half of which each turn would end late."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from typing import Final

SECOND: Final = 1_000_000_000
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_Spec: Final = ctypes.c_long * 4
"""`struct itimerspec`: seconds and nanoseconds from one time to the next, and to the first one; all 0: never."""


class Timer:
    """`fd` becomes readable when its moment has come; `rings` then calls what was to be called. Raises OSError where there can't be one."""

    def __init__(self) -> None:
        self.fd: int = _LIBC.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._look: Callable[[], None] | None = None

    def later(self, delay: float, look: Callable[[], None]) -> None:
        """Call it in so many seconds, instead of what was to be called before."""
        self._look = look
        self._set(max(round(delay * SECOND), 1))

    def cancel(self) -> None:
        self._look = None
        self._set(0)

    def rings(self) -> None:
        try:
            os.read(self.fd, 8)
        except BlockingIOError:
            return  # it has been set anew
        look, self._look = self._look, None
        if look is not None:
            look()

    def close(self) -> None:
        os.close(self.fd)

    def _set(self, ns: int) -> None:
        _LIBC.timerfd_settime(self.fd, 0, _Spec(0, 0, ns // SECOND, ns % SECOND), None)
