"""What a command asks of the API, and what it gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from gpumax.errors import BadFile, Fault

MOST_DIGITS: Final = 18
"""Of a number: events are counted by the microseconds of their time."""
Item = dict[str, Any]
"""A JSON object of the API."""


class Request(NamedTuple):
    """words: of the path, where the route leaves them open. body: bytes of a file, or a document."""

    words: tuple[str, ...] = ()
    query: Mapping[str, str] = {}
    body: bytes | Item | list[Item] | None = None

    def text(self, name: str) -> str:
        """A parameter; empty where it isn't given."""
        return self.query.get(name, "")

    def number(self, name: str, unset: int) -> int:
        """A parameter that is a whole number."""
        written = self.query.get(name, "")
        if not written:
            return unset
        if not (written.isascii() and written.isdecimal() and len(written) <= MOST_DIGITS):
            raise BadFile([Fault(f"query.{name}", None, repr(written)[:80], "a whole number")])
        return int(written)


def out(model: BaseModel) -> Item:
    """As the server sends it."""
    return model.model_dump(mode="json", by_alias=True)
