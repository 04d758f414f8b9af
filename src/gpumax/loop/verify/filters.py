"""Rule 9: taints, selectors, affinity and pools hold, and nothing new goes to a node that is not open."""

from __future__ import annotations

from collections.abc import Iterator

from gpumax.loop.verify.facts import Facts
from gpumax.loop.verify.violation import Violation
from gpumax.model.node import Node, Taint
from gpumax.model.workload import Expression, NodeTerm, Task, Toleration


def check_filters(facts: Facts) -> Iterator[Violation]:
    """Every node that gets something new may take it."""
    for new in facts.newcomers:
        found = refusal(new.task, new.workload.pool, facts.nodes[new.node])
        if found:
            yield Violation(9, f"{new.node} {found}", new.blame, new.task.name)


def refusal(task: Task, pool: str, node: Node) -> str:
    """Why a node may not take a task, in words; empty where it may."""
    if not node.ready:
        return "is not ready"
    if node.cordoned:
        return "is cordoned"
    if pool and node.pool != pool:
        return f"is in pool {node.pool or 'of no name'}, not in {pool}"
    for taint in node.taints:
        if taint.effect != "PreferNoSchedule" and not any(_bears(t, taint) for t in task.tolerations):
            return f"has taint {taint.key}={taint.value}:{taint.effect}, which it does not tolerate"
    for key, value in task.selector.items():
        if node.labels.get(key) != value:
            return f"has {key}={node.labels.get(key, '')}; its selector wants {value}"
    required = task.affinity.required if task.affinity is not None else None
    if required is not None and not any(_holds(term, node) for term in required):
        return "does not match its required affinity"
    return ""


def _bears(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.operator == "Exists":
        return not toleration.key or toleration.key == taint.key
    return toleration.key == taint.key and bool(toleration.key) and toleration.value == taint.value


def _holds(term: NodeTerm, node: Node) -> bool:
    """An empty term matches no node, as in Kubernetes."""
    rows = [(expression, node.labels.get(expression.key)) for expression in term.labels]
    rows += [
        (expression, node.name if expression.key == "metadata.name" else None) for expression in term.fields
    ]
    return bool(rows) and all(is_true(expression, value) for expression, value in rows)


def is_true(expression: Expression, value: str | None) -> bool:
    """Whether an expression holds for a label of this value; None: there is no such label."""
    if expression.operator == "In":
        return value is not None and value in expression.values
    if expression.operator == "NotIn":
        return value is None or value not in expression.values
    if expression.operator in ("Exists", "DoesNotExist"):
        return (value is not None) is (expression.operator == "Exists")
    try:
        here, bound = int(value or ""), int(expression.values[0])
    except (ValueError, IndexError):
        return False
    return here > bound if expression.operator == "Gt" else here < bound
