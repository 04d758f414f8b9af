"""How many tasks share a device by what they really do, and how many minutes are overloaded then: a table of recorded duty, packed.

python bench/duty.py CSV [--memory 48 80 96 141 192] [--swap 4 5 6] [--over 0.01] [--learn 0.5]

CSV has the columns task, minute, duty (percent of a device) and memory_mib. Rows with `peaks` look at duty, too: packed by memory, no
device may be overloaded in more than --over of the minutes that were learnt from; with swap, each task goes where it overloads least.
They learn from the first part of the minutes (--learn); all rows are judged by the rest.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from gpumax.study.duty import Packing, by_memory, outcome, read_curves, swapped
from measure import machine


def main() -> None:
    """Read the flags, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("csv", type=Path)
    parser.add_argument("--memory", nargs="+", type=int, default=[48, 80, 96, 141, 192], help="of a device, in GB")  # fmt: skip
    parser.add_argument("--swap", nargs="+", type=float, default=[3, 4, 5, 6], help="tasks a device, with swap")  # fmt: skip
    parser.add_argument("--over", type=float, default=0.01, help="part of the minutes")
    parser.add_argument("--learn", type=float, default=0.5, help="part of the record")
    flags = parser.parse_args()
    begin, curves = time.perf_counter(), read_curves(flags.csv)
    learn = flags.learn
    rows: list[tuple[str, Packing]] = []
    for memory in flags.memory:
        mib = memory * 10**9 // 2**20
        rows.append((f"{memory} GB", by_memory(curves, mib)))
        rows.append((f"{memory} GB, peaks", by_memory(curves, mib, over=flags.over, learn=learn)))
    for factor in flags.swap:
        devices = max(round(len(curves) / factor), 1)
        rows.append((f"swap, {devices} devices", swapped(curves, devices, learn=learn)))
        rows.append((f"swap, {devices} devices, peaks", swapped(curves, devices, peaks=True, learn=learn)))
    minutes = curves[0].duty.size if curves else 0
    print(
        f"{flags.csv.name}: {len(curves)} tasks, {minutes} minutes; learnt from the first {learn:.0%}, judged by the rest"
    )
    print(
        f"{'device':<26} {'devices':>8} {'factor':>7} {'use %':>7} {'minutes over %':>15} {'work beyond %':>14}"
    )
    for name, packing in rows:
        found = outcome(packing, learn=learn)
        print(
            f"{name:<26} {found.devices:>8} {found.factor:>7.2f} {100 * found.use:>7.1f} {100 * found.over:>15.2f} "
            f"{100 * found.excess:>14.2f}"
        )
    print(f"{time.perf_counter() - begin:.1f} s; {machine()}")


if __name__ == "__main__":
    main()
