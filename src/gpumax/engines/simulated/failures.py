"""When nodes fail and come back: exponential times from a seed, each node with a chance of its own."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from gpumax.model.study import Failures


def outages(node: str, failures: Failures, seed: int, from_ms: int) -> Iterator[tuple[int, int]]:
    """The outages of a node without end: when it fails, and when it is back.

    Whatever else happens, and whichever other nodes there are, a node of this name fails at the same moments.
    """
    chance = Random(f"{seed}/{node}")  # noqa: S311 - the chance of a study, equal for equal seeds
    at_ms = from_ms
    while True:
        fails_ms = at_ms + _drawn(chance, failures.node_mtbf_ms)
        at_ms = fails_ms + _drawn(chance, failures.node_mttr_ms)
        yield fails_ms, at_ms


def _drawn(chance: Random, mean_ms: int) -> int:
    return max(1, round(chance.expovariate(1 / mean_ms))) if mean_ms > 0 else 1
