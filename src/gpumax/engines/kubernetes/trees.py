"""Queues as one tree: what stands on nothing, or on itself, is left out with its reason, and so is all that stands on that."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from gpumax.engines.kubernetes.queues import QueueRead, fault_of
from gpumax.errors import Fault
from gpumax.formats.queues import check_tree
from gpumax.formats.shape import Wrongs, show


def planted(reads: Mapping[str, QueueRead]) -> dict[str, QueueRead]:
    """The same queues; None for those that have no place in a tree."""
    found = dict(reads)
    while True:
        there = {name: read.queue for name, read in sorted(found.items()) if read.queue is not None}
        names = [*there]
        wrongs = Wrongs()
        check_tree(dict(enumerate(there.values())), frozenset(found), wrongs)
        faults: dict[str, list[Fault]] = {}
        for wrong in wrongs.kept:
            row, *path = wrong.path
            faults.setdefault(names[int(row)], []).append(fault_of(tuple(path), wrong.found, wrong.wanted))
        for name, queue in there.items():
            if queue.parent in found and queue.parent not in there:
                words = f"{show(queue.parent)}, in which something is wrong"
                faults.setdefault(name, []).append(
                    Fault("spec.parent", None, words, "a queue without faults")
                )
        if not faults:
            return found
        for name, own in faults.items():
            # A queue for fresh work that isn't there takes none; that costs nobody their own queue.
            lost = any(fault.path != "spec.fresh" for fault in own)
            kept = None if lost else replace(there[name], fresh=None)
            found[name] = QueueRead(kept, (*found[name].faults, *own))
