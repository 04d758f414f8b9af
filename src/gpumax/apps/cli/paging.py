"""Lists that come in pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gpumax.apps.cli.client import Api, Item

PAGE: Final = 500


def all_items(api: Api, path: str, query: Mapping[str, object] | None = None, *, most: int = 0) -> Item:
    """A list's pages as one answer, whose `next` is where it goes on: null at the end. most: items at most; 0: no bound."""
    items: list[Item] = []
    cursor: object = None
    while True:
        limit = min(PAGE, most - len(items)) if most else PAGE
        page = api.get(path, {**(query or {}), "limit": limit, "after": cursor})
        items += page.get("items", [])
        cursor = page.get("next")
        if not cursor or (most and len(items) >= most):
            return {**page, "items": items, "next": cursor}
