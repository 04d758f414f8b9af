"""Affinity, tolerations and taints, as Kubernetes writes them."""

from __future__ import annotations

from typing import Any, Final, Literal

from gpumax.formats.not_yet import NotYet
from gpumax.formats.scalars import KEY, VALUE, Choice, Text, Whole
from gpumax.formats.shape import Field, Map, Object, Rows, Shape, wrong
from gpumax.model.node import Effect, Taint
from gpumax.model.workload import Affinity, Document, Expression, NodeTerm, Toleration

_Operator = Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"
_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")


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


def _expressions(title: str, key: Shape[str], operators: tuple[str, ...]) -> Rows[Expression]:
    fields = {
        "key": Field(key, "What is looked at.", required=True),
        "operator": Field(Choice(operators), "How it is compared.", required=True),
        "values": Field(Rows(VALUE, most=1000), "What it is compared with."),
    }
    return Rows(Object(title, fields, _expression), most=1000)


_LABELS: Final = _expressions("NodeLabel", KEY, ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"))
_FIELDS: Final = _expressions(
    "NodeField", Text("metadata[.]name", "metadata.name, the one field there is"), ("In", "NotIn")
)


def _term(**parts: Any) -> NodeTerm | None:
    term = NodeTerm(**parts)
    return None if term == NodeTerm() else term


_TERM: Final = Object(
    "NodeTerm",
    {
        "matchExpressions": Field(_LABELS, "On node labels; all must hold.", to="labels"),
        "matchFields": Field(_FIELDS, "On node fields; all must hold.", to="fields"),
    },
    _term,
)


def _required(nodeSelectorTerms: tuple[NodeTerm | None, ...]) -> tuple[NodeTerm, ...]:
    # Kubernetes: an empty term matches nothing, and the terms are alternatives.
    return tuple(term for term in nodeSelectorTerms if term is not None)


def _preferred(weight: int, preference: NodeTerm | None) -> tuple[int, NodeTerm] | None:
    return None if preference is None else (weight, preference)


def _node_affinity(
    required: tuple[NodeTerm, ...] | None = None, preferred: tuple[tuple[int, NodeTerm] | None, ...] = ()
) -> Affinity | None:
    # Kubernetes: an empty preference says nothing.
    affinity = Affinity(required, tuple(wish for wish in preferred if wish is not None))
    return None if affinity == Affinity() else affinity


_NODE: Final = Object(
    "NodeAffinity",
    {
        _REQUIRED: Field(
            Object(
                "NodeSelector",
                {
                    "nodeSelectorTerms": Field(
                        Rows(_TERM, least=1, most=1000), "One of these must hold.", required=True
                    )
                },
                _required,
            ),
            "Must hold where a task is placed.",
            to="required",
        ),
        _PREFERRED: Field(
            Rows(
                Object(
                    "PreferredTerm",
                    {
                        "weight": Field(Whole(1, 100), "How much it counts.", required=True),
                        "preference": Field(_TERM, "What is preferred.", required=True),
                    },
                    _preferred,
                ),
                most=1000,
            ),
            "Wishes that add their weight where they hold.",
            to="preferred",
        ),
    },
    _node_affinity,
)

_SELECTOR: Final[Object[Document]] = Object(
    "LabelSelector",
    {
        "matchLabels": Field(Map(KEY, VALUE), "Labels that must be equal."),
        "matchExpressions": Field(
            _expressions("TaskLabel", KEY, ("In", "NotIn", "Exists", "DoesNotExist")),
            "Expressions that must hold.",
        ),
    },
    dict,
)
_TASK_TERM: Final[Object[Document]] = Object(
    "TaskTerm",
    {
        "labelSelector": Field(_SELECTOR, "Which tasks are meant."),
        "topologyKey": Field(KEY, "The node label whose equal values mean together.", required=True),
        "namespaces": Field(Rows(VALUE, most=1000), "In which namespaces."),
        "namespaceSelector": Field(_SELECTOR, "In namespaces with which labels."),
        "matchLabelKeys": Field(Rows(KEY, most=100), "Labels that must equal the task's own."),
        "mismatchLabelKeys": Field(Rows(KEY, most=100), "Labels that must differ from the task's own."),
    },
    dict,
)
_TASKS: Final[Object[Document]] = Object(
    "TaskAffinity",
    {
        _REQUIRED: Field(Rows(_TASK_TERM, most=1000), "All of these must hold."),
        _PREFERRED: Field(
            Rows(
                Object(
                    "PreferredTaskTerm",
                    {
                        "weight": Field(Whole(1, 100), "How much it counts.", required=True),
                        "podAffinityTerm": Field(_TASK_TERM, "What is preferred.", required=True),
                    },
                    dict,
                ),
                most=1000,
            ),
            "Wishes that add their weight where they hold.",
        ),
    },
    dict,
)


def _affinity(node: Affinity | None = None) -> Affinity | None:
    return node


AFFINITY: Final = Object(
    "Affinity",
    {
        "nodeAffinity": Field(_NODE, "Which nodes.", to="node"),
        "podAffinity": Field(NotYet("podAffinity", _TASKS), "Near which tasks.", keep=False),
        "podAntiAffinity": Field(NotYet("podAntiAffinity", _TASKS), "Far from which tasks.", keep=False),
    },
    _affinity,
    about="Node and pod affinity in the shape of Kubernetes.",
)


def _taint(key: str, value: str = "", effect: Effect = "NoSchedule") -> Taint:
    return Taint(key, value, effect)


TAINTS: Final = Rows(
    Object(
        "Taint",
        {
            "key": Field(KEY, "What a toleration must name.", required=True),
            "value": Field(VALUE, "Its value."),
            "effect": Field(Choice(_EFFECTS), "NoSchedule (unset), PreferNoSchedule or NoExecute."),
        },
        _taint,
    ),
    most=1000,
)


def _toleration(
    key: str = "", operator: Literal["Exists", "Equal"] = "Equal", value: str = "", effect: str = ""
) -> Toleration:
    if operator == "Exists" and value:
        raise wrong(value, "no value; Exists takes none")
    if operator == "Equal" and not key:
        raise wrong(None, "a key, or operator: Exists to tolerate everything")
    return Toleration(key, operator, value, effect)


TOLERATIONS: Final = Rows(
    Object(
        "Toleration",
        {
            "key": Field(Text(r"(?:[A-Za-z0-9][A-Za-z0-9._/-]*)?", "the key of a taint", most=317), "The taint's key; empty with Exists: any."),
            "operator": Field(Choice(("Exists", "Equal")), "Equal (unset) or Exists."),
            "value": Field(VALUE, "The taint's value."),
            "effect": Field(Choice(("", *_EFFECTS)), "The taint's effect; unset: any."),
            "tolerationSeconds": Field(
                Whole(-(1 << 62), 1 << 62),
                "How long Kubernetes lets a bound pod stay; where work is placed does not depend on it.",
                keep=False,
            ),
        },
        _toleration,
    ),
    most=1000,
)  # fmt: skip


def dump_affinity(affinity: Affinity) -> Document:
    """As it is read."""
    node: Document = {}
    if affinity.required is not None:
        node[_REQUIRED] = {"nodeSelectorTerms": [_dump_term(term) for term in affinity.required] or [{}]}
    if affinity.preferred:
        node[_PREFERRED] = [
            {"weight": weight, "preference": _dump_term(term)} for weight, term in affinity.preferred
        ]
    return {"nodeAffinity": node}


def _dump_term(term: NodeTerm) -> Document:
    document: Document = {}
    if term.labels:
        document["matchExpressions"] = [_dump_expression(expression) for expression in term.labels]
    if term.fields:
        document["matchFields"] = [_dump_expression(expression) for expression in term.fields]
    return document


def _dump_expression(expression: Expression) -> Document:
    document: Document = {"key": expression.key, "operator": expression.operator}
    if expression.values:
        document["values"] = list(expression.values)
    return document


def dump_taint(taint: Taint) -> Document:
    """As it is read."""
    value = {"value": taint.value} if taint.value else {}
    return {"key": taint.key, **value, "effect": taint.effect}


def dump_toleration(toleration: Toleration) -> Document:
    """As it is read."""
    fields = {
        "key": toleration.key,
        "operator": toleration.operator,
        "value": toleration.value,
        "effect": toleration.effect,
    }
    return {key: value for key, value in fields.items() if value}
