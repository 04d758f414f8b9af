"""Pods that other schedulers placed, node by node, while they hold room."""

from __future__ import annotations

from gpumax.engines.kubernetes.foreign import Held, held
from gpumax.engines.kubernetes.tasks import read_task, state_of
from gpumax.engines.kubernetes.views import Pod
from gpumax.model.workload import HOLDING, Task


class Strangers:
    """What they hold."""

    def __init__(self) -> None:
        self._there: dict[str, dict[str, Task]] = {}  # by node, then task
        self._at: dict[str, str] = {}  # on which node

    def see(self, name: str, pod: Pod | None) -> set[str]:
        """A pod as it is now; None where it is gone, or is ours. Returns the nodes of which something else is left."""
        node = pod.spec.node_name if pod is not None and state_of(pod) in HOLDING else ""
        before, moved = self._at.get(name, ""), set[str]()
        if before and before != node:
            self._there[before].pop(name, None)
            moved.add(before)
            del self._at[name]
        if node and pod is not None:
            task = read_task(pod).task
            there = self._there.setdefault(node, {})
            if name not in there or there[name].request != task.request:
                there[name] = task
                self._at[name] = node
                moved.add(node)
        return moved

    def held(self, node: str) -> Held:
        """What they hold of a node."""
        return held(tuple(self._there.get(node, {}).values()))
