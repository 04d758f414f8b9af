"""Queues as KAI and Run:ai write them (`scheduling.run.ai/v2`): quota and limit by resource, -1 for unlimited."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gpumax.formats.lines import Key
from gpumax.formats.parsed import Parsed
from gpumax.formats.queues import QUEUE, check_tree
from gpumax.formats.shape import Bad, Wrongs, bad_file, show
from gpumax.model.amounts import RESOURCES
from gpumax.model.queue import Queue
from gpumax.model.workload import Document

GROUP: Final = "scheduling.run.ai"
_SAME: Final = {
    "parentQueue": "parent",
    "priority": "priority",
    "preemptMinRuntime": "preempt_min_runtime",
    "reclaimMinRuntime": "reclaim_min_runtime",
}
_AMOUNTS: Final = {"quota": "quota", "limit": "limit", "overQuotaWeight": "weight"}
_KNOWN: Final = frozenset((*_SAME, "resources", "displayName"))
_MEGABYTE: Final = 1_000_000
"""They count memory in these, and cores in thousandths."""


def read_kai_queue(name: object, spec: object, created_s: float = 0) -> Queue:
    """The queue of one object. Bad with all its faults, by their places in `spec`.

    An unset limit is unlimited, as it is meant (there, nothing at all would be allowed). An unset weight is 1.
    """
    wrongs = Wrongs()
    fields: Document = {"name": name, "created": created_s}
    written = spec if isinstance(spec, dict) else {}
    if spec is not None and not isinstance(spec, dict):
        wrongs.add((), show(spec), "an object")
    for key in written.keys() - _KNOWN:
        wrongs.add((str(key),), "an unknown field", ", ".join(sorted(_KNOWN)), str(key), _KNOWN)
    fields |= {ours: written[key] for key, ours in _SAME.items() if written.get(key) not in (None, "")}
    fields |= _amounts(written.get("resources"), wrongs)
    try:
        queue = QUEUE.read(fields)
    except Bad as bad:
        names = {ours: theirs for theirs, ours in _SAME.items()}
        for wrong in bad.wrongs:
            wrongs.add(tuple(names.get(str(key), key) for key in wrong.path), wrong.found, wrong.wanted)
        raise Bad(wrongs.kept, wrongs.more) from None
    wrongs.check()
    return queue


def _amounts(resources: object, wrongs: Wrongs) -> Document:
    """quota, limit and weight by resource, as ours are written."""
    fields: Document = {}
    if resources is None:
        return fields
    if not isinstance(resources, dict):
        wrongs.add(("resources",), show(resources), "an object")
        return fields
    for resource, own in resources.items():
        path: tuple[Key, ...] = ("resources", str(resource))
        if resource not in RESOURCES or not isinstance(own, dict):
            wrongs.add(path, show(own), "gpu, cpu or memory with quota, limit, overQuotaWeight")
            continue
        fields.setdefault("weight", {})[resource] = 1
        for key, value in own.items():
            if key not in _AMOUNTS:
                wrongs.add((*path, str(key)), "an unknown field", ", ".join(_AMOUNTS), str(key), _AMOUNTS)
            elif isinstance(value, bool) or not isinstance(value, int | float):
                wrongs.add((*path, key), show(value), "a number; -1 for unlimited")
            elif key == "overQuotaWeight":
                fields["weight"][resource] = value
            else:
                fields.setdefault(key, {})[resource] = _amount(resource, value)
    return fields


def _amount(resource: str, value: float) -> object:
    if value == -1:
        return "unlimited"
    if resource == "cpu":
        return value / 1000
    return int(value * _MEGABYTE) if resource == "memory" else value


def read_kai_queues(documents: list[Parsed]) -> tuple[tuple[Queue, ...], int]:
    """The queues of files of objects, by name, and how many other objects were passed over. BadFile with every fault of a file."""
    found: dict[str, Queue] = {}
    passed = 0
    for parsed in documents:
        wrongs = Wrongs()
        rows: dict[int, Queue] = {}
        paths: dict[int, tuple[Key, ...]] = {}
        for index, (path, row) in enumerate(_objects(parsed.document)):
            if not _is_queue(row):
                passed += 1
                continue
            meta = row.get("metadata")
            try:
                queue = read_kai_queue(meta.get("name") if isinstance(meta, dict) else None, row.get("spec"))
            except Bad as bad:
                for wrong in bad.wrongs:
                    part = "metadata" if wrong.path[:1] == ("name",) else "spec"
                    wrongs.add((*path, part, *wrong.path), wrong.found, wrong.wanted, wrong.name, wrong.known)
                continue
            if queue.name in found or any(other.name == queue.name for other in rows.values()):
                wrongs.add((*path, "metadata", "name"), f"{show(queue.name)} twice", "each queue once")
            rows[index], paths[index] = queue, path
        if wrongs.kept:
            raise bad_file(Bad(wrongs.kept, wrongs.more), parsed.source, parsed.line_of)
        found |= {queue.name: queue for queue in rows.values()}
    wrongs = Wrongs()
    check_tree(dict(enumerate(found.values())), frozenset(found), wrongs, "queues")
    if wrongs.kept:
        raise bad_file(Bad(wrongs.kept, wrongs.more), documents[0].source)
    return tuple(found[name] for name in sorted(found)), passed


def _objects(document: object) -> Iterator[tuple[tuple[Key, ...], Mapping[str, Any]]]:
    """The objects of a document: itself, or the items of a list of them."""
    if not isinstance(document, dict):
        return
    items = document.get("items")
    if isinstance(items, list):
        for index, item in enumerate(items):
            if isinstance(item, dict):
                yield ("items", index), item
    else:
        yield (), document


def _is_queue(row: Mapping[str, Any]) -> bool:
    return row.get("kind") == "Queue" and str(row.get("apiVersion", "")).startswith(f"{GROUP}/")
