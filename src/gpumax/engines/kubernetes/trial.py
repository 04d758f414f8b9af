"""A cluster that another scheduler steers, looked at with other queues, maybe; nothing is written to it."""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from gpumax.engines.kubernetes.client.cache import Change
from gpumax.engines.kubernetes.cluster import KubernetesCluster
from gpumax.engines.kubernetes.kinds import PODS
from gpumax.engines.kubernetes.telling import TARGET, WHY_GO
from gpumax.engines.kubernetes.views import Condition, Pod
from gpumax.model.decision import Decision
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Policy, Snapshot

MOST: Final = 10_000
"""Of so many pods is kept why they were told to go."""
_OURS: Final = frozenset(WHY_GO.values())


class TrialCluster(KubernetesCluster):
    """queues: those that hold instead of the cluster's; None: its own do."""

    queues: tuple[Queue, ...] | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._told_to_go: dict[str, str] = {}

    def start(self, patience_s: float = 120.0) -> None:
        """See `KubernetesCluster`."""
        super().start(patience_s)
        pods = self._informers[PODS].cache
        self._loop.call_soon_threadsafe(pods.on_change, self._heed)

    def snapshot(self, now_ms: int, policy: Policy) -> Snapshot:
        """See `Cluster`."""
        found = super().snapshot(now_ms, policy)
        return found if self.queues is None else replace(found, queues=self.queues)

    def carry_out(self, snapshot: Snapshot, decision: Decision) -> None:
        """Nothing."""

    def told_to_go(self, task: str) -> str:
        """Why another gpumax told a task to go; empty where none did. A pod that was deleted since counts, too."""
        return self._told_to_go.get(task, "")

    def _heed(self, change: Change[Pod]) -> None:
        task = "/".join(change.key)
        if change.new is None:
            return
        reasons = [row.reason for row in change.new.status.conditions or () if _goes(row)]
        if not reasons:
            self._told_to_go.pop(task, None)  # another pod of that name
        for reason in reasons:
            if reason in _OURS:
                # The API server writes its own reason over it before the pod goes.
                self._told_to_go[task] = reason
        if len(self._told_to_go) > MOST:
            del self._told_to_go[next(iter(self._told_to_go))]


def _goes(row: Condition) -> bool:
    return row.type == TARGET and row.status == "True"
