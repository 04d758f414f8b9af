"""What is known of a kind of owner: how its pods form gangs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from gpumax.engines.kubernetes.views import Document

TRAIN: Final = "train"
BUILD: Final = "build"
INFERENCE: Final = "inference"
MOST: Final = 10_000
"""The most tasks of one workload."""


class Role(NamedTuple):
    """Tasks of a gang that are alike. min: how many of them start together with those of the other roles.

    labels: of the pods that are meant; where several roles have them all, the first counts. later: its pods come to be only when
    the others run, so before there are any, nothing waits for them.
    """

    name: str
    min: int
    labels: Mapping[str, str] = {}
    later: bool = False


Roles = tuple[Role, ...]


class Kind(NamedTuple):
    """How pods of one kind of owner form workloads.

    roles: of an owner's object. apart: "pod" where every pod is a workload of its own, a label where pods with different values
    of it are; empty: all pods of the owner are one. priority: the class of such work that names none.
    """

    roles: Callable[[Document], Roles]
    apart: str = ""
    priority: str = TRAIN


def one(_: Document) -> Roles:
    """One task is enough; all others are extras."""
    return (Role("", 1),)
