"""Promise 9: what the layer costs. Figures of this machine; whether they are good is for a quiet machine to say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Final

from gpumax.proof.checks import NotShown, Probe, Section
from gpumax.proof.cuda import MIB
from gpumax.proof.others import program, unlayered

COSTS = Section("costs", 9)
_ROUNDS: Final = 2000
_TRIES: Final = 5


def call_ns(probe: Probe) -> float:
    """An allocation with its free, the best of some tries; a call from Python is in it."""
    return min(_timed(lambda: probe.cuda.free(probe.cuda.plain(MIB))) for _ in range(_TRIES))


def work_ns(probe: Probe) -> float:
    """Filling 4 KiB in stream order: what waits at the gate."""
    pointer = probe.cuda.plain(MIB)
    found = []
    for _ in range(_TRIES):
        found.append(_timed(lambda: probe.cuda.fill_async(pointer, 1, 4096)))
        probe.cuda.sync()
    return min(found)


def _timed(act: object) -> float:
    assert callable(act)
    began = time.perf_counter_ns()
    for _ in range(_ROUNDS):
        act()
    return (time.perf_counter_ns() - began) / _ROUNDS


@COSTS.check(
    "allocation cost",
    "an allocation with its free, under the layer and without it: a figure, which isn't judged",
)
def allocation(probe: Probe) -> None:
    _beside(probe, "allocation", call_ns(probe))


@COSTS.check(
    "work cost", "work that is submitted, under the layer and without it: a figure, which isn't judged"
)
def work(probe: Probe) -> None:
    _beside(probe, "work", work_ns(probe))


def _beside(probe: Probe, what: str, under: float) -> None:
    done = subprocess.run(
        program("cost", what, str(probe.device)), env=unlayered(os.environ), capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    if done.returncode:
        raise NotShown("it couldn't be measured without the layer: " + done.stderr.strip()[-200:])
    without = float(json.loads(done.stdout))
    probe.figures |= {"under ns": under, "without ns": without, "added ns": under - without}


@COSTS.check("start cost", "a program that never touches CUDA starts")
def start(probe: Probe) -> None:
    def once(environment: dict[str, str]) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-S", "-c", ""], env=environment, check=True)
        return (time.perf_counter() - began) * 1e3

    both = (dict(os.environ), unlayered(os.environ))
    under, without = (
        min(times) for times in zip(*([once(each) for each in both] for _ in range(20)), strict=True)
    )
    probe.figures |= {"under ms": under, "without ms": without, "added ms": under - without}
