"""The hard consolidate: every node is one GPU short of a whole one; a gang of a tenth as many 8-GPU tasks as nodes waits.

There is room enough for all, but not in whole nodes: nobody has to stop, and as few tasks as the gang has must move.
"""

from __future__ import annotations

import argparse
from functools import partial

from clusters import hard_consolidate
from gpumax.formats.snapshot import load_snapshot
from gpumax.policy.decide import decide
from measure import Figure, Row, seconds, show


def figures(sizes: list[int], repeat: int) -> list[Row]:
    """A row a size; the answer is checked: one task is moved for each of the gang."""
    rows: list[Row] = []
    for nodes in sizes:
        snapshot = load_snapshot(hard_consolidate(nodes))
        decision = decide(snapshot)
        wanted = nodes // 10
        moved = sum(eviction.restarts_on is not None for eviction in decision.evictions)
        if len(decision.places) != wanted or moved != wanted:
            raise SystemExit(
                f"{nodes} nodes: {len(decision.places)} placed, {moved} of {len(decision.evictions)} moved"
            )
        times = tuple(1000 * time for time in seconds(partial(decide, snapshot), repeat))
        rows.append(Figure(f"hard consolidate, {nodes} nodes", "ms", times, 250.0 if nodes == 500 else None))
    return rows


def main() -> None:
    """Read the flags, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, nargs="+", default=[50, 100, 200, 500], help="sizes to measure")
    parser.add_argument("--repeat", type=int, default=9)
    flags = parser.parse_args()
    show(figures(flags.nodes, flags.repeat))


if __name__ == "__main__":
    main()
