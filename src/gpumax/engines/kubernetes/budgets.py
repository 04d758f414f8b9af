"""Disruption budgets: which pods nobody may evict now. A decision that knows it asks for others, instead of being refused."""

from __future__ import annotations

from gpumax.engines.kubernetes.views import Labels, Meta, Part, Pod
from gpumax.model.workload import Expression
from gpumax.policy.labels import holds


class Selector(Part, frozen=True, rename="camel", gc=False):
    """Which pods are meant, by their labels; all must hold."""

    match_labels: Labels | None = None
    match_expressions: tuple[Expression, ...] = ()


class BudgetSpec(Part, frozen=True, rename="camel", gc=False):
    """Without a selector no pod is meant, with an empty one every pod of the namespace."""

    selector: Selector | None = None


class BudgetStatus(Part, frozen=True, rename="camel", gc=False):
    """How many of the pods may be evicted now; none before somebody has counted."""

    disruptions_allowed: int = 0


class Budget(Part, frozen=True, rename="camel", gc=False):
    """A PodDisruptionBudget."""

    metadata: Meta = Meta()
    spec: BudgetSpec = BudgetSpec()
    status: BudgetStatus = BudgetStatus()


class Budgets:
    """Those that allow nothing now; of the others nothing is kept."""

    def __init__(self) -> None:
        self._spent: dict[str, dict[str, Selector]] = {}  # by namespace, then name

    def see(self, namespace: str, name: str, budget: Budget | None) -> bool:
        """A budget as it is now; None where it is gone. Returns whether it keeps other pods than before."""
        there = self._spent.setdefault(namespace, {})
        before = there.pop(name, None)
        now = None
        if budget is not None and budget.status.disruptions_allowed <= 0:
            now = budget.spec.selector
        if now is not None:
            there[name] = now
        if not there:
            del self._spent[namespace]
        return now != before

    def keep(self, pod: Pod) -> bool:
        """Whether an eviction of the pod would be refused. One that isn't ready is worth asking for."""
        spent = self._spent.get(pod.metadata.namespace)
        return spent is not None and _ready(pod) and any(_meant(one, pod) for one in spent.values())


def _ready(pod: Pod) -> bool:
    return any(row.type == "Ready" and row.status == "True" for row in pod.status.conditions)


def _meant(selector: Selector, pod: Pod) -> bool:
    labels = pod.metadata.labels or {}
    wanted = selector.match_labels or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        holds(expression, labels) for expression in selector.match_expressions
    )
