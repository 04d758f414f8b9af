"""Match expressions on labels, as Kubernetes means them."""

from __future__ import annotations

from collections.abc import Mapping

from gpumax.model.workload import Expression


def holds(expression: Expression, labels: Mapping[str, str]) -> bool:
    """Whether an expression holds for these labels."""
    value = labels.get(expression.key)
    match expression.operator:
        case "In":
            return value in expression.values
        case "NotIn":
            return value not in expression.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            return _compares(expression, value)


def _compares(expression: Expression, value: str | None) -> bool:
    try:
        left, right = int(value or ""), int(expression.values[0])
    except (ValueError, IndexError):
        return False
    return left > right if expression.operator == "Gt" else left < right
