"""The policies that a scenario may name: a new one is a class and a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gpumax.errors import BadFile, Fault
from gpumax.study.replay.baselines import HardQuota, StaticBackfill, StaticFifo
from gpumax.study.replay.kubernetes import KubernetesDefault
from gpumax.study.replay.players import Player, Stage
from gpumax.study.replay.product import Gpumax

POLICIES: Final[dict[str, Callable[[Stage], Player]]] = {
    "static-fifo": StaticFifo,
    "static-backfill": StaticBackfill,
    "hard-quota": HardQuota,
    "kubernetes-default": KubernetesDefault,
    "gpumax": Gpumax,
    "gpumax-fractions": Gpumax,
}

FRACTIONAL: Final = frozenset(("gpumax-fractions",))
"""Policies for which sizes of one device are drawn from the scenario's."""


def player_of(policy: str) -> Callable[[Stage], Player]:
    """The class of a policy. BadFile for a name that is none."""
    if policy not in POLICIES:
        raise BadFile([Fault("policies", None, policy, f"one of {', '.join(POLICIES)}")])
    return POLICIES[policy]
