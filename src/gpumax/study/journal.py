"""A journal becomes a scenario: what came, how long it ran, and the cluster and queues that there were at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from gpumax.errors import BadFile, Fault
from gpumax.formats.queues import make_queue
from gpumax.loop.entries import Entries
from gpumax.loop.replay import files_of
from gpumax.model.snapshot import Snapshot
from gpumax.model.study import Scenario
from gpumax.model.trace import Trace
from gpumax.study.load import load_scenario
from gpumax.traces.collect import NEVER_RAN, STILL_RUNNING
from gpumax.traces.read import is_journal, read_trace
from gpumax.traces.source import opened
from gpumax.words import plural


class Source(NamedTuple):
    """What a study starts from. assumed: what it doesn't say, and is taken to be so, in sentences."""

    scenario: Scenario
    assumed: tuple[str, ...] = ()


def load_source(path: Path) -> Source:
    """The scenario of a scenario file, or of a journal: a file of it, its directory, or a server's data directory. BadFile otherwise."""
    # Standard input can be read once only.
    journal = str(path) != "-" and is_journal(path)
    return load_journal(path) if journal else Source(load_scenario(path))


def load_journal(path: Path) -> Source:
    """What a journal saw, as a scenario of the cluster, the queues and the options of its last entry."""
    trace = read_trace(path, "journal")
    last = _last(path)
    nodes = tuple(node for node in last.nodes if node.open)
    faults = []
    if not any(node.devices for node in nodes):
        faults.append(Fault("", None, "no node with GPUs in its last entry", "a cluster to play on"))
    if not trace.arrivals:
        faults.append(Fault("", None, "no workload that ever ran", "work to play"))
    if faults:
        raise BadFile(faults, str(path))
    known = {queue.name for queue in last.queues}
    gone = sorted({arrival.queue for arrival in trace.arrivals} - known)
    queues = sorted((*last.queues, *map(make_queue, gone)), key=lambda queue: queue.name)
    scenario = Scenario(
        "journal",
        nodes=nodes,
        queues=tuple(queues),
        arrivals=trace.arrivals,
        policies=("gpumax",),
        devices_per_task=0,  # each workload says it for itself
        bad=trace.bad,
        bad_rows=trace.bad_rows,
        policy=last.policy,
    )
    return Source(scenario, tuple(_assumed(trace, last, len(last.nodes) - len(nodes), gone)))


def _last(path: Path) -> Snapshot:
    """The newest snapshot that can be read."""
    for file in reversed(files_of(path)):
        entries, found = Entries(), None
        with opened(file) as source:
            for line in source.lines():
                with suppress(msgspec.MsgspecError, BadFile):
                    found = entries.snapshot(entries.read(line.encode("utf-8", "surrogateescape")))
        if found is not None:
            return found
    raise BadFile([Fault("", None, "no entry that can be read", "a journal")], str(path))


def _assumed(trace: Trace, last: Snapshot, closed: int, gone: list[str]) -> Iterator[str]:
    yield (
        "Work came when the journal says so and runs for as long as it really ran; what evictions threw back counts once where the journal "
        "knows of checkpoints. Nodes, queues and options are those of its last entry."
    )
    if running := trace.notes.get(STILL_RUNNING, 0):
        yield f"{_many(running)} still running when the journal ended, and counted as if it had ended then."
    if never := trace.notes.get(NEVER_RAN, 0):
        yield f"{_many(never)} left out: it never ran, so nobody knows for how long it would."
    if closed:
        yield f"{closed} of {plural(len(last.nodes), 'node')} took no new work in the last entry, and are left out."
    if gone:
        yield f"The last entry has no queue {', '.join(gone)} any more: its work is played in one without quota."
    if any(queue.demote for queue in last.queues):
        yield (
            "Queues demote work that has held much: each workload is played from its beginning in the queue and with the priority with "
            "which the journal saw it last."
        )
    yield (
        "The journal doesn't say who saves how often, nor how long tasks take to leave. Pools, selectors, affinity and topology of workloads are "
        "not played, and priority alone says what may be evicted."
    )


def _many(count: int) -> str:
    return f"{count:,} workload{' was' if count == 1 else 's were'}"
