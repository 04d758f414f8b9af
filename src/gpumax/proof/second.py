"""Promise 7: with a driver that can, a whole process is taken off the device from outside, and finds everything again."""

from __future__ import annotations

from ctypes import byref, c_int, c_uint32

from gpumax.proof.checks import Missed, NotShown, Probe, Section
from gpumax.proof.cuda import MIB, NOT_SUPPORTED
from gpumax.proof.others import Other, outside

SECOND = Section("second tier", 7, layered=False)
_RUNNING, _LOCKED, _AWAY = 0, 1, 2
_PATIENCE_MS = 10_000
_NOT_FOUND = 500


@SECOND.check(
    "taken off",
    "a process and its context leave the device, and come back with all data (driver 570 and newer)",
)
def taken_off(probe: Probe) -> None:
    size = 64 * MIB
    with Other("keep", str(size), str(probe.device)) as other:
        other.hear()
        pid = other.process.pid
        if _state(probe, pid) != _RUNNING:
            raise Missed("a process that works isn't called running")
        before = _used(probe, pid)
        _step(probe, "Lock", pid, _PATIENCE_MS)
        _step(probe, "Checkpoint", pid)
        away = _used(probe, pid)
        if _state(probe, pid) != _AWAY:
            raise Missed("a process that was taken off the device isn't called so")
        _step(probe, "Restore", pid)
        _step(probe, "Unlock", pid)
        other.tell()
        whole = other.hear()
    probe.figures |= {"before MiB": before / MIB, "while away MiB": away / MIB}
    if not whole:
        raise Missed("its data is another one after it came back")
    if away:
        raise Missed(f"{away} bytes of the device are still its own while it is away")


def _state(probe: Probe, pid: int) -> int:
    state = c_int()
    result = probe.cuda.ask("cuCheckpointProcessGetState", c_int(pid), byref(state))
    if result in (NOT_SUPPORTED, _NOT_FOUND):
        raise NotShown(
            "this driver can't; processes stay on their devices, their memory is swapped all the same"
        )
    if result:
        raise Missed(f"the driver doesn't tell the state of a process: {result}")
    return state.value


def _step(probe: Probe, name: str, pid: int, first: int = 0) -> None:
    """Arguments are 64 bytes in each of these calls; of Lock the first word is a time in milliseconds."""
    arguments = (c_uint32 * 16)(first)
    result = probe.cuda.ask(f"cuCheckpointProcess{name}", c_int(pid), arguments)
    if result == NOT_SUPPORTED:
        raise NotShown("this driver, or this kernel, can't take processes off their devices")
    if result:
        raise Missed(f"cuCheckpointProcess{name} gave {result}")


def _used(probe: Probe, pid: int) -> int:
    return int(outside(probe.device)["processes"].get(str(pid), 0))
