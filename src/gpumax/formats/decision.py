"""The decision document: what follows from a snapshot."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, get_args

import msgspec
from msgspec.structs import replace

from gpumax.formats.parsed import LineOf
from gpumax.formats.scalars import (
    GROUP_NAME,
    NAME,
    Amount,
    Choice,
    Flag,
    Text,
    Time,
    Whole,
    write_bytes,
    write_time,
)
from gpumax.formats.shape import Bad, Field, Map, Object, Rows, Schema, Then, Wrongs, bad_file
from gpumax.formats.snapshot import VERSION
from gpumax.formats.snapshot_shapes import SHARES
from gpumax.formats.snapshot_workloads import dump_share
from gpumax.formats.text import one_document
from gpumax.model.amounts import RESOURCES, Resource
from gpumax.model.decision import HOLD_CODES, Cause, Decision, Eviction, Hold, NodeReason, Place, Share
from gpumax.model.workload import Document
from gpumax.units import UNLIMITED

_SENTENCE: Final = Text(r"[^\x00\ud800-\udfff]*", "a sentence", most=10_000)
_NAMES: Final = Rows(NAME)
_AMOUNTS: Final = {name: Amount(name, "up", unlimited=True, most=UNLIMITED) for name in RESOURCES}
_COUNT: Final = Whole(0, UNLIMITED)
_LACKING: Final = Text(r"[A-Za-z0-9][A-Za-z0-9._/+-]*", "a resource, or a slice profile", most=317)


class _AsWritten:
    """A number or text, looked at once its resource is known."""

    def read(self, value: object) -> object:
        """The value."""
        return value

    def schema(self, defs: dict[str, Schema]) -> Schema:
        """An amount."""
        return _AMOUNTS["memory"].schema(defs)


def _amounts(written: dict[str, tuple[str, object]]) -> dict[str, int]:
    """By field: the amount of a resource as it was written."""
    wrongs = Wrongs()
    amounts: dict[str, int] = {}
    for field, (resource, value) in written.items():
        try:
            amounts[field] = (_AMOUNTS[resource] if resource in RESOURCES else _COUNT).read(value)
        except Bad as bad:
            wrongs.take(bad, field)
    wrongs.check()
    return amounts


def _short(written: dict[str, object]) -> dict[str, int]:
    return _amounts({name: (name, value) for name, value in written.items()})


def _eviction(task: str, cause: Cause, beneficiary: str = "", **moved: Any) -> Eviction:
    return Eviction(task, cause, beneficiary, **moved)


def _share(queue: str, resource: Resource, **amounts: object) -> Share:
    return Share(queue, resource, **_amounts({field: (resource, value) for field, value in amounts.items()}))


_PLACE: Final = Object(
    "Place",
    {
        "task": Field(NAME, "Which task.", required=True),
        "node": Field(NAME, "Where it goes.", required=True),
        "devices": Field(SHARES, "What it gets there, by index."),
        "after": Field(_NAMES, "Tasks whose departure it waits for."),
    },
    Place,
    about="A task that starts.",
)
_EVICTION: Final = Object(
    "Eviction",
    {
        "task": Field(NAME, "Which task.", required=True),
        "cause": Field(Choice(get_args(Cause)), "Why.", required=True),
        "for": Field(GROUP_NAME, "The workload that gains; empty where none does.", to="beneficiary"),
        "restarts_on": Field(NAME, "Its new node, only where it is moved."),
        "devices": Field(SHARES, "What it gets there."),
    },
    _eviction,
    about="A task that has to go.",
)
_HOLD: Final = Object(
    "Hold",
    {
        "workload": Field(NAME, "Which workload.", required=True),
        "code": Field(Choice(tuple(HOLD_CODES)), "Why, in a word.", required=True),
        "message": Field(_SENTENCE, "Why, in a sentence.", required=True),
        "nodes": Field(Map(Choice(get_args(NodeReason)), Whole()), "How many nodes fail for which reason."),
        "short": Field(
            Then(Map(_LACKING, _AsWritten()), _short),
            "What is missing: GPUs, cores, bytes of memory, counts of other resources.",
        ),
        "forecast": Field(
            Time(),
            "When some of it starts if all work ends at its max_duration and nothing else comes; null: unknown.",
            to="forecast_ms",
        ),
        "reserved": Field(
            Flag(), "true: room is kept for it at the time of its forecast, and nobody delays it."
        ),
    },
    Hold,
    about="Not now, and why.",
)
_SHARE: Final = Object(
    "Share",
    {
        "queue": Field(NAME, "Which queue.", required=True),
        "resource": Field(Choice(RESOURCES), "GPUs, cores, or bytes of memory.", required=True),
        "quota": Field(_AsWritten(), "What it is guaranteed.", required=True),
        "share": Field(_AsWritten(), "What it may hold now.", required=True),
        "allocated": Field(_AsWritten(), "What it holds.", required=True),
        "demand": Field(_AsWritten(), "What it holds and asks for.", required=True),
    },
    _share,
    about="What a queue may hold of one resource.",
)


DECISION: Final = Object(
    "Decision",
    {
        "version": Field(Choice((VERSION,)), "The version of the format.", keep=False),
        "places": Field(Rows(_PLACE), "Tasks that start, in the order in which they apply."),
        "evictions": Field(Rows(_EVICTION), "Tasks that go."),
        "holds": Field(Rows(_HOLD), "Workloads that wait, and why."),
        "shares": Field(Rows(_SHARE), "What the answer rests on."),
        "warnings": Field(
            Rows(_SENTENCE),
            "What whoever runs the cluster should know: quotas that were cut, nodes that give more than they have, gangs below their minimum.",
        ),
    },
    Decision,
    about="The answer to a snapshot.",
)


def load_decision(obj: object, *, source: str = "", line_of: LineOf | None = None) -> Decision:
    """The decision of a document, or of a file: its bytes, its text, or its Path. BadFile with every fault that it has."""
    parsed = one_document(obj, source, line_of)
    try:
        return DECISION.read(parsed.document)
    except Bad as bad:
        raise bad_file(bad, parsed.source, parsed.line_of) from None


def dump_decision(decision: Decision) -> Document:
    """The document of a decision; loading it gives an equal decision."""
    return {
        "version": VERSION,
        "places": [_dump_place(place) for place in decision.places],
        "evictions": [_dump_eviction(eviction) for eviction in decision.evictions],
        "holds": [_dump_hold(hold) for hold in decision.holds],
        "shares": [_dump_share(share) for share in decision.shares],
        "warnings": list(decision.warnings),
    }


def encode_decision(decision: Decision) -> bytes:
    """One line of JSON. Equal decisions give equal bytes."""
    document = dump_decision(replace(decision, holds=()))
    return msgspec.json.encode({**document, "holds": _written(decision.holds)})


def _written(holds: Iterable[Hold]) -> list[msgspec.Raw]:
    """Holds as JSON. Where much waits for the same reason, it is the very same objects that say so: those are written once."""
    known: dict[tuple[object, ...], bytes] = {}
    rows = []
    for hold in holds:
        key = (hold.code, hold.message, id(hold.nodes), id(hold.short), hold.forecast_ms, hold.reserved)
        why = known.get(key)
        if why is None:
            why = known[key] = msgspec.json.encode(_dump_why(hold))[1:]
        rows.append(msgspec.Raw(b'{"workload":%b,%b' % (msgspec.json.encode(hold.workload), why)))
    return rows


def _dump_place(place: Place) -> Document:
    devices = [dump_share(share) for share in place.devices]
    return {"task": place.task, "node": place.node, "devices": devices, "after": list(place.after)}


def _dump_eviction(eviction: Eviction) -> Document:
    document: Document = {"task": eviction.task, "cause": eviction.cause, "for": eviction.beneficiary}
    if eviction.restarts_on is not None:
        document["restarts_on"] = eviction.restarts_on
        document["devices"] = [dump_share(share) for share in eviction.devices]
    return document


def _dump_hold(hold: Hold) -> Document:
    return {"workload": hold.workload, **_dump_why(hold)}


def _dump_why(hold: Hold) -> Document:
    return {
        "code": hold.code,
        "message": hold.message,
        "nodes": dict(sorted(hold.nodes.items())),
        "short": {
            name: write_bytes(name, amount) if name in RESOURCES else amount
            for name, amount in sorted(hold.short.items())
        },
        "forecast": None if hold.forecast_ms is None else write_time(hold.forecast_ms),
        **({"reserved": True} if hold.reserved else {}),
    }


def _dump_share(share: Share) -> Document:
    amounts = {
        "quota": share.quota,
        "share": share.share,
        "allocated": share.allocated,
        "demand": share.demand,
    }
    written = {field: write_bytes(share.resource, amount) for field, amount in amounts.items()}
    return {"queue": share.queue, "resource": share.resource, **written}
