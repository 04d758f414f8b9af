"""Decide again what a journal holds, and compare byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from gpumax.errors import BadFile, Fault
from gpumax.formats.decision import encode_decision
from gpumax.formats.lines import Key, format_path
from gpumax.loop.entries import Entries
from gpumax.loop.journal import journal_files
from gpumax.policy.decide import decide


class Verdict(msgspec.Struct, frozen=True):
    """What became of one entry. number: over all files, from 1. difference: empty where the bytes are equal.

    gpumax: the version that decided. torn: the last line of a file, of which the end is missing; it was not decided again.
    """

    number: int
    file: Path
    line: int
    at_ms: int | None = None
    gpumax: str = ""
    difference: str = ""
    torn: bool = False


def replay(path: Path) -> Iterator[Verdict]:
    """A verdict for every entry of a journal: a file, its directory, or the data directory that it is in.

    BadFile where there is no journal.
    """
    number = 0
    for file in files_of(path):
        for verdict in _replay_file(file, number):
            number = verdict.number
            yield verdict


def files_of(path: Path) -> list[Path]:
    """The files of a journal, oldest first: of a file, its directory, or the data directory that it is in. BadFile for none."""
    if not path.is_dir():
        if not path.exists():
            raise BadFile([Fault("", None, "no such file", "a journal, or a directory of one")], str(path))
        return [path]
    files = journal_files(path)
    if not files and (path / "journal").is_dir():
        files = journal_files(path / "journal")
    if not files:
        raise BadFile([Fault("", None, "no journal in it", "files like decisions-000001.jsonl")], str(path))
    return files


def _replay_file(file: Path, number: int) -> Iterator[Verdict]:
    try:
        with file.open("rb") as lines:
            entries = Entries()
            for line, text in enumerate(lines, 1):
                number += 1
                yield _judge(entries, file, line, number, text)
    except OSError as error:
        found = f"a file that can't be read ({error.strerror or error})"
        raise BadFile([Fault("", None, found, "a journal")], str(file)) from None


def _judge(entries: Entries, file: Path, line: int, number: int, text: bytes) -> Verdict:
    try:
        entry = entries.read(text)
    except msgspec.MsgspecError as error:
        if not text.endswith(b"\n") and line > 1:
            return Verdict(number, file, line, torn=True)
        if line == 1:
            wanted = "a journal entry: a line of JSON with version, gpumax, snapshot and decision"
            raise BadFile([Fault("", line, f"no entry ({error})", wanted)], str(file)) from None
        return Verdict(number, file, line, difference=f"no entry: {error}")
    try:
        snapshot = entries.snapshot(entry)
    except (BadFile, msgspec.MsgspecError) as error:
        first = str(error).partition("\n")[0]
        return Verdict(number, file, line, None, entry.gpumax, f"the snapshot can't be read: {first}")
    again = encode_decision(decide(snapshot))
    recorded = bytes(entry.decision)
    difference = "" if again == recorded else _difference(recorded, again)
    return Verdict(number, file, line, snapshot.now_ms, entry.gpumax, difference)


def _difference(recorded: bytes, again: bytes) -> str:
    """The first difference between two decisions, in words."""
    try:
        then, now = msgspec.json.decode(recorded), msgspec.json.decode(again)
    except msgspec.MsgspecError as error:
        return f"the recorded decision can't be read: {error}"
    found = _first((), then, now)
    if found is None:
        return "the same decision, written otherwise"
    path, was, is_ = found
    return f"{format_path(path) or 'the decision'}: recorded {_show(was)}, now {_show(is_)}"


def _first(path: tuple[Key, ...], was: Any, now: Any) -> tuple[tuple[Key, ...], Any, Any] | None:
    """The deepest place at which two documents differ first."""
    if isinstance(was, dict) and isinstance(now, dict):
        for key in [*was, *(key for key in now if key not in was)]:
            if was.get(key, Missing) != now.get(key, Missing):
                return _first((*path, key), was.get(key, Missing), now.get(key, Missing))
        return None
    if isinstance(was, list) and isinstance(now, list):
        for index in range(max(len(was), len(now))):
            left = was[index] if index < len(was) else Missing
            right = now[index] if index < len(now) else Missing
            if left != right:
                return _first((*path, index), left, right)
        return None
    return None if was == now else (path, was, now)


class Missing:
    """Stands for what isn't there."""


def _show(value: object) -> str:
    if value is Missing:
        return "nothing"
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 200 else text[:197] + "..."
