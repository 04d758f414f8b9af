"""A decision leaves no garbage behind."""

from __future__ import annotations

import gc
import weakref
from functools import partial

from board import MINUTE_MS, Sketch, queue
from gpumax.policy.decide import PASSES, decided
from gpumax.policy.forecast import Effort
from gpumax.policy.hold import holds


def test_a_world_goes_as_soon_as_nobody_holds_it() -> None:
    """No circle of references keeps it: to search one as large as a cluster for garbage takes as long as to decide."""
    sketch = (
        Sketch("n1: bbbb")
        .with_queues(queue("p", 2), queue("q", 2))
        .run("b", "q", min=1, max_duration_ms=60 * MINUTE_MS)
    )
    world = decided(sketch.wait("A", "p", tasks=2).wait("B", "q", priority=75).snapshot(), PASSES)
    assert world.evictions, "somebody has to go, so that all that a decision is made of is there"
    holds(world, partial(decided, wanted=PASSES), Effort(100, 4, 100))
    there = weakref.ref(world)
    gc.disable()
    try:
        del world
        assert there() is None
    finally:
        gc.enable()
