"""JSON Schemas: valid, described, and of one mind with the reader."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from formats.checker import KNOWN, matches, parts
from formats.kit import QUEUES
from formats.strategies import DECISIONS, snapshots, specs, trees
from formats.test_fuzz import _spoiled
from formats.test_read_request import WAYS
from formats.test_read_snapshot import EVERYTHING as SNAPSHOT
from formats.test_read_workload import EVERYTHING as WORKLOAD
from gpumax.errors import BadFile, NotFound
from gpumax.formats.decision import dump_decision
from gpumax.formats.parsed import Parsed, no_lines
from gpumax.formats.queues import dump_queue
from gpumax.formats.schema import NAMES, schema
from gpumax.formats.snapshot import dump_snapshot, load_snapshot
from gpumax.formats.specs import dump_spec
from gpumax.formats.workload import load_workloads
from gpumax.model.decision import Decision
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Snapshot
from gpumax.model.spec import WorkloadSpec

SCHEMAS = {name: schema(name) for name in NAMES}
_SOME = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


def _fits(name: str, document: Any) -> bool:
    return matches(document, SCHEMAS[name], SCHEMAS[name])


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_sound(name: str) -> None:
    """Draft 2020-12, JSON, keywords that exist, references that lead somewhere, patterns that compile."""
    root = SCHEMAS[name]
    assert root["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert msgspec.json.decode(msgspec.json.encode(root)) == root
    for part in parts(root):
        assert part.keys() <= KNOWN
        if "$ref" in part:
            assert part["$ref"].removeprefix("#/$defs/") in root["$defs"]
        re.compile(part.get("pattern", ""))


@pytest.mark.parametrize("name", NAMES)
def test_every_field_is_described(name: str) -> None:
    """In a sentence; no definition is left over."""
    root = SCHEMAS[name]
    used = {part["$ref"].rpartition("/")[2] for part in parts(root) if "$ref" in part}
    assert used == set(root["$defs"])
    for part in parts(root):
        for field, about in part.get("properties", {}).items():
            assert re.fullmatch(r"[a-z0-9A-Z(].*\.", about["description"]), f"{field}: {about['description']}"


def test_what_has_no_schema_is_refused_with_what_has_one() -> None:
    """In words."""
    with pytest.raises(
        NotFound, match="there is no schema 'job'; there are snapshot, decision, workload, queue, result"
    ):
        schema("job")


def test_the_examples_of_the_formats_fit() -> None:
    """As other programs read YAML; times are quoted for them, because YAML 1.1 has dates."""
    quoted = re.sub(r"(\d{4}-\d\d-\d\dT[0-9:]+Z)", r"'\1'", SNAPSHOT)
    assert _fits("snapshot", yaml.safe_load(quoted))
    assert _fits("workload", yaml.safe_load(WORKLOAD))


@_SOME
@given(snapshots())
def test_every_snapshot_that_is_written_fits(snapshot: Snapshot) -> None:
    """Whatever it holds."""
    assert _fits("snapshot", dump_snapshot(snapshot))


@_SOME
@given(DECISIONS)
def test_every_decision_that_is_written_fits(decision: Decision) -> None:
    """Whatever it holds."""
    assert _fits("decision", dump_decision(decision))


@_SOME
@given(specs())
def test_every_workload_that_is_written_fits(spec: WorkloadSpec) -> None:
    """Whatever it holds."""
    assert _fits("workload", dump_spec(spec))


@_SOME
@given(trees())
def test_every_queue_that_is_written_fits(queues: tuple[Queue, ...]) -> None:
    """Whatever it holds."""
    assert all(
        _fits("queue", dump_queue(queue))
        for queue in queues
        if re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", queue.name)
    )


@pytest.mark.parametrize("written", WAYS)
def test_every_way_to_ask_for_gpus_fits(written: str) -> None:
    """In both files."""
    request = yaml.safe_load(f"{{{written}}}")
    assert _fits("workload", {"run": "x", "resources": request})
    assert _fits(
        "snapshot", {"workloads": [{"name": "w", "queue": "q", "request": request, "tasks": [{"name": "t"}]}]}
    )


@_SOME
@given(_spoiled(0))
def test_a_snapshot_that_is_read_fits(document: Any) -> None:
    """The schema is never stricter than the reader."""
    try:
        load_snapshot(document)
    except BadFile:
        return
    assert _fits("snapshot", document)


@_SOME
@given(_spoiled(1))
def test_a_workload_file_that_is_read_fits(document: Any) -> None:
    """The schema is never stricter than the reader."""
    try:
        load_workloads([Parsed(document, no_lines)], base="/", queues=QUEUES, default_project="default")
    except BadFile:
        return
    assert _fits("workload", document)


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("snapshot", []), ("snapshot", {"node": []}), ("snapshot", {"nodes": {}}), ("snapshot", {"nodes": [{}]}),
        ("snapshot", {"nodes": [{"name": "a b"}]}), ("snapshot", {"nodes": [{"name": 1}]}), ("snapshot", {"now": -1}),
        ("snapshot", {"nodes": [{"name": "n", "cpu": -1}]}), ("snapshot", {"nodes": [{"name": "n", "cpu": "4Gi"}]}),
        ("snapshot", {"nodes": [{"name": "n", "cpu": True}]}), ("snapshot", {"nodes": [{"name": "n", "memory": "16 GB"}]}),
        ("snapshot", {"nodes": [{"name": "n", "ready": "true"}]}), ("snapshot", {"nodes": [{"name": "n", "tasks": 1.5}]}),
        ("snapshot", {"nodes": [{"name": "n", "devices": {"model": "H100"}}]}), ("snapshot", {"version": "gpumax/v2"}),
        ("snapshot", {"queues": [{"name": "q", "weight": "1Gi"}]}), ("snapshot", {"queues": [{"name": "q", "limit": 4}]}),
        ("snapshot", {"queues": [{"name": "q", "reclaim_min_runtime": "soon"}]}),
        ("snapshot", {"workloads": [{"name": "w", "queue": "q"}]}), ("snapshot", {"policy": {"placement": {"gpu": "packed"}}}),
        ("snapshot", {"workloads": [{"name": "w", "queue": "q", "tasks": []}]}),
        ("snapshot", {"workloads": [{"name": "w", "queue": "q", "tasks": [{"name": "t", "state": "done"}]}]}),
        ("workload", {"run": True}), ("workload", {"run": []}), ("workload", {"tasks": {"min": 1}}), ("workload", {"tasks": 0}),
        ("workload", {"retries": 3}), ("workload", {"name": "A"}), ("workload", {"kind": "queue"}), ("workload", {"env": {"A": None}}),
        ("workload", {"secrets": {"A": "b"}}), ("workload", {"resource": {}}), ("queue", {}), ("queue", {"name": "a/b"}),
        ("queue", {"name": "a", "kind": "training"}), ("decision", {"holds": [{"workload": "w", "code": "No", "message": ""}]}),
        ("decision", {"places": [{"task": "t"}]}), ("decision", {"evictions": [{"task": "t", "cause": "x"}]}),
    ],
)  # fmt: skip
def test_what_the_reader_refuses_does_not_fit_where_a_schema_can_say_so(name: str, document: Any) -> None:
    """Unknown fields, wrong types, numbers out of range, words that aren't on the list."""
    assert not _fits(name, document)
