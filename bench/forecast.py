"""How far forecasts are off: crowded clusters are played to their end, and what work was told first is compared with its start.

The clusters are small, mostly full, of one to three queues; work of all sizes waits, some of it in gangs; running work is
taken back, moved and preempted on the way. An error is the true start less the forecast, so late is above zero.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from board import MINUTE_MS
from measure import machine, percentile
from played import Story, Told, crowded, play

CASES = {
    "all durations known, nobody comes later": partial(crowded),
    "the same, and 12 more come later": partial(crowded, later=12),
    "durations told twice as long as they are": partial(crowded, over=2),
    "both": partial(crowded, later=12, over=2),
}


def figures(told: list[Told]) -> str:
    """One line: errors in minutes, by size and with their sign, and how many were told nothing."""
    errors = [row.error / MINUTE_MS for row in told if row.error is not None]
    sizes = [abs(error) for error in errors]
    exact = 100 * sizes.count(0) / len(sizes)
    started = [row for row in told if row.start is not None]
    nothing = 100 * sum(row.forecast is None for row in started) / len(started)
    low, high = percentile(errors, 10), percentile(errors, 90)
    return (
        f"median {median(sizes):.0f} min, p90 {percentile(sizes, 90):.0f} min, exact {exact:.0f}%; "
        f"from {low:.0f} to {high:+.0f} min in 8 of 10; {nothing:.1f}% told nothing; n {len(errors)}"
    )


def main() -> None:
    """Read the flags, play, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clusters", type=int, default=40, help="seeds 0 to this")
    parser.add_argument("--waiting", type=int, default=16, help="workloads that wait at first")
    flags = parser.parse_args()
    for name, story in CASES.items():
        stories: list[Story] = [story(seed, waiting=flags.waiting) for seed in range(flags.clusters)]
        told = [row for each in stories for row in play(each).values()]
        print(f"{name}\n  {figures(told)}")
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
