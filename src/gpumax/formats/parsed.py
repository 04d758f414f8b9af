"""What text is read into, whatever its syntax: plain documents that know their lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from gpumax.errors import BadFile, Fault

MOST_DEPTH: Final = 100
"""How deep a document may be nested."""

LineOf = Callable[[str], int | None]
"""The line of a path like `workloads[3].request.gpu`; None where the document has no lines."""


class Parsed(NamedTuple):
    """One document of a file: dicts, lists, text, numbers, booleans and None."""

    document: object
    line_of: LineOf
    source: str = ""


class Written:
    """A number that was not written as Python would: `text` is how it was, like 1.10 or 007."""

    text: str


def no_lines(_path: str) -> None:
    """The lines of a document that was never text."""


class NotJson(BadFile):
    """Text that starts like JSON and is none."""


def refuse(source: str, line: int | None, found: str, wanted: str) -> BadFile:
    """A BadFile with one fault of the file as a whole."""
    return BadFile([Fault("", line, found, wanted)], source)
