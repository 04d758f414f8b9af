"""What an agent says of itself over HTTP, as the scheduler does: whether it lives, and its broker's metrics, for whom the cluster lets read them."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from gpumax.apps.agent.parts import Parts
from gpumax.apps.gpu.view import exported
from gpumax.apps.scheduler.health import State

HUNG_S: Final = 300.0
"""So long no look takes, whatever the cluster does."""


class Life:
    """Asked from any thread."""

    def __init__(self, now_s: Callable[[], float] = monotonic) -> None:
        self._now_s = now_s
        self._looked_s = now_s()
        self.published = False

    def looked(self) -> None:
        """It has come round."""
        self._looked_s = self._now_s()

    def live(self) -> State:
        """Not well where only a new start would mend it."""
        silent_s = self._now_s() - self._looked_s
        return State(
            silent_s < HUNG_S, "ok" if silent_s < HUNG_S else f"it hasn't looked for {silent_s:.0f} s"
        )

    def ready(self) -> State:
        """Whether the cluster knows the devices."""
        return State(self.published, "ready" if self.published else "its GPUs aren't published yet")


def page(broker: str, parts: Parts) -> bytes:
    """The broker's metrics, whose groups are called after claims or tickets, and which pod each of these is."""
    registry = CollectorRegistry()
    about = Gauge(
        "gpumax_agent_part_info", "Always 1: which pod has a part, by its group", ["group", "namespace", "pod"],
        registry=registry,
    )  # fmt: skip
    for key, origin in parts.kept().items():
        about.labels(key, origin.namespace, origin.pod).set(1)
    return exported(broker).encode() + generate_latest(registry)
