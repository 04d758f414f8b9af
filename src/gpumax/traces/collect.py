"""Where rows become a trace: one check for all formats, so that a bad row is told alike in each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final, Literal

import msgspec

from gpumax.errors import BadFile, Fault
from gpumax.formats.lines import quote
from gpumax.formats.shape import more_faults
from gpumax.model.trace import Arrival, BadRow, Trace
from gpumax.traces import cells
from gpumax.traces.cells import BadCell
from gpumax.traces.names import legal
from gpumax.units import MILLI
from gpumax.words import plural

OnBadRow = Literal["skip", "stop"]
MOST_TOLD: Final = 50
"""How many bad rows are told one by one."""

OUTSIDE: Final = "lay outside of the chosen time"
UNSORTED: Final = "came earlier than the row before (sorted here)"
STILL_RUNNING: Final = "still ran when the trace ended (counted up to there)"
AGAIN: Final = "read like another of the same moment in every column (none names the work, so each counts)"
OTHER_LETTERS: Final = "had a name in other letters than ours (these became numbers, as in a_x20_b)"
NEVER_RAN: Final = "never ran"


class Wish(msgspec.Struct, frozen=True):
    """What the reader of a trace asks for.

    between: first moment, and the first one after it. queues: the tenants that there are; None: any. tenant: whose work is that of no
    tenant, and all of it where `tenants` is False. devices: the most that a workload may ask for; None: any number. timed: whether a
    row without moment and duration is of no use.
    """

    between: tuple[int, int] | None = None
    queues: Collection[str] | None = None
    tenant: str = ""
    tenants: bool = True
    devices: int | None = None
    timed: bool = True
    on_bad_row: OnBadRow = "skip"


class Collector:
    """Takes rows as texts by our columns, one by one, and makes the trace of them.

    unnamed: no column names the work, so that a row that stands there twice can't be told from work that came twice.
    """

    def __init__(self, source: str, wish: Wish) -> None:
        self._source = source
        self.wish = wish
        self._arrivals: list[Arrival] = []
        self._open: list[int] = []
        self._lines: dict[str, int] = {}
        self._bad: list[BadRow] = []
        self._known: dict[tuple[str, str], str] = {}
        self._models: dict[str, tuple[str, ...]] = {}
        self._before = 0
        self.bad_rows = 0
        self.rows = 0
        self.last_ms = 0
        self.unnamed = False
        self.notes: Counter[str] = Counter()

    def note(self, words: str, rows: int = 1) -> None:
        """Count rows that are no fault."""
        self.notes[words] += rows

    def passed(self, words: str) -> None:
        """Count a row that holds no work, and is no fault."""
        self.rows += 1
        self.notes[words] += 1

    def bad(self, line: int, column: str, found: str, wanted: str) -> None:
        """Note a row that can't be used."""
        self.bad_rows += 1
        if len(self._bad) < MOST_TOLD:
            self._bad.append(BadRow(line, column, found, wanted))

    def bad_row(self, line: int, column: str, found: str, wanted: str) -> None:
        """Note a row that was none, and so was not given to `take`."""
        self.rows += 1
        self.bad(line, column, found, wanted)

    def take(self, line: int, row: Mapping[str, str], theirs: Mapping[str, str] | None = None) -> None:
        """Read one row. theirs: what the file calls our columns."""
        self.rows += 1
        try:
            arrival = self._arrival(line, row)
        except BadCell as bad:
            self.bad(line, (theirs or {}).get(bad.column, bad.column), bad.found, bad.wanted)
            return
        if arrival is not None:
            self._arrivals.append(arrival)

    def _arrival(self, line: int, row: Mapping[str, str]) -> Arrival | None:
        get = row.get
        submitted = cells.moment("submitted", text) if (text := get("submitted")) else self._no("submitted")
        if submitted < self._before:
            self.notes[UNSORTED] += 1
        self._before = submitted
        span = self.wish.between
        if span is not None and not span[0] <= submitted < span[1]:
            self.notes[OUTSIDE] += 1
            return None
        duration, still = self._duration(row, submitted)
        devices, milli, memory = _devices(row)
        self._check_devices(row, devices)
        arrival = Arrival(
            self._name(line, row), submitted, duration, devices, milli, memory,
            self._list(text) if (text := get("models")) else (),
            cells.milli("cpu", text) if (text := get("cpu")) else cells.count("cpu_milli", get("cpu_milli") or "0"),
            cells.memory("memory", text) if (text := get("memory")) else cells.count("memory_mib", get("memory_mib") or "0"),
            self._queue(get("queue") or ""),
            self._text("user", text, cells.words) if (text := get("user")) else "",
            cells.whole("priority", text) if (text := get("priority")) else 50,
            cells.duration("max_duration", text) or None if (text := get("max_duration")) else None,
            cells.count("devices_per_task", get("devices_per_task") or "0"),
        )  # fmt: skip
        if still:
            self._open.append(len(self._arrivals))
        self.last_ms = max(self.last_ms, submitted + duration)
        return arrival

    def _no(self, column: str) -> int:
        if self.wish.timed:
            raise BadCell(column, "nothing", "a time" if column == "submitted" else "a duration")
        return 0

    def _duration(self, row: Mapping[str, str], submitted: int) -> tuple[int, bool]:
        """For how long it runs, and whether it had not ended when the trace did."""
        begin = submitted
        if text := row.get("started"):
            begin = cells.moment("started", text)
            if begin < submitted:
                raise BadCell("started", cells.show(text), "a start at or after the submission")
        if text := row.get("ended"):
            end = cells.moment("ended", text)
            if end < begin:
                raise BadCell("ended", cells.show(text), "an end at or after the beginning")
            if not row.get("duration"):
                return end - begin, False
        if text := row.get("duration"):
            return cells.duration("duration", text), False
        if row.get("running"):
            return begin - submitted, True
        return self._no("duration"), False

    def _name(self, line: int, row: Mapping[str, str]) -> str:
        text = row.get("name")
        if text is None:
            return f"row-{line:07}"
        name = legal("name", text)
        if name != text.strip():
            self.notes[OTHER_LETTERS] += 1
        if (first := self._lines.get(name)) is not None:
            raise BadCell("name", f"{quote(name)} again, first in line {first}", "each name once")
        self._lines[name] = line
        return name

    def _queue(self, text: str) -> str:
        queue = self._text("queue", text, legal) if text and self.wish.tenants else self.wish.tenant
        known = self.wish.queues
        if known is not None and queue not in known:
            ours = f" (here {queue})" if text and queue != text.strip() and self.wish.tenants else ""
            raise BadCell("queue", f"{cells.show(text.strip() or queue)}{ours}", "a queue of the scenario")
        return queue

    def _renamed(self) -> dict[str, tuple[str, ...]]:
        """Tenants that have other names here than in the trace, by ours."""
        theirs: dict[str, dict[str, None]] = {}
        for (column, text), ours in self._known.items():
            if column == "queue":
                theirs.setdefault(ours, {})[text.strip()] = None
        return {ours: tuple(names) for ours, names in sorted(theirs.items()) if [*names] != [ours]}

    def _text(self, column: str, text: str, read: Callable[[str, str], str]) -> str:
        """Texts that come again and again are kept once."""
        found = self._known.get((column, text))
        if found is None:
            found = read(column, text)
            if len(self._known) < 1 << 20:
                self._known[column, text] = found
        return found

    def _list(self, text: str) -> tuple[str, ...]:
        found = self._models.get(text)
        if found is None:
            found = self._models[text] = cells.models("models", text)
        return found

    def _check_devices(self, row: Mapping[str, str], devices: int) -> None:
        most = self.wish.devices
        if most is not None and devices > most:
            column = "devices" if row.get("devices") else "gpu"
            raise BadCell(column, plural(devices, "GPU"), f"at most the {most:,} of the cluster")

    def trace(self) -> Trace:
        """What was read. BadFile, with every bad row that is told, where the wish is to stop at them."""
        if self.bad_rows and self.wish.on_bad_row == "stop":
            raise BadFile(self._faults(), self._source)
        for index in self._open:
            arrival = self._arrivals[index]
            waited = arrival.duration_ms
            duration = max(0, self.last_ms - arrival.submitted_ms - waited)
            self._arrivals[index] = msgspec.structs.replace(arrival, duration_ms=duration)
            self.notes[STILL_RUNNING] += 1
        self._lines.clear()
        # Twice, because pairs of millions of keys would take more memory than the arrivals.
        self._arrivals.sort(key=attrgetter("name"))
        self._arrivals.sort(key=attrgetter("submitted_ms"))
        if self.unnamed and (again := twins(self._arrivals)):
            self.notes[AGAIN] += again
        return Trace(
            tuple(self._arrivals),
            self.rows,
            tuple(self._bad),
            self.bad_rows,
            dict(self.notes),
            self._renamed(),
        )

    def _faults(self) -> list[Fault]:
        faults = [Fault(row.column, row.row, row.found, row.wanted) for row in self._bad]
        if self.bad_rows > len(faults):
            faults.append(Fault("", None, more_faults(self.bad_rows - len(faults)), "these mended first"))
        return faults


