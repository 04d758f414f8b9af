"""Makes trace.csv: ten days of four teams, about 1,500 workloads, the same from the same seed.

python examples/study/make_trace.py > examples/study/trace.csv

Made up, but of the shape that published traces have: days and nights, campaigns that fall on different days for each team, many small
workloads and few large ones, durations with a long tail, and limits that people write down with a generous margin.
"""

from __future__ import annotations

import csv
import math
import random
import sys
from collections.abc import Iterator
from typing import Final, NamedTuple

SEED: Final = 42
DAYS: Final = 10
DAY: Final = 86_400
LONGEST: Final = 3 * DAY


class Team(NamedTuple):
    """workloads: about how many in all. sizes: GPUs by how often. minutes: the median duration; tail: how long the tail is (of the
    logarithm). peak: the hour of the day at which most comes. campaigns: days with three times as much."""

    name: str
    workloads: int
    sizes: dict[int, int]
    minutes: float
    tail: float
    peak: int
    campaigns: tuple[int, ...]
    people: int


TEAMS: Final = (
    Team("research", 330, {1: 40, 2: 20, 4: 18, 8: 14, 16: 6, 32: 2}, 34, 1.5, 15, (1, 2, 8), 14),
    Team("vision", 420, {1: 55, 2: 20, 4: 15, 8: 8, 16: 2}, 40, 1.4, 11, (4, 5), 9),
    Team("speech", 300, {1: 60, 2: 25, 4: 10, 8: 5}, 55, 1.4, 20, (6, 7), 6),
    Team("teaching", 450, {1: 92, 2: 6, 4: 2}, 25, 1.2, 14, (3, 9), 40),
)


class Row(NamedTuple):
    """One workload; moments and durations in seconds."""

    submitted: int
    name: str
    queue: str
    user: str
    gpu: int
    duration: int
    max_duration: str


def rate(team: Team, moment: float) -> float:
    """How much comes at a moment, as a part of the most."""
    hour = moment / 3600 % 24
    day = 0.15 + 0.85 * (1 + math.cos((hour - team.peak) / 24 * 2 * math.pi)) / 2
    return day * (1.0 if int(moment // DAY) in team.campaigns else 1 / 3)


def moments(team: Team, chance: random.Random) -> Iterator[int]:
    """When workloads come: often in the team's hours, on the days of its campaigns most of all."""
    steps = DAYS * 24
    mean = sum(rate(team, step * 3600 + 1800) for step in range(steps)) / steps
    most = team.workloads / (DAYS * DAY) / mean
    moment = 0.0
    while True:
        moment += chance.expovariate(most)
        if moment >= DAYS * DAY:
            return
        if chance.random() < rate(team, moment):
            yield int(moment)


def rows(seed: int = SEED) -> list[Row]:
    """All workloads, in the order in which they come."""
    found = []
    for team in TEAMS:
        # A seed of its own, so that one team's numbers change nothing for the others.
        chance = random.Random(f"{seed} {team.name}")
        for number, moment in enumerate(moments(team, chance), 1):
            gpus = chance.choices(list(team.sizes), list(team.sizes.values()))[0]
            # Large work is long work, a little.
            median = team.minutes * 60 * gpus**0.3
            duration = min(LONGEST, max(20, round(chance.lognormvariate(math.log(median), team.tail))))
            hours = math.ceil(duration * chance.uniform(1.1, 4) / 3600)
            limit = f"{hours}h" if chance.random() < 0.7 else ""
            user = f"{team.name}-{chance.randint(1, team.people):02}"
            found.append(Row(moment, f"{team.name}-{number:04}", team.name, user, gpus, duration, limit))
    return sorted(found)


def main() -> None:
    """Print the table."""
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(Row._fields)
    table.writerows(rows())


if __name__ == "__main__":
    main()
