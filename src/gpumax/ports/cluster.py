"""A cluster that keeps its own record of what is there: its objects are the truth, and whoever steers it keeps nothing beside them."""

from __future__ import annotations

from typing import Protocol

from gpumax.model.decision import Decision
from gpumax.model.snapshot import Policy, Snapshot


class Cluster(Protocol):
    """One cluster. Calls come from one thread. It calls its `wake` whenever snapshot() would change."""

    name: str

    @property
    def ours(self) -> bool:
        """Whether we steer it now; another replica may."""
        ...

    @property
    def pressing(self) -> bool:
        """Whether somebody may wait for the next decision; else what changes may be gathered. Asked from any thread."""
        ...

    def snapshot(self, now_ms: int, policy: Policy) -> Snapshot:
        """The cluster now, by its own clock where ours is another. What was carried out counts as done until the cluster itself says otherwise.

        Rows stay the same objects until something about them changes.
        """
        ...

    def carry_out(self, snapshot: Snapshot, decision: Decision) -> None:
        """Bind what has a place that waits for nobody, tell evicted tasks to go, and tell everybody else why they wait.

        Returns at once. What could not be done is seen in a later snapshot: it is as it was before.
        """
        ...

    def notes(self) -> tuple[str, ...]:
        """What a user should know of this cluster: rights that are missing, parts that are ignored."""
        ...

    def close(self) -> None:
        """Let go. Everything runs on."""
        ...