def twins(arrivals: Sequence[Arrival]) -> int:
    """How many of these, sorted by moment, are like one before them in all but their names."""
    return sum(
        len(same) - len({msgspec.structs.replace(one, name="") for one in same})
        for _, rows in groupby(arrivals, attrgetter("submitted_ms"))
        if len(same := list(rows)) > 1
    )


def _devices(row: Mapping[str, str]) -> tuple[int, int, int]:
    """How many devices, thousandths of each, MiB of each."""
    memory = cells.count("gpu_memory_mib", text) if (text := row.get("gpu_memory_mib")) else 0
    given = cells.count("devices", text) if (text := row.get("devices")) else None
    if text := row.get("gpu"):
        column, milli = "gpu", cells.milli("gpu", text)
    elif text := row.get("gpu_milli"):
        column, milli = "gpu_milli", cells.count("gpu_milli", text)
    else:
        devices = (1 if memory else 0) if given is None else given
        return devices, MILLI, memory if devices else 0
    if given is not None:
        if given and not 0 < milli <= MILLI:
            raise BadCell(column, cells.show(text), "a part of each device, above 0 and at most all of it")
        return given, milli if given else MILLI, memory if given else 0
    if milli > MILLI and milli % MILLI:
        raise BadCell(column, cells.show(text), "whole GPUs, or a part of one")
    return -(-milli // MILLI), milli if 0 < milli < MILLI else MILLI, memory if milli else 0
