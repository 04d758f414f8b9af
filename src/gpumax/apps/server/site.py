"""What every route works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from fastapi import Depends, Request

from gpumax.apps.server.feed import Feed
from gpumax.errors import Stale
from gpumax.loop.cycle import Loop, Seen
from gpumax.ports.clock import Clock

if TYPE_CHECKING:
    from gpumax.ports.store import Store

PATIENCE_S: Final = 2.0
"""How long an answer waits for the cycle that saw what was asked; it is then given without."""


class About(msgspec.Struct, frozen=True):
    """What doesn't change while the server runs. virtual: its GPUs are made up."""

    data: Path
    pid: int = 0
    socket: str = ""
    url: str | None = None
    started_ms: int = 0
    engine: str = ""
    notes: tuple[str, ...] = ()
    virtual: bool = False


class Site(msgspec.Struct, frozen=True):
    """The parts of a running server, for any thread.

    measure: what the broker of the GPUs tells Prometheus; waits: what it says of a workload that runs.
    shared: by index, the GPUs of which it gives out parts, as `apps.gpu.view` says it.

    naming: held while a name is made and taken.
    """

    store: Store
    loop: Loop
    clock: Clock
    feed: Feed
    about: About
    measure: Callable[[], str] = lambda: ""
    waits: Callable[[str], tuple[str, ...]] = lambda _: ()
    shared: Callable[[], Mapping[int, dict[str, Any]]] = dict
    naming: Lock = msgspec.field(default_factory=Lock)

    def settle(self) -> None:
        """Return when a cycle has seen what was written before; a loop that is busy or in trouble isn't waited for."""
        self.loop.wait_past(self.loop.wake(), PATIENCE_S)

    def seen(self) -> Seen:
        """What the last cycle saw and decided. Stale where none has finished yet."""
        if self.loop.last is None:
            self.settle()
        seen = self.loop.last
        if seen is None:
            raise Stale(f"no cycle has finished yet{f': {self.loop.trouble}' if self.loop.trouble else ''}")
        return seen


async def _site(request: Request) -> Site:
    site: Site = request.app.state.site
    return site


Here = Annotated[Site, Depends(_site)]
"""The site, as a parameter of a route."""
