"""How new is what is known of the cluster: for how long nothing was heard of each kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import monotonic
from typing import Any, Final

from gpumax.engines.kubernetes.client.informer import Informer
from gpumax.engines.kubernetes.kinds import OPTIONAL

FRESH_S: Final = 120.0
"""The API server says once a minute that nothing has changed; after twice that long its silence means something."""


def ages_s(informers: Iterable[Informer[Any]]) -> dict[str, float]:
    """For how long nothing was heard, by kind."""
    now_s = monotonic()
    return {_name(one): now_s - one.heard_s for one in informers}


def old(informers: Iterable[Informer[Any]]) -> Iterator[str]:
    """What isn't known, or may be old, as sentences."""
    now_s = monotonic()
    for one in informers:
        if _left_out(one):
            continue
        if not one.synced:
            yield f"{_name(one)} aren't known yet: {one.trouble}"
        elif now_s - one.heard_s > FRESH_S:
            why = one.trouble or "the watch is silent"
            yield f"nothing was heard of {_name(one)} for {now_s - one.heard_s:.0f} s: {why}"


def unknown(informers: Iterable[Informer[Any]]) -> Iterator[str]:
    """What has to be known before anything is decided, and isn't yet, as sentences."""
    for one in informers:
        if not one.synced and not _left_out(one):
            yield f"{_name(one)} aren't known yet: {one.trouble}"


def left_out(informers: Iterable[Informer[Any]]) -> Iterator[str]:
    """Without which of the kinds that aren't needed we go on, as sentences."""
    for one in informers:
        if _left_out(one):
            yield f"goes on without {_name(one)}: no right to list and watch them"


def _left_out(informer: Informer[Any]) -> bool:
    return informer.denied and informer.kind in OPTIONAL


def _name(informer: Informer[Any]) -> str:
    kind = informer.kind
    return f"{kind.plural}.{kind.group}" if "." in kind.group else kind.plural
