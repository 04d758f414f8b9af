"""Affinity, tolerations and taints, as Kubernetes writes them."""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec.structs import replace

from gpumax.formats.company import COMPANY, PREFERRED, REQUIRED, dump_company
from gpumax.formats.expressions import dump_expression, expressions
from gpumax.formats.scalars import KEY, VALUE, Choice, Text, Whole
from gpumax.formats.shape import Field, Object, Rows, wrong
from gpumax.model.node import Effect, Taint
from gpumax.model.workload import Affinity, Company, Document, NodeTerm, Toleration

_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")
NOBODY: Final = Company()


_LABELS: Final = expressions("NodeLabel", KEY, ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"))
_FIELDS: Final = expressions(
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
        REQUIRED: Field(
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
        PREFERRED: Field(
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


def _affinity(
    node: Affinity | None = None, near: Company = NOBODY, apart: Company = NOBODY
) -> Affinity | None:
    affinity = replace(node or Affinity(), near=near, apart=apart)
    return None if affinity == Affinity() else affinity


AFFINITY: Final = Object(
    "Affinity",
    {
        "nodeAffinity": Field(_NODE, "Which nodes.", to="node"),
        "podAffinity": Field(COMPANY, "Near which tasks.", to="near"),
        "podAntiAffinity": Field(COMPANY, "Away from which tasks.", to="apart"),
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
        node[REQUIRED] = {"nodeSelectorTerms": [_dump_term(term) for term in affinity.required] or [{}]}
    if affinity.preferred:
        node[PREFERRED] = [
            {"weight": weight, "preference": _dump_term(term)} for weight, term in affinity.preferred
        ]
    parts = {
        "nodeAffinity": node,
        "podAffinity": dump_company(affinity.near),
        "podAntiAffinity": dump_company(affinity.apart),
    }
    return {name: part for name, part in parts.items() if part}


def _dump_term(term: NodeTerm) -> Document:
    document: Document = {}
    if term.labels:
        document["matchExpressions"] = [dump_expression(expression) for expression in term.labels]
    if term.fields:
        document["matchFields"] = [dump_expression(expression) for expression in term.fields]
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
