"""Where asks could ever run: what depends on the nodes alone outlives a decision, as long as the nodes are the very same."""

from __future__ import annotations

from typing import Final, NamedTuple

from gpumax.model.node import Node
from gpumax.policy.ask import Asks
from gpumax.policy.fit import Fits
from gpumax.policy.nodes import Nodes
from gpumax.policy.ties import Ties

MOST_ASKS: Final = 1_000
"""Different asks that are remembered; after more of them all is looked up anew."""


class Terms(NamedTuple):
    """The nodes, what can be asked of them, and which of them may serve it."""

    nodes: Nodes
    fits: Fits
    asks: Asks


class _Memory:
    """The terms of the last decision. Nodes are known again by identity: nobody changes what is frozen."""

    last: Terms | None = None


_MEMORY: Final = _Memory()


def terms_of(nodes: tuple[Node, ...], ties: Ties | None) -> Terms:
    """The terms of a decision. Those of the one before are these, too, where it was about the very same nodes."""
    last = _MEMORY.last
    if last is None or last.nodes.nodes is not nodes:
        last = _MEMORY.last = _anew(Nodes(nodes), None)
    elif len(last.asks) > MOST_ASKS:
        last = _MEMORY.last = _anew(last.nodes.anew(), None)
    # What ties tasks to each other is found anew for each decision, and so is what they ask.
    return last if ties is None else _anew(last.nodes.anew(), ties)


def _anew(nodes: Nodes, ties: Ties | None) -> Terms:
    return Terms(nodes, Fits(nodes), Asks(ties))
