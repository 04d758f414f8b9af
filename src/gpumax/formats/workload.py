"""The workload file: what a person writes, with the queues that may stand beside it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePath
from typing import Final

from gpumax.errors import BadFile, Fault
from gpumax.formats.lines import Key
from gpumax.formats.parsed import Parsed, refuse
from gpumax.formats.queues import check_tree, dump_queue
from gpumax.formats.shape import MOST_FAULTS, Bad, Wrongs, bad_file, more_faults, show
from gpumax.formats.specs import build_spec, dump_spec
from gpumax.formats.workload_shapes import FILE_QUEUE, FILE_WORKLOAD, KINDS, RUNS
from gpumax.model.queue import Queue
from gpumax.model.spec import WorkloadSpec

__all__ = ["dump_queue", "dump_spec", "load_workloads"]

_LONGEST_NAME: Final = 63
_NO_FILES: Final = frozenset(("", "-", "standard input"))

_OBJECT: Final = (
    "a workload or a queue, as `gpumax schema workload` describes them; objects go by `kubectl apply -f`"
)


class _Entry:
    """One queue or workload of a file, with the faults that it turns out to have."""

    def __init__(self, parsed: Parsed, at: tuple[Key, ...], document: object) -> None:
        self.parsed = parsed
        self.at = at
        self.document = document
        self.fields: Mapping[str, object] = document if isinstance(document, dict) else {}
        self.wrongs = Wrongs()

    def text(self, field: str) -> str | None:
        """A field as it is written; None if it isn't text."""
        value = self.fields.get(field)
        return value if isinstance(value, str) else None

    def faults(self) -> tuple[Fault, ...]:
        """What is wrong with it, with lines."""
        outer = Wrongs()
        outer.take(Bad(self.wrongs.kept, self.wrongs.more), *self.at)
        return bad_file(Bad(outer.kept, outer.more), line_of=self.parsed.line_of).faults


def load_workloads(
    parsed: Sequence[Parsed], *, base: str, queues: Collection[Queue], default_project: str
) -> tuple[tuple[Queue, ...], tuple[WorkloadSpec, ...]]:
    """The queues and workloads of all documents of a file; a document may be a list of them.

    base: the absolute directory that `workdir` is relative to. queues: those that exist. BadFile with every fault.
    """
    entries = [_Entry(one, at, document) for one in parsed for at, document in _parts(one.document)]
    if not entries:
        raise refuse(parsed[0].source if parsed else "", None, "no workload and no queue", "at least one")
    new = _read_queues([entry for entry in entries if entry.text("kind") == "queue"], queues)
    tree = {queue.name: queue for queue in (*queues, *new)}
    workloads = [entry for entry in entries if entry.text("kind") != "queue"]
    names = _names(workloads)
    specs = [
        _read_workload(entry, name, tree, base, default_project)
        for entry, name in zip(workloads, names, strict=True)
    ]
    faults = [fault for entry in entries for fault in entry.faults()]
    if faults:
        raise _first(faults, parsed[0].source)
    return new, tuple(spec for spec in specs if spec is not None)


def _parts(document: object) -> list[tuple[tuple[Key, ...], object]]:
    if isinstance(document, list | tuple):
        return [((index,), part) for index, part in enumerate(document)]
    return [((), document)]


def _first(faults: list[Fault], source: str) -> BadFile:
    rest = len(faults) - MOST_FAULTS
    if rest > 0:
        faults = [*faults[:MOST_FAULTS], Fault("", None, more_faults(rest), "these mended first")]
    return BadFile(faults, source)


def _read_queues(entries: Sequence[_Entry], queues: Collection[Queue]) -> tuple[Queue, ...]:
    found: dict[int, Queue] = {}
    names: set[str] = set()
    for index, entry in enumerate(entries):
        try:
            found[index] = FILE_QUEUE.read(entry.document)
        except Bad as bad:
            entry.wrongs.take(bad)
        name = entry.text("name")
        if name in names:
            entry.wrongs.add(("name",), f"{show(name)} twice", "each queue once")
        names.add(name or "")
    # Queues that are there already take part in the tree under keys that no entry has.
    old = [queue for queue in queues if queue.name not in names]
    wrongs = Wrongs()
    check_tree(
        {**found, **{-1 - index: queue for index, queue in enumerate(old)}},
        frozenset(names | {queue.name for queue in old}),
        wrongs,
    )
    for wrong in wrongs.kept:
        row = wrong.path[0]
        if isinstance(row, int) and row >= 0:
            entries[row].wrongs.take(Bad([wrong._replace(path=wrong.path[1:])]))
    return tuple(found.values())


def _read_workload(
    entry: _Entry, name: str, queues: Mapping[str, Queue], base: str, default_project: str
) -> WorkloadSpec | None:
    kind = entry.text("kind")
    if "apiVersion" in entry.fields:
        # Each of its fields is one that we don't know; what it is says more.
        entry.wrongs.add(("apiVersion",), f"an object of Kubernetes ({show(kind)})", _OBJECT)
        return None
    if kind in KINDS and kind not in RUNS:
        # Its other fields may be ones that this version does not know.
        entry.wrongs.add(("kind",), show(kind), f"{', '.join(RUNS)}: this version runs no other kind yet")
        return None
    project = _project(entry, queues, default_project)
    try:
        return build_spec(FILE_WORKLOAD.read(entry.document), name, project, base, entry.wrongs)
    except Bad as bad:
        entry.wrongs.take(bad)
        # What could be read may contradict itself, too; all of that is told at once.
        unread = {key for key, value in entry.fields.items() if value is not None} - bad.sound.keys()
        build_spec(dict(bad.sound), name, project, base, entry.wrongs, unread)
        return None


def _project(entry: _Entry, queues: Mapping[str, Queue], default: str) -> str:
    written = entry.text("project")
    name = default if written is None else written
    found = show(name) if written is not None else f"nothing, and the default project {show(name)}"
    children = sorted(queue.name for queue in queues.values() if queue.parent == name)
    if name not in queues:
        known = ", ".join(sorted(queues)[:10]) or "none is there"
        entry.wrongs.add(("project",), found, f"a queue that exists: {known}", name, tuple(queues))
    elif children:
        entry.wrongs.add(
            ("project",), f"{found}, which has queues below it", f"one of them: {', '.join(children[:10])}"
        )
    return name


def _names(entries: Sequence[_Entry]) -> list[str]:
    """A name for each workload: the one that is written, or one made from the file's name."""
    taken: set[str] = set()
    for entry in entries:
        name = entry.text("name")
        if name in taken:
            entry.wrongs.add(("name",), f"{show(name)} twice", "each workload once")
        taken.add(name or "")
    return [entry.text("name") or _unused(entry.parsed.source, taken) for entry in entries]


def _unused(source: str, taken: set[str]) -> str:
    """The file's name as a workload's name, with a number where it is taken."""
    stem = "" if source in _NO_FILES else PurePath(source).stem
    made = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[: _LONGEST_NAME - 6].strip("-") or "workload"
    name, count = made, 1
    while name in taken:
        count += 1
        name = f"{made}-{count}"
    taken.add(name)
    return name
