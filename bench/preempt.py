"""The hard preempt: every GPU held by one-GPU tasks of the queue in which a gang of higher priority waits.

The gang has a tenth as many 8-GPU tasks as there are nodes, as in the hard reclaim (`reclaim.py`).
"""

from __future__ import annotations

import argparse
from functools import partial

from clusters import DEVICES, hard_preempt
from gpumax.formats.snapshot import load_snapshot
from gpumax.policy.decide import decide
from measure import Figure, Row, seconds, show


def figures(sizes: list[int], repeat: int) -> list[Row]:
    """A row a size; the answer is checked: exactly the GPUs of the gang are evicted."""
    rows: list[Row] = []
    for nodes in sizes:
        snapshot = load_snapshot(hard_preempt(nodes))
        decision = decide(snapshot)
        wanted = nodes // 10
        if len(decision.places) != wanted or len(decision.evictions) != wanted * DEVICES:
            raise SystemExit(
                f"{nodes} nodes: {len(decision.places)} placed, {len(decision.evictions)} evicted"
            )
        times = tuple(1000 * time for time in seconds(partial(decide, snapshot), repeat))
        rows.append(Figure(f"hard preempt, {nodes} nodes", "ms", times, 50.0 if nodes == 500 else None))
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
