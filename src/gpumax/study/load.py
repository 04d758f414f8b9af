"""A scenario file and its tables become a scenario. Whatever is wrong with any of them is told at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from gpumax.errors import BadFile
from gpumax.formats.lines import Key, quote
from gpumax.formats.parsed import refuse
from gpumax.formats.queues import check_tree, make_queue
from gpumax.formats.scenario import OPENB_SIZES, POLICIES, SCENARIO
from gpumax.formats.scenario_shapes import Table, Work
from gpumax.formats.shape import Bad, Wrong, Wrongs, bad_file
from gpumax.formats.text import one_document
from gpumax.model.amounts import Amounts
from gpumax.model.node import Node
from gpumax.model.queue import Queue
from gpumax.model.study import Saving, Scenario
from gpumax.model.trace import Trace
from gpumax.study.endless import endless
from gpumax.traces.cluster import read_nodes, read_queues
from gpumax.traces.collect import OnBadRow, Wish
from gpumax.traces.read import read_trace
from gpumax.units import MILLI, UNLIMITED

T = TypeVar("T")

DEFAULT_QUEUE = "default"
"""The queue of work of which no tenant is known."""


def load_scenario(path: Path, *, on_bad_row: OnBadRow | None = None) -> Scenario:
    """The scenario of a file, its tables read. on_bad_row: instead of what the file says. BadFile with every fault."""
    parsed = one_document(path)
    if isinstance(parsed.document, str):
        wanted = f"a scenario: nodes, and arrivals that name a trace, as {{csv: {path.name}}}"
        raise refuse(parsed.source, 1, "text, as of a table", wanted)
    wrongs = Wrongs()
    try:
        fields: Mapping[str, Any] = SCENARIO.read(parsed.document)
    except Bad as bad:
        wrongs.take(bad)
        fields = bad.sound
        _check_files(path.parent, parsed.document, fields, wrongs)
    loaded = _Loader(path.parent, fields, wrongs).load(on_bad_row)
    if wrongs.kept:
        raise bad_file(Bad(wrongs.kept, wrongs.more), parsed.source, parsed.line_of)
    return _scenario(path, fields, *loaded)


def _scenario(
    path: Path, fields: Mapping[str, Any], nodes: tuple[Node, ...], queues: tuple[Queue, ...], trace: Trace
) -> Scenario:
    set_ones = {key: value for key, value in fields.items() if key not in ("nodes", "queues", "arrivals")}
    protocol = fields.get("protocol", "replay")
    return Scenario(
        **{
            "name": path.name.removesuffix(path.suffix),
            "policies": POLICIES[protocol],
            "sizes": OPENB_SIZES,
            **set_ones,
        },
        nodes=nodes,
        queues=queues,
        arrivals=trace.arrivals,
        devices_per_task=fields["arrivals"].devices_per_task,
        bad=trace.bad,
        bad_rows=trace.bad_rows,
        renamed=trace.renamed,
    )


def _check_files(folder: Path, document: object, fields: Mapping[str, Any], wrongs: Wrongs) -> None:
    """Files that are missing, of the parts that have other faults and so are not read."""
    for part in ("nodes", "queues", "arrivals"):
        given = document.get(part) if isinstance(document, dict) and part not in fields else None
        for key in ("csv", "trace"):
            file = given.get(key) if isinstance(given, dict) else None
            if isinstance(file, str) and file.isprintable() and not (folder / file).exists():
                wrongs.add((part, key), f"no such file: {quote(file)}", "a file that is there")


class _Loader:
    """Reads the tables of a file, relative to where it stands."""

    def __init__(self, folder: Path, fields: Mapping[str, Any], wrongs: Wrongs) -> None:
        self._folder = folder
        self._fields = fields
        self._wrongs = wrongs

    def load(self, on_bad_row: OnBadRow | None) -> tuple[tuple[Node, ...], tuple[Queue, ...], Trace]:
        """Nodes, queues and work; what is wrong with them goes to the faults."""
        nodes = self._nodes()
        queues = self._queues()
        trace = self._work(nodes, queues, on_bad_row)
        if queues is None:
            queues = _tenants(trace, nodes or ())
        if (failures := self._fields.get("failures")) is not None:
            saving, start_ms = self._fields.get("checkpoint", Saving()), self._fields.get("start_ms", 0)
            found = endless(failures, saving, start_ms, nodes or (), trace.arrivals)
            self._wrongs.take(Bad(found), "failures")
        return nodes or (), queues, trace

    @property
    def _timed(self) -> bool:
        return bool(self._fields.get("protocol", "replay") == "replay")

    def _nodes(self) -> tuple[Node, ...] | None:
        """The cluster; None where it can't be read."""
        given = self._fields.get("nodes")
        if isinstance(given, Table):
            table = given
            given = self._read(lambda: read_nodes(self._folder / table.csv, table), table.csv, "nodes", "csv")
        if given is not None and not any(node.devices for node in given):
            self._wrongs.add(("nodes",), "no GPU in any node", "at least one")
        return tuple(sorted(given, key=lambda node: node.name)) if given is not None else None

    def _queues(self) -> tuple[Queue, ...] | None:
        """The tenants; None where the file names none, or they can't be read."""
        given = self._fields.get("queues")
        if isinstance(given, Table):
            table = given
            given = self._read(
                lambda: read_queues(self._folder / table.csv, table), table.csv, "queues", "csv"
            )
        if given is None:
            return None
        check_tree(dict(enumerate(given)), frozenset(queue.name for queue in given), self._wrongs, "queues")
        return tuple(sorted(given, key=lambda queue: queue.name))

    def _work(
        self, nodes: tuple[Node, ...] | None, queues: tuple[Queue, ...] | None, on_bad_row: OnBadRow | None
    ) -> Trace:
        work = self._fields.get("arrivals")
        if not isinstance(work, Work):
            return Trace()
        wish = Wish(
            work.between, _leaves(queues) if self._timed else None, DEFAULT_QUEUE if queues is None else "", self._timed, _devices(nodes), self._timed,
            on_bad_row or _on_bad_row(work.on_bad_row),
        )  # fmt: skip
        file = self._folder / work.file
        key = "csv" if work.format == "csv" else "trace"
        trace = self._read(
            lambda: read_trace(file, work.format, work.columns, wish), work.file, "arrivals", key
        )
        if trace is not None and not trace.arrivals:
            self._wrongs.add(("arrivals", key), _nothing(trace), "at least one row that can be used")
        return trace or Trace()

    def _read(self, read: Callable[[], T], file: str, *outer: Key) -> T | None:
        """What a file says; its faults stand where the scenario names it."""
        try:
            return read()
        except BadFile as bad:
            for fault in bad.faults:
                place = [quote(file)]
                if fault.line is not None:
                    place.append(f"line {fault.line}")
                if fault.path:
                    place.append(f"column {fault.path}")
                found = f"{fault.found}{':' if len(place) == 1 else ' in'} {', '.join(place)}"
                self._wrongs.take(Bad([Wrong(outer, found, fault.wanted)]))
            return None


