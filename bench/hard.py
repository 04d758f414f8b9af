"""What the hard cases of the passes share: clusters of several sizes, an answer that is checked, one row a size."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from gpumax.formats.snapshot import load_snapshot
from gpumax.model.decision import Decision
from gpumax.policy.decide import decide
from measure import Figure, Row, decide_anew, seconds, show

SIZES: Final = (50, 100, 200, 500, 1000)
REPEAT: Final = 9


class Hard:
    """One hard case. goals_ms: by number of nodes; beside: words behind the name of a size.

    evicted: how many tasks the right answer evicts or moves for each of the gang, which has a tenth as many tasks as nodes.
    """

    def __init__(
        self,
        name: str,
        cluster: Callable[[int], Any],
        *,
        evicted: int,
        moved: bool = False,
        goals_ms: Mapping[int, float],
        beside: Mapping[int, str] | None = None,
    ) -> None:
        self._name = name
        self._cluster = cluster
        self._evicted = evicted
        self._moved = moved
        self._goals_ms = goals_ms
        self._beside = beside or {}

    def figures(self, repeat: int = REPEAT, sizes: tuple[int, ...] = SIZES) -> list[Row]:
        """A row a size. SystemExit where an answer is wrong."""
        return [self._figure(nodes, repeat) for nodes in sizes]

    def main(self, about: str | None) -> None:
        """Read the flags, measure, print."""
        parser = argparse.ArgumentParser(
            description=about, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        parser.add_argument("--nodes", type=int, nargs="+", default=SIZES, help="sizes to measure")
        parser.add_argument("--repeat", type=int, default=REPEAT)
        flags = parser.parse_args()
        show(self.figures(flags.repeat, tuple(flags.nodes)))

    def _figure(self, nodes: int, repeat: int) -> Row:
        snapshot = load_snapshot(self._cluster(nodes))
        self._check(nodes, decide(snapshot))
        times = tuple(1000 * time for time in seconds(partial(decide_anew, snapshot), repeat))
        name = f"{self._name}, {nodes} nodes{self._beside.get(nodes, '')}"
        return Figure(name, "ms", times, self._goals_ms.get(nodes))

    def _check(self, nodes: int, decision: Decision) -> None:
        """The whole gang is placed, for no more than that costs."""
        wanted = nodes // 10
        moved = sum(eviction.restarts_on is not None for eviction in decision.evictions)
        found = len(decision.places), moved if self._moved else len(decision.evictions)
        if found != (wanted, wanted * self._evicted):
            raise SystemExit(
                f"{self._name}, {nodes} nodes: {len(decision.places)} placed, {len(decision.evictions)} evicted, {moved} moved"
            )
