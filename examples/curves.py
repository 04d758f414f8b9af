"""Make a table of what tasks that serve models do, minute by minute: a synthetic example for bench/duty.py.

    python examples/curves.py [--tasks 60] [--minutes 720] [--seed 1] > curves.csv
    python bench/duty.py curves.csv

Nothing here was measured. The shapes are what one expects of inference: memory is held all the time, devices are idle for most minutes,
bursts of some minutes come at chance, and more of them at one time of the day, the same for most tasks.
"""

from __future__ import annotations

import argparse
import math
import random
import sys


def main() -> None:
    """Read the flags, write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=60)
    parser.add_argument("--minutes", type=int, default=720)
    parser.add_argument("--seed", type=int, default=1)
    flags = parser.parse_args()
    chance = random.Random(flags.seed)
    write = sys.stdout.write
    write("task,minute,duty,memory_mib\n")
    for number in range(flags.tasks):
        memory = chance.randrange(16, 48) * 1024
        often, height = chance.expovariate(1 / 0.03), chance.uniform(20, 90)
        peak = 0.6 if chance.random() < 0.7 else chance.random()
        left = 0
        for minute in range(flags.minutes):
            day = 1 + math.cos(2 * math.pi * (minute / flags.minutes - peak))
            if left == 0 and chance.random() < often * day:
                left = chance.randrange(1, 12)
            duty = min(100.0, chance.gauss(height, 10)) if left else 0.0
            left = max(left - 1, 0)
            write(f"task-{number:03d},{minute},{max(duty, 0.0):.1f},{memory}\n")


if __name__ == "__main__":
    main()
