"""What bounds the figures of the Philly trace: `python bench/philly_bounds.py --data DIR [GPUS ...]`.

- Jain, all served: the index over served / min(demand, quota) if every workload ran from the moment at which it came. Queues that want
  more than their quota and get it pull it below 1; a schedule that gets more has served less.
- pool: one pool for all in the order of arrival, whoever has room passing those who have none; nobody is ever stopped.
- oracle: knows every duration; at each moment those with the least work left run, stopped and started again for nothing, on GPUs
  anywhere. No scheduler that learns of durations when they have passed can be expected to reach it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from gpumax.model.amounts import BOUNDLESS
from gpumax.model.study import Scenario
from gpumax.study.replay import replay
from gpumax.study.replay.measure import jain, quantile
from measure import machine
from philly import philly

SIZES: Final = (704, 626, 587, 536)
HOUR_MS: Final = 3_600_000


def served_at_once(scenario: Scenario) -> float:
    """Jain's index if everything were served at once."""
    begin_ms, window_ms = scenario.arrivals[0].submitted_ms, scenario.window_ms or 1
    demand = dict.fromkeys((queue.name for queue in scenario.queues), 0)
    for row in scenario.arrivals:
        left_ms = max(0, begin_ms + window_ms - row.submitted_ms)
        demand[row.queue] += row.devices * row.milli * min(row.duration_ms, left_ms)
    due = {queue.name: min(demand[queue.name], queue.quota.gpu * window_ms) for queue in scenario.queues}
    return jain([demand[name] / due[name] for name in demand if due[name]])


def oracle(scenario: Scenario, gpus: int) -> tuple[list[int], list[int]]:
    """Waits and completions, in milliseconds and sorted, with least remaining work first."""
    rows, at, now_ms = scenario.arrivals, 0, 0
    here: list[list[int]] = []  # what is left of it, which of the rows
    running: set[int] = set()
    waits, ends = [0] * len(rows), [0] * len(rows)
    while at < len(rows) or here:
        moments = [now_ms + left for left, row in here if row in running]
        moments += [rows[at].submitted_ms] if at < len(rows) else []
        then_ms = min(moments)
        for entry in here:
            if entry[1] in running:
                entry[0] -= then_ms - now_ms
            else:
                waits[entry[1]] += then_ms - now_ms
        now_ms = then_ms
        for left, row in here:
            if left <= 0:
                ends[row] = now_ms - rows[row].submitted_ms
        here = [entry for entry in here if entry[0] > 0]
        while at < len(rows) and rows[at].submitted_ms <= now_ms:
            here.append([rows[at].duration_ms, at])
            at += 1
        here.sort()
        free, running = gpus, set()
        for _, row in here:
            if rows[row].devices <= free:
                running.add(row)
                free -= rows[row].devices
    return sorted(waits), sorted(ends)


def main() -> None:
    """Read the flags, play, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sizes", nargs="*", type=int, metavar="GPUS", help=f"of the cluster; unset: {SIZES}")
    parser.add_argument("--data", type=Path, required=True, help="folder of philly.csv and philly_vc.csv")
    flags = parser.parse_args()
    print(machine())
    for gpus in flags.sizes or SIZES:
        scenario = philly(flags.data.absolute(), gpus)
        print(f"{gpus} GPUs\tJain, all served: {served_at_once(scenario):.4f}", flush=True)
        free = replace(scenario, queues=tuple(replace(queue, quota=BOUNDLESS) for queue in scenario.queues))
        run = replay(free, "hard-quota", 42)
        _show("pool", run.wait_s.mean / 3600, run.wait_s.p99 / 3600, run.completion_s.mean / 3600)
        waits, ends = oracle(scenario, gpus)
        count = len(waits) * HOUR_MS
        _show("oracle", sum(waits) / count, quantile(waits, 99) / HOUR_MS, sum(ends) / count)


def _show(name: str, wait: float, tail: float, completion: float) -> None:
    print(
        f"  {name}\twait mean {wait:.3f} h, p99 {tail:.2f} h\tcompletion mean {completion:.3f} h", flush=True
    )


if __name__ == "__main__":
    main()
