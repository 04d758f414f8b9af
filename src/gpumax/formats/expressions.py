"""Match expressions, as Kubernetes writes them for labels and fields."""

from __future__ import annotations

from typing import Literal

from gpumax.formats.scalars import VALUE, Choice
from gpumax.formats.shape import Field, Object, Rows, Shape, wrong
from gpumax.model.workload import Document, Expression

_Operator = Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]


def _expression(key: str, operator: _Operator, values: tuple[str, ...] = ()) -> Expression:
    if operator in ("In", "NotIn") and not values:
        raise wrong(None, f"values; {operator} needs at least one")
    if operator in ("Exists", "DoesNotExist") and values:
        raise wrong(list(values), f"no values; {operator} takes none")
    if operator in ("Gt", "Lt") and not (len(values) == 1 and values[0].lstrip("-").isdecimal()):
        raise wrong(
            list(values), f'one whole number in quotes as the value of {operator}, like values: ["4"]'
        )
    return Expression(key, operator, values)


def expressions(title: str, key: Shape[str], operators: tuple[str, ...]) -> Rows[Expression]:
    """Rows of expressions on such keys, with these operators."""
    fields = {
        "key": Field(key, "What is looked at.", required=True),
        "operator": Field(Choice(operators), "How it is compared.", required=True),
        "values": Field(Rows(VALUE, most=1000), "What it is compared with."),
    }
    return Rows(Object(title, fields, _expression), most=1000)


def dump_expression(expression: Expression) -> Document:
    """As it is read."""
    document: Document = {"key": expression.key, "operator": expression.operator}
    if expression.values:
        document["values"] = list(expression.values)
    return document
