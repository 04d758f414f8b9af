"""How often work waits though moves would serve it, on small clusters where every set of moves can be looked at.

Consolidate is a bounded search: it takes the least bad set of moves first, and lays out the asker and those who move one
after the other, in both orders, not in all. So is reclaim where work that may not be stopped moves out of its way.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from board import MINUTE_MS, Sketch, queue
from brute import Brute, units
from brute_moves import answers, detours
from gpumax.policy.decide import decide
from measure import machine

LETTERS: Final = "bcdef"
CELLS: Final = (*LETTERS, *"...", "[b5.5]", "[c5.5]", "[d3.7]")
MOST_UNITS: Final = 7


def scattered(seed: int) -> Sketch:
    """Two or three nodes with work here and there, and a workload that waits."""
    chance = random.Random(seed)
    width = chance.randint(2, 4)
    lines = ["".join(chance.choice(CELLS) for _ in range(width)) for _ in range(chance.randint(2, 3))]
    sketch = Sketch("\n".join(f"n{number}: {cells}" for number, cells in enumerate(lines)))
    sketch.with_queues(queue("q", 4), queue("p", 0))
    return _busy(chance, sketch, "q", "".join(lines))


def _busy(chance: random.Random, sketch: Sketch, asker: str, cells: str) -> Sketch:
    """With work of two queues where the cells have it, and a workload of the asker's that waits."""
    for letter in LETTERS:
        count = cells.count(letter)
        if count:
            sketch.run(
                letter, chance.choice("pq"), min=chance.randint(1, count), priority=chance.choice((40, 50, 50, 100)),
                started=chance.randint(0, 3) * MINUTE_MS,
            )  # fmt: skip
    return sketch.wait("A", asker, tasks=chance.randint(1, 2), gpu=chance.choice((1, 2, 2, 3, 0.6)))


def missed(seed: int) -> bool | None:
    """Whether work waits that moves would serve; None where no moves are needed, or none would help."""
    snapshot = scattered(seed).snapshot()
    decision = decide(snapshot, ("allocate", "consolidate"))
    if len(units(snapshot)) > MOST_UNITS or (decision.places and not decision.evictions):
        return None
    return None if next(answers(snapshot), None) is None else not decision.places


def contested(seed: int) -> Sketch:
    """Two or three nodes held by work of two queues, and a workload of a third that may take back."""
    chance = random.Random(seed)
    width = chance.randint(1, 3)
    lines = ["".join(chance.choice(CELLS) for _ in range(width)) for _ in range(chance.randint(2, 3))]
    sketch = Sketch("\n".join(f"n{number}: {cells}" for number, cells in enumerate(lines)))
    sketch.with_queues(
        queue("a", chance.randint(1, 4)),
        queue("p", chance.randint(0, 3), weight=chance.choice((0, 1, 2))),
        queue("q", chance.randint(0, 3), weight=chance.choice((0, 1, 2))),
    )
    return _busy(chance, sketch, "a", "".join(lines))


def missed_detour(seed: int) -> bool | None:
    """Whether who takes back waits though it would be served if some stopped and others moved; None where that is not the question."""
    snapshot = contested(seed).snapshot()
    decision = decide(snapshot, ("allocate", "consolidate", "reclaim"))
    if decision.places:
        causes = {row.cause for row in decision.evictions}
        return False if causes == {"consolidate", "reclaim"} else None
    brute = Brute(snapshot, decision)
    mine = brute.shares["a"]
    beyond = mine.allocated + sum(count * milli for count, milli in brute.asks) > mine.share
    if beyond or len(brute.units) > MOST_UNITS:
        return None
    return True if any(stopped for stopped, _ in detours(brute)) else None


def main() -> None:
    """Read the flags, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clusters", type=int, default=3000, help="seeds 0 to this")
    clusters = parser.parse_args().clusters
    for words, looked in (("moves serve", missed), ("some stop and others move", missed_detour)):
        found = [outcome for outcome in map(looked, range(clusters)) if outcome is not None]
        part = 100 * sum(found) / max(len(found), 1)
        print(f"{len(found)} clusters in which {words}; missed: {sum(found)} ({part:.2f}%)")
    print(machine())


if __name__ == "__main__":
    main()
