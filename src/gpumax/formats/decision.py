"""The decision document: what follows from a snapshot."""

from __future__ import annotations

from typing import Final, get_args

import msgspec

from gpumax.formats.scalars import KEY, NAME, Amount, Choice, Text, Time, Whole, write_bytes, write_time
from gpumax.formats.shape import Bad, ByType, Field, Map, Object, Rows, Schema, bad_file
from gpumax.formats.snapshot import VERSION
from gpumax.formats.tasks import SHARES
from gpumax.formats.text import no_lines
from gpumax.formats.workloads import dump_share
from gpumax.model.amounts import RESOURCES, Resource
from gpumax.model.decision import HOLD_CODES, Cause, Decision, Eviction, Hold, Place, Share
from gpumax.model.workload import Document

_SENTENCE: Final = Text(r"[^\x00]*", "a sentence", most=10_000)
_TASK_NAMES: Final = Rows(NAME)

_PLACE: Final = Object(
    "Place",
    {
        "task": Field(NAME, "Which task.", required=True),
        "node": Field(NAME, "Where it goes.", required=True),
        "devices": Field(SHARES, "What it gets there, by index."),
        "after": Field(_TASK_NAMES, "Tasks whose departure it waits for."),
    },
    Place,
    about="A task that starts.",
)


_EVICTION: Final = Object(
    "Eviction",
    {
        "task": Field(NAME, "Which task.", required=True),
        "cause": Field(Choice(get_args(Cause)), "reclaim, preempt, consolidate or stale.", required=True),
        "for": Field(NAME, "The workload that gains.", to="beneficiary", required=True),
        "restarts_on": Field(NAME, "Its new node, where it is moved."),
        "devices": Field(SHARES, "What it gets there."),
    },
    Eviction,
    about="A task that has to go.",
)


class _Short:
    """What is missing, by resource: gpu, cpu, memory, or an extended one in counts."""

    def __init__(self) -> None:
        self._entries: Map[object] = Map(KEY, ByType("an amount", number=_AS_IT_IS, text=_AS_IT_IS))

    def read(self, value: object) -> dict[str, int]:
        """Milli-devices, millicores, MiB, counts."""
        entries = self._entries.read(value)
        bad: list[Bad] = []
        short: dict[str, int] = {}
        for key, item in entries.items():
            short[key] = _AMOUNTS[key].read(item) if key in _AMOUNTS else _COUNT.read(item)
        return short

    def schema(self, defs: dict[str, Schema]) -> Schema:
        """An object of amounts."""
        return {
            "type": "object",
            "properties": {name: _AMOUNTS[name].schema(defs) for name in RESOURCES},
            "additionalProperties": _COUNT.schema(defs),
        }
