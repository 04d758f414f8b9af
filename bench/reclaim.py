"""The hard reclaim: every GPU held by another queue's one-GPU tasks, one gang of a tenth as many 8-GPU tasks as nodes.

KAI-Scheduler publishes 104, 130, 241, 816 and 8,970 ms for its ReclaimLargeJobs at 10, 50, 100, 200 and 500 nodes, on
hardware that it doesn't state and with about 100 ms of start-up in each (docs/developer/designs/vectorizing-resources).
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Final

from clusters import DEVICES, hard_reclaim
from gpumax.formats.snapshot import load_snapshot
from gpumax.policy.decide import decide
from measure import Figure, Row, seconds, show

PUBLISHED_MS: Final = {50: 130, 100: 241, 200: 816, 500: 8970}


def figures(sizes: list[int], repeat: int) -> list[Row]:
    """A row a size; the answer is checked: exactly the GPUs of the gang are evicted."""
    rows: list[Row] = []
    for nodes in sizes:
        snapshot = load_snapshot(hard_reclaim(nodes))
        decision = decide(snapshot)
        wanted = nodes // 10
        if len(decision.places) != wanted or len(decision.evictions) != wanted * DEVICES:
            raise SystemExit(
                f"{nodes} nodes: {len(decision.places)} placed, {len(decision.evictions)} evicted"
            )
        times = tuple(1000 * time for time in seconds(partial(decide, snapshot), repeat))
        beside = f" (KAI publishes {PUBLISHED_MS[nodes]})" if nodes in PUBLISHED_MS else ""
        rows.append(
            Figure(f"hard reclaim, {nodes} nodes{beside}", "ms", times, 50.0 if nodes == 500 else None)
        )
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
