"""How new is what is known of the cluster: for how long nothing was heard of each kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import monotonic
from typing import Any, Final

from gpumax.engines.kubernetes.client.informer import Informer

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
        if not one.synced:
            yield f"{_name(one)} aren't known yet: {one.trouble}"
        elif now_s - one.heard_s > FRESH_S:
            why = one.trouble or "the watch is silent"
            yield f"nothing was heard of {_name(one)} for {now_s - one.heard_s:.0f} s: {why}"


def _name(informer: Informer[Any]) -> str:
    kind = informer.kind
    return f"{kind.plural}.{kind.group}" if "." in kind.group else kind.plural
