"""Names for workloads that were submitted without one: made from the file's name, or else from the command. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePath
from typing import Final

from gpumax.formats.parsed import Parsed

_LONGEST: Final = 57
"""Leaves room for a number behind it; a name has at most 63 characters."""

_SCRIPTS: Final = frozenset((".py", ".sh", ".bash", ".pl", ".r", ".jl", ".lua", ".rb", ".js", ".ipynb"))
_NO_FILES: Final = frozenset(("", "-", "standard input"))
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


def with_names(parsed: Sequence[Parsed], taken: Callable[[str], bool]) -> tuple[list[Parsed], frozenset[str]]:
    """The documents with a name in every workload, and which names were made.

    taken: whether a workload of this name exists. A name that a person wrote is left as it is.
    """
    used = {
        name for one in parsed for part in _parts(one.document) if isinstance(name := part.get("name"), str)
    }
    made: set[str] = set()

    def named(part: object, source: str) -> object:
        if not isinstance(part, dict) or part.get("kind") == "queue" or part.get("name") is not None:
            return part
        name = _unused(_wish(part, source), lambda name: name in used or taken(name))
        used.add(name)
        made.add(name)
        # A copy: with YAML's aliases the same object may stand in two places.
        return {**part, "name": name}

    return [_each(one, named) for one in parsed], frozenset(made)


def _each(one: Parsed, named: Callable[[object, str], object]) -> Parsed:
    if isinstance(one.document, list):
        return one._replace(document=[named(part, one.source) for part in one.document])
    return one._replace(document=named(one.document, one.source))


def _parts(document: object) -> Iterator[dict[str, object]]:
    for part in document if isinstance(document, list) else [document]:
        if isinstance(part, dict):
            yield part


def _wish(part: dict[str, object], source: str) -> str:
    return PurePath(source).stem if source not in _NO_FILES else name_of_command(part.get("run"))


def _unused(wish: str, taken: Callable[[str], bool]) -> str:
    made = re.sub(r"[^a-z0-9]+", "-", wish.lower()).strip("-")[:_LONGEST].strip("-") or "workload"
    if not taken(made):
        return made
    # Somebody may run the same command a thousand times: the next number is searched for, not counted up to.
    last, free = 1, 2
    while taken(f"{made}-{free}"):
        last, free = free, 2 * free
    while free - last > 1:
        middle = (last + free) // 2
        last, free = (middle, free) if taken(f"{made}-{middle}") else (last, middle)
    return f"{made}-{free}"


def name_of_command(run: object) -> str:
    """What a person would call a command: its script, the module that it runs, or its program. Empty where it has none."""
    words = [word for word in _words(run) if not _VARIABLE.match(word)]
    scripts = (
        PurePath(word).stem
        for word in words
        if not word.startswith("-") and PurePath(word).suffix.lower() in _SCRIPTS
    )
    script = next(scripts, None)
    if script is not None:
        return script
    if "-m" in words[:-1]:
        return words[words.index("-m") + 1].rpartition(".")[2]
    return PurePath(words[0]).name if words else ""


def _words(run: object) -> list[str]:
    if isinstance(run, list | tuple):
        return [str(word) for word in run if isinstance(word, str | int | float)]
    if not isinstance(run, str):
        return []
    try:
        return shlex.split(run, comments=True)
    except ValueError:
        return run.split()
