"""Affinity and anti-affinity between tasks, as Kubernetes writes them for pods; its namespaces are queues here."""

from __future__ import annotations

from typing import Final

from gpumax.formats.expressions import dump_expression, expressions
from gpumax.formats.scalars import KEY, VALUE, Whole
from gpumax.formats.shape import Field, Map, Object, Rows, wrong
from gpumax.model.workload import QUEUE_NAME, Company, Document, Expression, TaskTerm

REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"


def _selector(
    matchLabels: dict[str, str] | None = None, matchExpressions: tuple[Expression, ...] = ()
) -> tuple[Expression, ...]:
    # Kubernetes: an empty selector means everything.
    equal = (Expression(key, "In", (value,)) for key, value in sorted((matchLabels or {}).items()))
    return (*equal, *matchExpressions)


_SELECTOR: Final = Object(
    "LabelSelector",
    {
        "matchLabels": Field(Map(KEY, VALUE), "Labels that must be equal."),
        "matchExpressions": Field(
            expressions("TaskLabel", KEY, ("In", "NotIn", "Exists", "DoesNotExist")),
            "Expressions that must hold.",
        ),
    },
    _selector,
)


def _task_term(
    key: str,
    labels: tuple[Expression, ...] | None = None,
    queues: tuple[str, ...] = (),
    queue_labels: tuple[Expression, ...] | None = None,
    same: tuple[str, ...] = (),
    other: tuple[str, ...] = (),
) -> TaskTerm:
    for expression in queue_labels or ():
        if expression.key != QUEUE_NAME:
            raise wrong(expression.key, f"{QUEUE_NAME}, the one label that a queue has")
    if labels is None and (same or other):
        raise wrong(None, "a labelSelector; matchLabelKeys and mismatchLabelKeys narrow one")
    return TaskTerm(key, labels, queues, queue_labels, same, other)


_TASK_TERM: Final = Object(
    "TaskTerm",
    {
        "labelSelector": Field(_SELECTOR, "Which tasks are meant; empty: all, unset: none.", to="labels"),
        "topologyKey": Field(
            KEY, "The node label whose equal values mean together.", required=True, to="key"
        ),
        "namespaces": Field(
            Rows(VALUE, most=1000),
            "Tasks of these queues; where this and namespaceSelector are unset, of the task's own queue.",
            to="queues",
        ),
        "namespaceSelector": Field(
            _SELECTOR,
            f"Tasks of queues with such labels, too; empty: of all. A queue has one label, {QUEUE_NAME}.",
            to="queue_labels",
        ),
        "matchLabelKeys": Field(
            Rows(KEY, most=100), "Labels that must equal the task's own, where it has them.", to="same"
        ),
        "mismatchLabelKeys": Field(
            Rows(KEY, most=100), "Labels that must differ from the task's own, where it has them.", to="other"
        ),
    },
    _task_term,
)


def _preferred_task_term(weight: int, term: TaskTerm) -> tuple[int, TaskTerm]:
    return weight, term


COMPANY: Final = Object(
    "TaskAffinity",
    {
        REQUIRED: Field(Rows(_TASK_TERM, most=1000), "All of these must hold.", to="required"),
        PREFERRED: Field(
            Rows(
                Object(
                    "PreferredTaskTerm",
                    {
                        "weight": Field(Whole(1, 100), "How much it counts.", required=True),
                        "podAffinityTerm": Field(_TASK_TERM, "What is preferred.", required=True, to="term"),
                    },
                    _preferred_task_term,
                ),
                most=1000,
            ),
            "Wishes that add their weight for each task that is meant and there.",
            to="preferred",
        ),
    },
    Company,
)


def dump_company(company: Company) -> Document:
    """As it is read."""
    document: Document = {}
    if company.required:
        document[REQUIRED] = [_dump_task_term(term) for term in company.required]
    if company.preferred:
        document[PREFERRED] = [
            {"weight": weight, "podAffinityTerm": _dump_task_term(term)} for weight, term in company.preferred
        ]
    return document


def _dump_task_term(term: TaskTerm) -> Document:
    document: Document = {"topologyKey": term.key}
    for name, selector in (("labelSelector", term.labels), ("namespaceSelector", term.queue_labels)):
        if selector is not None:
            rows = {"matchExpressions": [dump_expression(expression) for expression in selector]}
            document[name] = rows if selector else {}
    lists = {"namespaces": term.queues, "matchLabelKeys": term.same, "mismatchLabelKeys": term.other}
    return document | {name: list(values) for name, values in lists.items() if values}
