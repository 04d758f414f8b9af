"""Runs checks, each in a process of its own, and says what came of them."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from gpumax import __version__
from gpumax.errors import Refused
from gpumax.native import preload
from gpumax.proof.checks import CHECKS, Check
from gpumax.proof.others import program, unlayered
from gpumax.proof.probe import load
from gpumax.units import MIB

LEAST: Final = 64 * MIB
"""A smaller limit shows nothing: drivers round up."""
LONGEST_S: Final = 120.0
_SPARE: Final = 64 * MIB

Verdict = Literal["holds", "broken", "not shown"]


class Result(msgspec.Struct, frozen=True):
    """What one check found. why: what was seen instead, or why nothing can be said here."""

    name: str
    section: str
    promise: int
    text: str
    verdict: Verdict
    why: str = ""
    figures: dict[str, float] = {}
    seconds: float = 0.0


class Machine(msgspec.Struct, frozen=True):
    """Where it was. driver: the version of CUDA that it's made for."""

    gpumax: str
    python: str
    kernel: str
    processor: str
    driver: str
    emulated: bool
    device: str
    uuid: str
    bytes: int
    free: int


class Given(msgspec.Struct, frozen=True):
    """The share under which checks run. own: that of this environment, not one that was made for them."""

    limit: int
    environment: dict[str, str]
    own: bool
    device: int = 0
    share: float = 0.0


_NO_SUCH_DEVICE: Final = 101
INSTALL: Final = (
    "Where there is an NVIDIA GPU, install its driver, until `nvidia-smi` lists it. Without one, try an emulated GPU: "
    "`gpumax up --devices 1xT4:16Gi`, then `gpumax run --gpu 1 -f -- $(command -v gpumax) gpu check --gpu-memory 1Gi`"
)
_BROKEN: Final = {
    34: "that is a stub for compilers; take its folder out of LD_LIBRARY_PATH",
    100: "it has no device; `nvidia-smi` lists what it sees, and CUDA_VISIBLE_DEVICES may hide some",
    802: "the machine's NVSwitches aren't ready; `systemctl status nvidia-fabricmanager` tells why",
    803: "its library and the kernel's module are of different versions; load the module anew, or restart the machine",
    804: "this GPU doesn't take a library that is newer than the kernel's module; use that of the driver itself",
}
"""By a CUresult: what it comes from, and what to do."""
_ELSE: Final = "`nvidia-smi` and `gpumax doctor` tell more"


def machine(base: Mapping[str, str], device: int, *, own: bool = False) -> Machine:
    """This machine and its driver. Refused where there is none. own: as the share of this environment shows it, so that nobody takes us for unfenced."""
    done = subprocess.run(
        program("machine", str(device)), env=dict(base) if own else unlayered(base), capture_output=True, text=True, timeout=LONGEST_S,
        check=False,
    )  # fmt: skip
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        said = done.stderr.strip().splitlines()
        raise Refused(_no_driver(said[-1] if said else "it ended", device)) from None
    version = found["driver"]
    return Machine(
        gpumax=__version__, python=platform.python_version(), kernel=platform.release(), processor=_processor(),
        driver=f"{version // 1000}.{version % 1000 // 10}", emulated=found["emulated"], device=found["name"],
        uuid=found["uuid"], bytes=found["bytes"], free=found["free"],
    )  # fmt: skip


def _no_driver(said: str, device: int) -> str:
    """What was said instead of a driver, and what to do about it."""
    if said.endswith(f" gave {_NO_SUCH_DEVICE}"):
        return f"the driver has no device {device}; `gpumax gpu list` tells which there are"
    if "cannot open shared object" in said:
        return f"no CUDA driver here: {said}. {INSTALL}"
    todo = next((words for result, words in _BROKEN.items() if said.endswith(f" gave {result}")), _ELSE)
    return f"CUDA's driver doesn't work here ({said}): {todo}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.machine()


def made(base: Mapping[str, str], limit: int, on: Machine, device: int, share: float = 0.0) -> Given:
    """A share of this size, for the checks alone. Refused where it can't show anything."""
    if limit < LEAST:
        raise Refused(
            f"a limit of {limit // MIB} MiB shows nothing, since drivers round up; at least {LEAST // MIB}Mi"
        )
    if limit + _SPARE > on.free:
        raise Refused(
            f"{on.device} has {on.free // MIB} MiB free: what is refused beyond {limit // MIB} MiB may be refused by the device "
            f"itself; give at most {max(0, on.free - _SPARE) // MIB}Mi, or wait until others have ended"
        )
    preload.check(Path(sys.executable))
    return Given(limit, dict(base), own=False, device=device, share=share)


def select(sections: Iterable[str]) -> list[Check]:
    """The checks of these sections; all, where none is named."""
    load()
    wanted = set(sections)
    return [each for each in CHECKS.values() if not wanted or each.section in wanted]


def prove(checks: Iterable[Check], given: Given) -> Iterator[Result]:
    """One after the other."""
    for number, check in enumerate(checks):
        began = time.monotonic()
        verdict, why, figures = _one(check, given, number)
        yield Result(
            check.name, check.section, check.promise, check.text, verdict, why, figures,
            round(time.monotonic() - began, 3),
        )  # fmt: skip


def _environment(check: Check, given: Given, number: int) -> dict[str, str]:
    if not check.layered:
        return unlayered(given.environment)
    if given.own:
        # Contexts of a check's children count nothing: it says to the byte what is to be had.
        return given.environment | {"GPUMAX_CONTEXT": "0"}
    group = f"proof-{os.getpid()}-{number}"
    found = preload.environment(unlayered(given.environment), given.limit, group)
    return found | dict(check.settings)


def _one(check: Check, given: Given, number: int) -> tuple[Verdict, str, dict[str, float]]:
    process = subprocess.Popen(
        program("check", check.name, str(given.limit), str(given.device), str(given.share)), env=_environment(check, given, number),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=LONGEST_S)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)  # with all that it has started
        process.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        return "broken", f"it hadn't ended after {LONGEST_S:.0f} s", {}
    try:
        found = json.loads(out.splitlines()[-1])
        return found["verdict"], found["why"], found["figures"]
    except (ValueError, IndexError):
        said, code = err.strip().splitlines(), process.returncode
        ended = f"signal {-code}" if code < 0 else f"exit code {code}"
        return "broken", f"the program ended with {ended}: {said[-1] if said else 'without a word'}", {}
