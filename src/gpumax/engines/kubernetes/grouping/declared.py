"""Kinds of owners that are described by a rule: a cluster's own kinds form gangs, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from gpumax.engines.kubernetes.documents import number
from gpumax.engines.kubernetes.grouping.kind import Kind, Role, Roles
from gpumax.engines.kubernetes.views import Document
from gpumax.formats.nodes import LABELS
from gpumax.formats.scalars import GROUP_NAME, Choice, Text, Whole
from gpumax.formats.shape import ByType, Field, Object, Rows, Then, Wrongs
from gpumax.formats.snapshot_shapes import CLASSES, MOST_GROUPS, MOST_TASKS, Row

_PATH: Final = Text(
    r"(?:\.[A-Za-z_][A-Za-z0-9_-]*|\[[0-9]{1,3}\])+", "a path to a number of the object, like .spec.replicas"
)


class _At(NamedTuple):
    """Where the minimum stands in the owner's object."""

    path: tuple[str | int, ...]


def _steps(path: str) -> _At:
    parts = path.replace("[", ".[").strip(".").split(".")
    return _At(tuple(int(part[1:-1]) if part.startswith("[") else part for part in parts))


_LEAST: Final = ByType[int | _At](
    "a number, or the path to one like .spec.minReplicas",
    number=Whole(0, MOST_TASKS),
    text=Then(_PATH, _steps),
)


def _role(
    name: str = "", min: int | _At = 1, labels: Mapping[str, str] | None = None, later: bool = False
) -> Any:
    return name, min, labels or {}, later


_RULE: Final[Object[Row]] = Object(
    "Rule",
    {
        "kind": Field(
            Text(r"[A-Z][A-Za-z0-9]*(?:\.[a-z0-9][a-z0-9.-]*)?", "a kind with its group, like Job.batch"),
            "Of owners, with its API group.",
            required=True,
        ),
        "each": Field(
            Text(r"object|pod|label:[A-Za-z0-9][A-Za-z0-9._/-]*", "object, pod, or label:KEY", most=330),
            "What is one workload: all pods of the object (unset), each pod, or pods with one value of a label.",
        ),
        "min": Field(_LEAST, "How many tasks start together: a number or its path; unset: 1."),
        "roles": Field(
            Rows(
                Object(
                    "RuleRole",
                    {
                        "name": Field(GROUP_NAME, "Of the group."),
                        "min": Field(_LEAST, "How many of them start together."),
                        "labels": Field(LABELS, "Of the pods that are meant."),
                    },
                    _role,
                ),
                most=MOST_GROUPS,
            ),
            "Instead of min: groups that start together.",
        ),
        "priority": Field(Choice(tuple(CLASSES)), "The class of such work that names none; unset: train."),
    },
    dict,
    about="How pods of a kind of owner form gangs.",
)
RULES: Final = Rows(_RULE, most=1000)
"""Rules as they stand in the settings of the scheduler."""


def declared(rules: object) -> dict[tuple[str, str], Kind]:
    """Kinds by group and kind. Bad where a rule is wrong, with all that is."""
    wrongs = Wrongs()
    kinds: dict[tuple[str, str], Kind] = {}
    for index, row in enumerate(RULES.read(rules)):
        kind, _, group = row["kind"].partition(".")
        if (group, kind) in kinds:
            wrongs.add((index, "kind"), f"{row['kind']} twice", "each kind once")
        if "min" in row and row.get("roles"):
            wrongs.add((index, "min"), "min beside roles", "only one of the two")
        kinds[group, kind] = _kind(row)
    wrongs.check()
    return kinds


def _kind(row: Mapping[str, Any]) -> Kind:
    written = row.get("roles") or [("", row.get("min", 1), {}, False)]

    def roles(document: Document) -> Roles:
        found = tuple(
            Role(name, least, labels, later)
            for name, written_min, labels, later in written
            if (least := _least(document, written_min))
        )
        return found or (Role("", 1),)

    each = row.get("each", "object")
    apart = each.removeprefix("label:") if each != "object" else ""
    return Kind(roles, apart, row.get("priority", "train"))


def _least(document: Document, written: int | _At) -> int:
    return written if isinstance(written, int) else number(document, *written.path)
