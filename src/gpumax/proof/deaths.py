"""Promise 8: what ends, however it does, leaves nothing behind."""

from __future__ import annotations

import os
import signal

from gpumax.proof.checks import Missed, NotShown, Probe, Section, eventually
from gpumax.proof.cuda import MIB
from gpumax.proof.others import Other

DEATHS = Section("deaths", 8)


@DEATHS.check("killed", "what a killed process had is to be had again")
def killed(probe: Probe) -> None:
    most = probe.room - probe.slack
    for _ in range(3):
        with Other("take", str(max(MIB, probe.room // 16))) as other:
            other.hear()
            other.tell()
            if other.hear() < most // 2:
                raise NotShown("a child got too little to show anything")
            os.kill(other.process.pid, signal.SIGKILL)
            other.process.wait()
        eventually(
            lambda: _to_be_had(probe, most), f"{most} bytes weren't to be had after their owner was killed"
        )


@DEATHS.check("stopped", "who is stopped keeps what it has, and keeps nobody from the rest")
def stopped(probe: Probe) -> None:
    room = probe.room
    with Other("hold", str(room // 2)) as other:
        other.hear()
        os.kill(other.process.pid, signal.SIGSTOP)
        if not _to_be_had(probe, room // 4):
            raise Missed(
                f"a quarter of {room} bytes isn't to be had beside a stopped process that has half of it"
            )
        if _to_be_had(probe, room * 3 // 4):
            raise Missed(
                f"three quarters of {room} bytes were given out beside a stopped process that has half of it"
            )


def _to_be_had(probe: Probe, size: int) -> bool:
    result, pointer = probe.cuda.try_plain(size)
    if result == 0:
        probe.cuda.free(pointer)
    return result == 0
