"""decide() on a large busy cluster, and the same from JSON text to the decision.

Three situations, because they cost different work:
  fits     a fifth of the GPUs is free, so that most of what waits is placed
  blocked  every GPU is held by work that nobody may take back, so that all that waits is held with its reason
  reclaim  half of the projects hold every GPU, most of it beyond their share; the others take theirs back
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from typing import Final

from clusters import Document, busy
from gpumax.formats.snapshot import load_snapshot
from gpumax.policy.decide import decide
from measure import Figure, Row, decide_anew, seconds, show

Goals = tuple[float | None, float | None]
GOALS: Final[dict[tuple[int, int, int], Goals]] = {
    (1000, 10_000, 2_000): (0.25, 1.0),
    (10_000, 80_000, 10_000): (3.0, None),
}
"""Seconds, by nodes, running and waiting tasks: of decide(), and from JSON text to the decision."""
KINDS: Final = {"fits": (0.8, "abcd"), "blocked": (1.0, "abcd"), "reclaim": (1.0, "ab")}


def document(kind: str, nodes: int, running: int, waiting: int, seed: int) -> Document:
    """The snapshot of a situation."""
    used, teams = KINDS[kind]
    found = busy(nodes, running, waiting, used=used, teams=teams, seed=seed)
    if kind == "blocked":
        for workload in found["workloads"]:
            if workload["name"].startswith("r"):
                workload["preemptible"] = False
    return found


def figures(nodes: int, running: int, waiting: int, seed: int, repeat: int) -> list[Row]:
    """Two rows a situation."""
    rows: list[Row] = []
    goal, whole_goal = GOALS.get((nodes, running, waiting), (None, None))
    size = f"{nodes} nodes, {running} running, {waiting} waiting"
    for kind in KINDS:
        text = json.dumps(document(kind, nodes, running, waiting, seed)).encode()
        snapshot = load_snapshot(text)
        decision = decide(snapshot)
        said = f"{len(decision.places)} placed, {len(decision.evictions)} evicted, {len(decision.holds)} held"
        rows.append(
            Figure(
                f"decide, {kind}: {size}; {said}", "s", seconds(partial(decide_anew, snapshot), repeat), goal
            )
        )
        whole = seconds(lambda text=text: decide(load_snapshot(text)), repeat)  # type: ignore[misc]
        rows.append(Figure(f"JSON text to decision, {kind}", "s", whole, whole_goal))
    return rows


def main() -> None:
    """Read the flags, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=1000, help="of 8 GPUs each")
    parser.add_argument("--running", type=int, default=10_000, help="running tasks")
    parser.add_argument("--waiting", type=int, default=2_000, help="waiting tasks")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=7)
    flags = parser.parse_args()
    show(figures(flags.nodes, flags.running, flags.waiting, flags.seed, flags.repeat))


if __name__ == "__main__":
    main()
