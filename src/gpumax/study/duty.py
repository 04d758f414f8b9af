"""How many tasks share a device when what they really do is known: recorded duty and memory, packed and played again.

A task that holds a whole device is seldom busy all the time. Packed by memory, several share one; now and then they want more of it than
there is, and then all of them run slower. Both belong in one table: how many devices are saved, and how many minutes are overloaded.
Time is in equal steps, as recorded; in a step in which a task isn't recorded it does nothing.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable
from math import isfinite
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from gpumax.errors import BadFile, Fault

Floats = npt.NDArray[np.float64]

COLUMNS: Final = ("task", "minute", "duty", "memory_mib")
MOST_MINUTES: Final = 1_000_000


class Curve(NamedTuple):
    """What one task did. duty: the part of a device that it kept busy, by step; memory: the most that it held, in MiB."""

    task: str
    duty: Floats
    memory: int


class Outcome(NamedTuple):
    """What came of a packing. use: of all devices, on average; over: part of all device-steps in which more was wanted than there is;
    excess: part of all work that was wanted beyond it.
    """

    devices: int
    factor: float
    use: float
    over: float
    excess: float


Packing = list[list[Curve]]
"""The tasks of each device."""


def read_curves(path: Path) -> list[Curve]:
    """The curves of a table with the columns task, minute, duty (percent of one device) and memory_mib, by name of the task.

    BadFile with every fault: cells that are no such numbers, and a minute that a task has twice.
    """
    faults: list[Fault] = []
    duties: defaultdict[str, dict[int, float]] = defaultdict(dict)
    memory: defaultdict[str, int] = defaultdict(int)
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if missing := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
            raise BadFile(
                [Fault("", 1, "no column " + ", ".join(missing), "the columns " + ", ".join(COLUMNS))],
                str(path),
            )
        for row in rows:
            cells = [_number(row, name, most, rows.line_num, faults) for name, most in _MOST.items()]
            if None in cells:
                continue
            minute, duty, held = (cell or 0.0 for cell in cells)
            known = duties[row["task"]]
            if int(minute) in known:
                faults.append(
                    Fault(
                        "minute", rows.line_num, f"minute {int(minute)} again", "each minute of a task once"
                    )
                )
            known[int(minute)] = duty / 100
            memory[row["task"]] = max(memory[row["task"]], int(held))
    if faults:
        raise BadFile(faults, str(path))
    length = 1 + max((max(known) for known in duties.values()), default=-1)
    return [Curve(task, _curve(known, length), memory[task]) for task, known in sorted(duties.items())]


_MOST: Final = {"minute": float(MOST_MINUTES), "duty": 100.0, "memory_mib": float(1 << 30)}
"""The columns with numbers, and the most that they hold."""


def _number(row: dict[str, str], name: str, most: float, line: int, faults: list[Fault]) -> float | None:
    cell = row.get(name) or ""
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if isfinite(value) and 0 <= value <= most:
        return value
    faults.append(Fault(name, line, cell or "nothing", f"a number from 0 to {most:g}"))
    return None


def _curve(known: dict[int, float], length: int) -> Floats:
    duty: Floats = np.zeros(length)
    duty[list(known)] = list(known.values())
    return duty


def by_memory(
    curves: Iterable[Curve], memory: int, *, over: float | None = None, learn: float = 1.0
) -> Packing:
    """First fit, largest memory first, on devices of so many MiB. A task that needs more than a device has gets one alone.

    over: no device is packed so that in more than this part of the steps its tasks want more than there is of it; None: duty is not
    looked at. learn: only this first part of the record is looked at for that, so that the rest can tell whether it holds.
    """
    packing: Packing = []
    free: list[int] = []
    duties: list[Floats] = []
    for curve in sorted(curves, key=lambda curve: (-curve.memory, curve.task)):
        seen = _seen(curve, learn)
        for at, here in enumerate(packing):
            if free[at] >= curve.memory and (over is None or _over(duties[at] + seen) <= over):
                here.append(curve)
                free[at] -= curve.memory
                duties[at] = duties[at] + seen
                break
        else:
            packing.append([curve])
            free.append(memory - curve.memory)
            duties.append(seen)
    return packing


def swapped(curves: Iterable[Curve], devices: int, *, peaks: bool = False, learn: float = 1.0) -> Packing:
    """On so many devices, whatever memory they have: what isn't in use is moved out of it. Busiest first, to the least busy device.

    peaks: to the device on which the least work comes to be wanted beyond what it has, instead.
    """
    packing: Packing = [[] for _ in range(devices)]
    ordered = sorted(curves, key=lambda curve: (-float(_seen(curve, learn).mean()), curve.task))
    if not ordered:
        return packing
    duties: list[Floats] = [np.zeros_like(_seen(ordered[0], learn)) for _ in range(devices)]
    for curve in ordered:
        seen = _seen(curve, learn)
        costs = [
            (_beyond(busy + seen) - _beyond(busy) if peaks else 0.0, float(busy.mean())) for busy in duties
        ]
        best = costs.index(min(costs))
        packing[best].append(curve)
        duties[best] = duties[best] + seen
    return packing


def outcome(packing: Packing, *, learn: float = 0.0) -> Outcome:
    """What comes of it in the part of the record that was not learnt from."""
    tasks = sum(map(len, packing))
    if not tasks:
        return Outcome(len(packing), 0.0, 0.0, 0.0, 0.0)
    sums = [np.sum([_rest(curve, learn) for curve in here], axis=0) for here in packing if here]
    steps = sums[0].size * len(packing)
    total = float(sum(each.sum() for each in sums))
    return Outcome(
        devices=len(packing),
        factor=tasks / len(packing),
        use=total / steps,
        over=sum(int((each > 1.0).sum()) for each in sums) / steps,
        excess=sum(map(_beyond, sums)) / total if total else 0.0,
    )


def _cut(curve: Curve, learn: float) -> int:
    return round(curve.duty.size * learn)


def _seen(curve: Curve, learn: float) -> Floats:
    return curve.duty[: max(_cut(curve, learn), 1)]


def _rest(curve: Curve, learn: float) -> Floats:
    return curve.duty[min(_cut(curve, learn), curve.duty.size - 1) :]


def _over(duty: Floats) -> float:
    """The part of the steps in which more is wanted than there is."""
    return float((duty > 1.0).mean())


def _beyond(duty: Floats) -> float:
    """The work that is wanted beyond what there is."""
    return float(np.maximum(duty - 1.0, 0.0).sum())
