"""What bounds the figures of the Philly trace: `python bench/philly_bounds.py --data DIR [GPUS ...]`.

- Jain, all served: the index over served / min(demand, quota) if every workload ran from the moment at which it came. Queues that want
  more than their quota and get it pull it below 1; a schedule that gets more has served less.
- pool: one pool for all in the order of arrival, whoever has room passing those who have none; nobody is ever stopped.
- oracle: knows every duration; at each moment those with the fewest GPU hours left run, stopped and started again for nothing, on GPUs
  anywhere. The best to be expected of any scheduler.
- oracle within shares: the same inside each queue, which holds its share first; so the best that any order inside queues can be expected
  to do while shares are kept.
- steps: knows no duration and no queues; those who have held the fewest of 10, 100 and 1,000 GPU hours run, then the oldest; stopped and
  started for nothing, too.
"""

from __future__ import annotations

import argparse
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from gpumax.model.amounts import BOUNDLESS
from gpumax.model.study import Scenario
from gpumax.model.trace import Arrival
from gpumax.policy.share import Claim, divide
from gpumax.study.replay import replay
from gpumax.study.replay.measure import jain, quantile
from gpumax.units import MILLI
from measure import machine
from philly import DAYS, STEPS, philly

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


Rank = Callable[[int, int, Arrival], int]
"""Who is next, the smallest first, by what is left of it and what it has held, both in milliseconds."""


def remaining(left_ms: int, _had_ms: int, row: Arrival) -> int:
    """The GPU time that is left of it: nobody knows that but an oracle."""
    return left_ms * row.devices


def attained(_left_ms: int, had_ms: int, row: Arrival) -> int:
    """How many of the steps of GPU hours it has held."""
    return bisect_right(STEPS, had_ms * row.devices / HOUR_MS)


def ideal(scenario: Scenario, gpus: int, rank: Rank, *, shares: bool) -> tuple[list[int], list[int]]:
    """Waits and completions, in milliseconds and sorted, where those run who are next by rank, then by age.

    At each arrival and end whoever runs may stop and go on later for nothing, on GPUs anywhere. shares: each queue first runs within
    its share, and what queues leave is everybody's.
    """
    rows, at, now_ms = scenario.arrivals, 0, 0
    queues = {queue.name: number for number, queue in enumerate(scenario.queues)}
    quotas = [queue.quota.gpu for queue in scenario.queues]
    here: list[list[int]] = []  # rank, which of the rows, what is left of it, its queue, its size
    running: set[int] = set()
    waits, ends = [0] * len(rows), [0] * len(rows)
    while at < len(rows) or here:
        moments = [now_ms + entry[2] for entry in here if entry[1] in running]
        moments += [rows[at].submitted_ms] if at < len(rows) else []
        then_ms = min(moments)
        for entry in here:
            row = entry[1]
            if row in running:
                entry[2] -= then_ms - now_ms
                entry[0] = rank(entry[2], rows[row].duration_ms - entry[2], rows[row])
                if entry[2] <= 0:
                    ends[row] = then_ms - rows[row].submitted_ms
            else:
                waits[row] += then_ms - now_ms
        now_ms = then_ms
        here = [entry for entry in here if entry[2] > 0]
        while at < len(rows) and rows[at].submitted_ms <= now_ms:
            arrival = rows[at]
            left = arrival.duration_ms
            here.append([rank(left, 0, arrival), at, left, queues[arrival.queue], arrival.devices])
            at += 1
        if sum([entry[4] for entry in here]) <= gpus:
            running = {entry[1] for entry in here}
            continue
        here.sort()
        free = [gpus] if not shares else _shares(here, quotas, gpus)
        running = set()
        for last in (False, True) if shares else (True,):
            if last:
                free = [gpus - sum([entry[4] for entry in here if entry[1] in running])]
            for _, row, _, queue, size in here:
                mine = 0 if last else queue
                if size <= free[mine] and row not in running:
                    running.add(row)
                    free[mine] -= size
    return sorted(waits), sorted(ends)


def _shares(here: list[list[int]], quotas: list[int], gpus: int) -> list[int]:
    """What each queue may hold, in whole devices, by the rule of the product."""
    wants = [0] * len(quotas)
    for *_, queue, size in here:
        wants[queue] += size * MILLI
    claims = [
        Claim(str(number), quota, want, quota, 100, 0, 0)
        for number, (quota, want) in enumerate(zip(quotas, wants, strict=True))
    ]
    return [share // MILLI for share in divide(gpus * MILLI, claims, unit=MILLI, fairness_k=0)]


KINDS: Final[tuple[tuple[str, Rank, bool], ...]] = (
    ("oracle", remaining, False),
    ("oracle within shares", remaining, True),
    ("steps", attained, False),
)


def main() -> None:
    """Read the flags, play, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sizes", nargs="*", type=int, metavar="GPUS", help=f"of the cluster; unset: {SIZES}")
    parser.add_argument("--data", type=Path, required=True, help="folder of philly.csv and philly_vc.csv")
    parser.add_argument("--days", type=int, default=DAYS, help="from 1 October 2017: fewer for a look")
    flags = parser.parse_args()
    print(machine())
    for gpus in flags.sizes or SIZES:
        scenario = philly(flags.data.absolute(), gpus, flags.days)
        print(f"{gpus} GPUs\tJain, all served: {served_at_once(scenario):.4f}", flush=True)
        free = replace(scenario, queues=tuple(replace(queue, quota=BOUNDLESS) for queue in scenario.queues))
        run = replay(free, "hard-quota", 42)
        _show("pool", run.wait_s.mean / 3600, run.wait_s.p99 / 3600, run.completion_s.mean / 3600)
        for name, rank, shares in KINDS:
            waits, ends = ideal(scenario, gpus, rank, shares=shares)
            count = len(waits) * HOUR_MS
            _show(name, sum(waits) / count, quantile(waits, 99) / HOUR_MS, sum(ends) / count)


def _show(name: str, wait: float, tail: float, completion: float) -> None:
    print(
        f"  {name}\twait mean {wait:.3f} h, p99 {tail:.2f} h\tcompletion mean {completion:.3f} h", flush=True
    )


if __name__ == "__main__":
    main()
