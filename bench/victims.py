"""How often reclaim's answer is not the best there is, on small clusters where every set of victims can be looked at.

Small problems are searched exactly, so that none should be missed; large ones task by task, node by node. Here both
ways answer the same small clusters: `exact` as the policy is, `stepwise` with the exact search turned off.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from board import MINUTE_MS, Sketch, queue
from brute import Brute
from gpumax.policy import search
from gpumax.policy.decide import decide
from measure import machine

LETTERS: Final = "bcdefgh"
OUTCOMES: Final = ("best", "worse", "missed", "illegal")


def contest(seed: int) -> Sketch:
    """One to three nodes of one to four GPUs, held by work of two queues; a gang of one to three tasks of a third waits."""
    chance = random.Random(seed)
    width = chance.randint(1, 4)
    lines = ["".join(_cell(chance) for _ in range(width)) for _ in range(chance.randint(1, 3))]
    sketch = Sketch("\n".join(f"n{number}: {cells}" for number, cells in enumerate(lines))).with_queues(
        queue("a", chance.randint(1, 6)),
        queue("p", chance.randint(0, 4), weight=chance.choice((0, 1, 2))),
        queue("q", chance.randint(0, 4), weight=chance.choice((0, 1))),
    )
    for letter in LETTERS:
        count = "".join(lines).count(letter)
        if count:
            sketch.run(
                letter, chance.choice("pq"), min=chance.randint(1, count), priority=chance.choice((40, 50, 50, 60, 100)),
                started=chance.randint(0, 3) * MINUTE_MS,
            )  # fmt: skip
    return sketch.wait("A", "a", tasks=chance.randint(1, 3), gpu=chance.choice((1, 1, 2, 0.5, 0.3)))


def _cell(chance: random.Random) -> str:
    kind = chance.random()
    if kind < 0.12:
        return "."
    if kind < 0.3:
        first, second = chance.sample(LETTERS, 2)
        part = chance.randint(2, 8)
        return f"[{first}{part}{second}{chance.randint(1, 10 - part)}]"
    return chance.choice(LETTERS)


def outcome(seed: int) -> str:
    """How the answer to a contest compares; empty where nobody has to go, or nobody could."""
    snapshot = contest(seed).snapshot()
    decision = decide(snapshot, ("allocate", "reclaim"))
    brute = Brute(snapshot, decision)
    if len(brute.units) > 11:
        return ""
    best = brute.answer()
    if best.free or best.cost is None:
        return "illegal" if decision.evictions else ""
    if not decision.places:
        return "missed"
    gone = {eviction.task for eviction in decision.evictions}
    chosen = [unit for unit in brute.units if unit.tasks[0].name in gone]
    if set(chosen) not in [set(legal) for legal in brute.legal()]:
        return "illegal"
    return "best" if brute.cost(chosen) == best.cost else "worse"


def main() -> None:
    """Read the flags, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clusters", type=int, default=3000, help="seeds 0 to this")
    seeds = range(parser.parse_args().clusters)
    print(f"{'search':10}{'contests':>10}" + "".join(f"{name:>10}" for name in OUTCOMES))
    for name in ("exact", "stepwise"):
        if name == "stepwise":
            search.MOST_PARTS = -1  # type: ignore[misc]
        counts = Counter(outcome(seed) for seed in seeds)
        total = sum(counts[kind] for kind in OUTCOMES)
        parts = "".join(f"{100 * counts[kind] / max(total, 1):>9.2f}%" for kind in OUTCOMES)
        print(f"{name:10}{total:>10}{parts}")
    print(f"\nbest: no better set by rule 6; missed: held though a set of victims helps\n{machine()}")


if __name__ == "__main__":
    main()
