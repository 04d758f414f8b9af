"""The second tier: the driver takes a whole process off its devices, and brings it back, whatever that process is doing.

As a program (`python -m gpumax.broker.node.second away|back|settle PID MILLISECONDS MARK`) it asks the driver, in a process of its own: what a
driver does to whoever asks it then doesn't befall the broker. It begins where the driver says that the process is, so it may be killed at any
step and be started again; only one at a time is at a process, by a lock on the file MARK. `settle` undoes a lock, and nothing else.
It says one word: `there`, `away`, `busy` (not now), `refused` with the driver's number, `lost`, or `gone`.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys
import time
from typing import Final

_WORDS: Final = 16
"""Arguments are 64 bytes in each of these calls; of Lock the first word is a time in milliseconds."""
RUNNING, LOCKED, CHECKPOINTED, FAILED = range(4)
_NO_MEMORY, _NOT_READY, _ILLEGAL_STATE = 2, 600, 401
_AGAIN_S: Final = 0.02
_TRIES: Final = 500


class _Driver:
    def __init__(self, pid: int) -> None:
        self._library = ctypes.CDLL("libcuda.so.1")
        self._pid = pid

    def begin(self) -> int:
        return int(self._library.cuInit(0))

    def state(self) -> int | None:
        """None: it's no process that has anything to do with the driver, or has ended."""
        found = ctypes.c_int()
        result = self._library.cuCheckpointProcessGetState(self._pid, ctypes.byref(found))
        return found.value if result == 0 else None

    def step(self, name: str, first: int = 0) -> int:
        call = getattr(self._library, f"cuCheckpointProcess{name}")
        return int(call(self._pid, (ctypes.c_uint32 * _WORDS)(first)))


def _away(driver: _Driver, state: int, milliseconds: int) -> str:
    """The next step off its devices; empty: another one follows."""
    if state == CHECKPOINTED:
        return "away"
    if state == RUNNING:
        result = driver.step("Lock", milliseconds)
        if result == _NOT_READY and driver.state() == LOCKED:
            driver.step("Unlock")
        return "busy" if result == _NOT_READY else _said(result)
    if state == LOCKED:
        result = driver.step("Checkpoint")
        if result not in (0, _ILLEGAL_STATE):
            driver.step("Unlock")
        return _said(result)
    return ""


def _back(driver: _Driver, state: int, _milliseconds: int) -> str:
    """The next step back to them."""
    if state == RUNNING:
        return "there"
    if state == CHECKPOINTED:
        result = driver.step("Restore")
        return "away" if result == _NO_MEMORY else _said(result)
    return _said(driver.step("Unlock")) if state == LOCKED else ""


def _settle(driver: _Driver, state: int, milliseconds: int) -> str:
    return "away" if state == CHECKPOINTED else _back(driver, state, milliseconds)


def _said(result: int) -> str:
    return "" if result in (0, _ILLEGAL_STATE) else f"refused {result}"


_WAYS: Final = {"away": _away, "back": _back, "settle": _settle}


def _go(way: str, pid: int, milliseconds: int) -> str:
    try:
        driver = _Driver(pid)
        result = driver.begin()
        for _ in range(_TRIES if result == 0 else 0):
            state = driver.state()
            if state is None:
                return "gone"
            if state == FAILED:
                return "lost"
            said = _WAYS[way](driver, state, milliseconds)
            if said:
                return said
            if driver.state() == state:
                time.sleep(_AGAIN_S)  # somebody who was killed had begun it, and the driver is still at it
    except OSError:
        return "refused no driver"
    except AttributeError:
        return "refused driver"
    return f"refused {result}" if result else "busy"


def main(what: list[str]) -> int:
    way, pid, milliseconds, mark = what
    lock = os.open(mark, os.O_RDWR | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX)
    sys.stdout.write(_go(way, int(pid), int(milliseconds)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
