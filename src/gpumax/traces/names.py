"""Names of other tools in our letters: nobody's work is lost for an `&` in the name of a team."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from gpumax.formats.lines import quote
from gpumax.traces.cells import BadCell, show

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*", re.ASCII)
_OTHER: Final = re.compile(r"[^A-Za-z0-9._/-]", re.ASCII)
_FIRST: Final = re.compile(r"[^A-Za-z0-9]", re.ASCII)
_LONGEST: Final = 253

MOST_TOLD: Final = 20
"""How many names are told one by one."""


def legal(column: str, text: str) -> str:
    """A name of ours for a name. Each letter that ours don't have becomes its number: `R&D` is `R_x26_D`, so that it can be read back."""
    text = text.strip()
    name = text
    if text and _NAME.fullmatch(text) is None and text.isprintable():
        first = _FIRST.match(text)
        name = _OTHER.sub(_numbered, text if first is None else text[1:])
        name = name if first is None else f"{_numbered(first)[1:]}{name}"
    if _NAME.fullmatch(name) is None or len(name) > _LONGEST:
        raise BadCell(column, show(text), f"a name: text on one line, at most {_LONGEST} characters")
    return name


def _numbered(letter: re.Match[str]) -> str:
    return f"_x{ord(letter[0]):x}_"


def renamed_in_words(renamed: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Who is called otherwise than in the trace. renamed: our names, and each that they stand for."""
    for ours, theirs in list(renamed.items())[:MOST_TOLD]:
        if len(theirs) == 1:
            yield f"The tenant {quote(theirs[0])} of the trace is called {ours} here."
        else:
            names = f"{', '.join(map(quote, theirs[:-1]))} and {quote(theirs[-1])}"
            yield f"The tenants {names} of the trace are both called {ours} here, and share that queue."
    if (more := len(renamed) - MOST_TOLD) > 0:
        yield f"{more:,} more {'tenant is' if more == 1 else 'tenants are'} called otherwise than in the trace."
