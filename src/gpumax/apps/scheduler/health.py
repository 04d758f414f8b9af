"""Whether the scheduler lives, and whether it is ready to steer; in words where it isn't."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from threading import Thread
from typing import Final, NamedTuple

from gpumax.engines.kubernetes.cluster import KubernetesCluster
from gpumax.loop.steer import Steering

HUNG_S: Final = 300.0
"""No cycle takes as long; whoever has not come round for so long won't."""
ANSWER_S: Final = 5.0


class State(NamedTuple):
    """Whether all is well, and in words what isn't."""

    well: bool
    words: str


class Health:
    """Asked from any thread. The words tell nothing of what stands in objects of the cluster: anybody may read them."""

    def __init__(self, cluster: KubernetesCluster, steering: Steering, thread: Thread) -> None:
        self._cluster = cluster
        self._steering = steering
        self._thread = thread

    def live(self) -> State:
        """Not well where only a new start would mend it. That the API server is away is no such thing."""
        return _state(self._dead(), "ok")

    def ready(self) -> State:
        """Whether we steer, or could take over at once from the replica that does."""
        if self._steering.dry:
            well = "ready; a dry run, which writes nothing"
        else:
            well = (
                "ready, and steers" if self._cluster.ours else f"ready to take over; {self._cluster.others}"
            )
        return _state((*self._dead(), *self._unready()), "\n".join((well, *self._cluster.left_out)))

    def _dead(self) -> Iterator[str]:
        if self._thread.ident is not None and not self._thread.is_alive():
            yield "the loop has ended"
        elif self._steering.silent_s > HUNG_S:
            yield f"the loop has not come round for {self._steering.silent_s:.0f} s"
        if not self._cluster.answers(ANSWER_S):
            yield f"the thread that follows the cluster has not answered within {ANSWER_S:g} s"

    def _unready(self) -> Iterator[str]:
        if self._thread.ident is None:
            yield "the loop has not begun"
        yield from self._cluster.unready()
        if self._steering.trouble:
            yield "the last cycle failed; the log says why, and it is tried again"


def _state(troubles: Iterable[str], well: str) -> State:
    found = tuple(troubles)
    return State(not found, "\n".join(found or (well,)))
