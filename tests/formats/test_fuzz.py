"""Whatever a file says, reading it gives an answer or faults, and nothing else."""

from __future__ import annotations

import random
from copy import deepcopy
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from formats.kit import QUEUES, faults_of
from formats.test_read_snapshot import EVERYTHING as SNAPSHOT
from formats.test_read_workload import EVERYTHING as WORKLOAD
from gpumax.errors import BadFile
from gpumax.formats.decision import load_decision
from gpumax.formats.parsed import Parsed, no_lines
from gpumax.formats.snapshot import dump_snapshot, load_snapshot
from gpumax.formats.text import parse_text
from gpumax.formats.workload import load_workloads
from gpumax.policy.decide import decide

_SOME = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
_ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**63, -(2**70), 10**400, 0.5, 1.5, -0.0, 1e308, float("nan"), float("inf"), "", " ", "x",
    "nan", "1e999", "1e-999", "unlimited", "16Gi", "-1s", "2026-02-30T00:00:00Z", "é\n\x1b\u2028", "\ud800", "a" * 300, "0x10",
    [], [[]], {}, {"": 1}, {"\ud800": {}}, {"name": "a"}, [None], ["a", "a"], {"a": {"b": {"c": []}}}, "\0", "H100:", ":", "1m",
)  # fmt: skip


def _documents() -> tuple[Any, Any]:
    import yaml

    return yaml.safe_load(SNAPSHOT), yaml.safe_load(WORKLOAD)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """All places in a document: the container and the key."""
    found: list[tuple[Any, Any]] = []
    left = [value]
    while left:
        here = left.pop()
        keys = list(here) if isinstance(here, dict) else range(len(here)) if isinstance(here, list) else ()
        for key in keys:
            found.append((here, key))
            left.append(here[key])
    return found


@st.composite
def _spoiled(draw: st.DrawFn, which: int) -> Any:
    """One of the examples with one to four places changed, removed, doubled or moved."""
    document = _documents()[which]
    for _ in range(draw(st.integers(1, 4))):
        places = _places(document)
        if not places:
            break
        container, key = places[draw(st.integers(0, len(places) - 1))]
        match draw(st.integers(0, 4)):
            case 0:
                del container[key]
            case 1 if isinstance(container, list):
                container.append(container[key])
            case 2 if isinstance(container, dict):
                container[draw(st.sampled_from(("name", "x", "", "devices", "min", "parent")))] = container[
                    key
                ]
            case 3:
                other, there = places[draw(st.integers(0, len(places) - 1))]
                container[key] = (
                    msgspec.to_builtins(other[there], str_keys=True)
                    if there in other or isinstance(other, list)
                    else 0
                )
            case _:
                container[key] = deepcopy(draw(st.sampled_from(_ODD)))
    return document


@_SOME
@given(_spoiled(0))
def test_a_spoiled_snapshot_gives_a_decision_or_faults(document: Any) -> None:
    """What is read is decided upon; what isn't is said on safe lines."""
    try:
        snapshot = load_snapshot(document)
    except BadFile:
        faults_of(load_snapshot, document)
    else:
        load_decision(msgspec.json.encode(_dumped(decide(snapshot))))
        assert load_snapshot(dump_snapshot(snapshot)) == snapshot


def _dumped(decision: Any) -> Any:
    from gpumax.formats.decision import dump_decision

    return dump_decision(decision)


@_SOME
@given(_spoiled(1))
def test_a_spoiled_workload_file_gives_workloads_or_faults(document: Any) -> None:
    """And nothing else."""
    parsed = [Parsed(document, no_lines)]
    try:
        load_workloads(parsed, base="/", queues=QUEUES, default_project="default")
    except BadFile:
        faults_of(load_workloads, parsed, base="/", queues=QUEUES, default_project="default")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "text",
    [SNAPSHOT, WORKLOAD, msgspec.json.encode(_documents()[1]).decode()],
    ids=["snapshot", "workload", "json"],
)
def test_spoiled_bytes_give_faults_at_most(text: str, seed: int) -> None:
    """Bytes changed, removed, doubled, and parts swapped."""
    chance = random.Random(seed)
    for _ in range(60):
        data = spoil(text.encode(), chance)
        for read in (load_snapshot, load_decision, _submit):
            try:
                read(data)
            except BadFile:
                faults_of(read, data)


def _submit(data: bytes) -> object:
    return load_workloads(parse_text(data, "f.yaml"), base="/", queues=QUEUES, default_project="default")


def spoil(data: bytes, chance: random.Random) -> bytes:
    """The bytes with one to six changes."""
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data) + 1)
        to = min(len(data), at + chance.randint(0, 8))
        match chance.randrange(5):
            case 0:
                data = data[:at] + data[to:]
            case 1:
                data = data[:at] + data[at:to] * chance.randint(2, 5) + data[to:]
            case 2:
                data = data[:at] + bytes([chance.randrange(256)]) + data[at:]
            case 3:
                data = (
                    data[:at]
                    + chance.choice(
                        (
                            b"\t",
                            b"{",
                            b"]",
                            b'"',
                            b"\n",
                            b": ",
                            b"&a ",
                            b"*a",
                            b"- ",
                            b"!!x ",
                            b"---\n",
                            b"?",
                            b"|\n",
                            b"%",
                            b"\r",
                            b"\xef\xbb\xbf",
                            b"\\u",
                            b"<<: ",
                        )
                    )
                    + data[at:]
                )
            case _:
                other = chance.randrange(len(data) + 1)
                data = data[:at] + data[other : other + 30] + data[at:]
    return data