def _on_bad_row(written: str) -> OnBadRow:
    return "stop" if written == "stop" else "skip"


def _leaves(queues: tuple[Queue, ...] | None) -> frozenset[str] | None:
    if queues is None:
        return None
    parents = {queue.parent for queue in queues}
    return frozenset(queue.name for queue in queues if queue.name not in parents)


def _devices(nodes: tuple[Node, ...] | None) -> int | None:
    return None if nodes is None else sum(len(node.devices) for node in nodes)


def _nothing(trace: Trace) -> str:
    first = (
        f"; line {trace.bad[0].row}: found {trace.bad[0].found}, wanted {trace.bad[0].wanted}"
        if trace.bad
        else ""
    )
    rows = f"{trace.rows:,} row{'' if trace.rows == 1 else 's'}"
    return f"{rows}, {trace.bad_rows:,} of them bad, and none to use{first}"


def _tenants(trace: Trace, nodes: tuple[Node, ...]) -> tuple[Queue, ...]:
    """One queue a tenant, each with an equal part of all GPUs as its quota."""
    names = sorted({arrival.queue for arrival in trace.arrivals})
    part = sum(len(node.devices) for node in nodes) * MILLI // max(1, len(names))
    return tuple(make_queue(name, quota=Amounts(part, UNLIMITED, UNLIMITED)) for name in names)
