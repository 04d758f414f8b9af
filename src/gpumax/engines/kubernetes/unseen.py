"""What was decided about tasks and isn't seen yet, and what keeps them where they are for a while: laid over what their pods say."""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from gpumax.engines.kubernetes.devices import Shares
from gpumax.model.workload import ACTIVE, Task, TaskState, Workload


class Assumed(NamedTuple):
    """A place that was decided and is not seen yet. at_ms: when it was."""

    node: str
    shares: Shares
    at_ms: int


class Unseen:
    """By task. assumed: counts as bound there. going: told to go, and counts as releasing. shielded: somebody else keeps it where it is.
    barred: not placed for now.
    """

    def __init__(self) -> None:
        self.assumed: dict[str, Assumed] = {}
        self.going: set[str] = set()
        self.shielded: set[str] = set()
        self.barred: set[str] = set()

    def forget(self, task: str) -> None:
        """Its pod is gone; what was assumed of it is for who gives the room back."""
        for names in (self.going, self.shielded, self.barred):
            names.discard(task)

    def applied(self, workload: Workload, *, stays: bool) -> Workload:
        """The workload with what we did and haven't seen yet; the same where there is nothing. stays: whether all of it is kept where it is, whatever is
        known of its tasks here.
        """
        names = [task.name for task in workload.tasks]
        done = (self.assumed, self.going, self.shielded, self.barred)
        if not stays and not any(name in known for known in done for name in names):
            return workload
        if stays or any(name in self.shielded for name in names):
            workload = replace(workload, preemptible=False)
        if workload.started_ms is None:
            # Whoever has just been given a place is protected from then on, not from when that is seen.
            begun = [self.assumed[name].at_ms for name in names if name in self.assumed]
            workload = replace(workload, started_ms=min(begun, default=None))
        return replace(workload, tasks=tuple(map(self._applied, workload.tasks)))

    def _applied(self, task: Task) -> Task:
        if task.name in self.assumed and task.state == "pending":
            state: TaskState = "releasing" if task.name in self.going else "bound"
            return replace(task, state=state, node=self.assumed[task.name].node)
        if task.name in self.barred and task.state == "pending":
            return replace(task, state="gated")
        if task.name in self.going and task.state in ACTIVE:
            return replace(task, state="releasing")
        return task
