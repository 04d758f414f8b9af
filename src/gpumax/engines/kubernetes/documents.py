"""Objects of any kind, of which single fields are asked; whatever somebody wrote there."""

from __future__ import annotations

from typing import Any, Final

MOST: Final = 10_000
"""The largest number that is read: the most tasks of one workload."""


def at(document: object, *path: str | int) -> Any:
    """What stands at a path; None where there is nothing."""
    for key in path:
        if isinstance(document, dict):
            document = document.get(key)
        elif isinstance(document, list) and isinstance(key, int) and -len(document) <= key < len(document):
            document = document[key]
        else:
            return None
    return document


def number(document: object, *path: str | int, unset: int = 1) -> int:
    """The whole number at a path, 0 or more; `unset` where there is none."""
    found = at(document, *path)
    if isinstance(found, int) and not isinstance(found, bool) and 0 <= found <= MOST:
        return found
    return unset


def rows(document: object, *path: str | int) -> list[Any]:
    """The list at a path; empty where there is none."""
    found = at(document, *path)
    return found if isinstance(found, list) else []


def text(document: object, *path: str | int) -> str:
    """The text at a path; empty where there is none."""
    found = at(document, *path)
    return found if isinstance(found, str) else ""
