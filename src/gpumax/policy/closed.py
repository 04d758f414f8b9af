"""Nodes and devices that are out of service: who can't start for now may start when they are back."""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec.structs import replace

from gpumax.model.node import Node
from gpumax.policy.fit import Fits
from gpumax.policy.gang import Want
from gpumax.policy.ledger import Ledger
from gpumax.policy.place import Placer
from gpumax.policy.score import Scores
from gpumax.policy.words import NEVER, some
from gpumax.policy.world import World

UNHEALTHY: Final = "(unhealthy)"


class Closed:
    """Looks at the world as it would be if all of its nodes and devices were in service and empty. Nodes that aren't there any more are in none."""

    def __init__(self, world: World) -> None:
        self._world = world
        away = [not node.open or bool(ill(node)) for node in world.nodes.nodes]
        self._rows = np.flatnonzero(np.array(away, np.bool_))
        self._fits: Fits | None = None

    def unless(self, message: str, chunk: list[Want]) -> str:
        """The message; where it says `never` and nodes that are out of service would help, these instead."""
        if not message.endswith(NEVER):
            return message
        return message.removesuffix(NEVER) + (self.waits_for(chunk) or NEVER)

    def waits_for(self, chunk: list[Want]) -> str:
        """How a sentence ends about a chunk for which there is room once nodes are back; empty where they'd be no help."""
        if not self._rows.size:
            return ""
        if self._fits is None:
            self._fits = Fits(self._world.nodes.opened())
        fits, asks = self._fits, {want.ask for want in chunk}
        masks = [fits.possible(ask, at) for ask in asks for at in range(len(ask.gpu))]
        useful = [row for row in self._rows.tolist() if any(mask[row] for mask in masks)]
        if not useful or not self._fit(fits, chunk):
            return ""
        told = [_told(self._world.nodes.nodes[row]) for row in useful]
        one = len(told) == 1 and not told[0].startswith("GPUs ")
        return f", so it can't start while {some(told)} {'is' if one else 'are'} out of service"

    def _fit(self, fits: Fits, chunk: list[Want]) -> bool:
        """Whether all of them fit together, whoever they need around them."""
        world = self._world
        if len(chunk) == 1 and chunk[0].scope is None and chunk[0].ask.filter.tied is None:
            return True
        aloof = [replace(want, ask=world.asks.aloof(want.ask)) for want in chunk]
        scores = Scores(fits, world.snapshot, world.census)
        return Placer(fits, scores).place(Ledger(fits.nodes, world.ties), aloof) is not None


def _told(node: Node) -> str:
    if not node.open:
        return f"{node.name} ({'cordoned' if node.ready else 'not ready'})"
    return f"{ill(node)} {UNHEALTHY}"


def ill(node: Node) -> str:
    """`GPU 3 of n1`, `GPUs 0 and 3 of n1`: those that aren't healthy; empty where all are."""
    found = [str(device.index) for device in node.devices if not device.healthy]
    return f"GPU{'s' * (len(found) > 1)} {some(found)} of {node.name}" if found else ""
