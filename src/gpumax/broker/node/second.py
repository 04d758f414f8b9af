"""The second tier: the driver takes a whole process off its devices, and brings it back, whatever that process is doing.

As a program (`python -m gpumax.broker.node.second away PID MILLISECONDS`, `back PID`) it asks the driver, in a process of its own: what a driver
does to whoever asks it then doesn't befall the broker. 0: done; 1: not done, and the process is as it was.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from typing import Final

PATIENCE_S: Final = 120.0
"""A driver copies all that a process has, one after the other: tens of GiB in tens of seconds."""
_WORDS: Final = 16
"""Arguments are 64 bytes in each of these calls; of Lock the first word is a time in milliseconds."""


async def away(pid: int, timeout_ns: int) -> bool:
    """Take it off its devices. timeout_ns: how long to wait for what it has submitted."""
    return await _ask("away", str(pid), str(max(timeout_ns // 1_000_000, 1)))


async def back(pid: int) -> bool:
    """Bring it back. False: it's still away, as where its memory isn't free."""
    return await _ask("back", str(pid))


async def _ask(*what: str) -> bool:
    # Whoever finds the layer where the driver is expected passes through it.
    environment = {**os.environ, "GPUMAX_DISABLE": "1"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, *what, env=environment,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        return await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
    finally:
        if process.returncode is None:
            process.kill()


def main(what: list[str]) -> int:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        steps = _steps(driver, what)
    except (OSError, AttributeError):
        return 1  # no driver, or an older one
    return 0 if steps else 1


def _steps(driver: ctypes.CDLL, what: list[str]) -> bool:
    def step(name: str, first: int = 0) -> bool:
        call = getattr(driver, f"cuCheckpointProcess{name}")
        return bool(call(int(what[1]), (ctypes.c_uint32 * _WORDS)(first)) == 0)

    if driver.cuInit(0):
        return False
    if what[0] == "back":
        return step("Restore") and step("Unlock")
    if not step("Lock", int(what[2])):
        return False
    if step("Checkpoint"):
        return True
    step("Unlock")
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
