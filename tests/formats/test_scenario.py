"""The scenario document: whatever it says, it is read or refused in words, and its schema is of one mind with the reader."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from formats.checker import matches, parts
from formats.test_fuzz import _ODD, _places
from gpumax.formats.scenario import POLICIES, SCENARIO
from gpumax.formats.schema import schema
from gpumax.formats.shape import Bad, bad_file

ROOT = schema("scenario")
EVERYTHING = """
version: gpumax/v1
name: last quarter
protocol: replay
nodes:
  - {name: big, count: 4, pool: train, cpu: 96, memory: 1Ti, tasks: 110, devices: {count: 8, model: H100, memory: 80Gi},
     extended: {rdma/hca: 8}, labels: {zone: a}, taints: [{key: k, effect: NoSchedule}], ready: true, cordoned: false}
  - {devices: [{index: 0, model: A100, memory: 40Gi, healthy: true, slices: {1g.5gb: 7}}]}
queues:
  - {name: company}
  - {name: research, parent: company, priority: 100, quota: {gpu: 8, cpu: unlimited, memory: unlimited}, limit: {gpu: 16},
     weight: {gpu: 2}, created: '2026-01-01T00:00:00Z', preempt_min_runtime: 0s, reclaim_min_runtime: 10m, usage: {gpu: 0.31},
     demote: [1, 10], fresh: company}
arrivals:
  csv: jobs.csv.gz
  format: csv
  columns: {submitted: at, duration: ran, gpu: gpus, queue: team}
  between: ['2017-10-01', '2017-12-01T12:00:00Z']
  gang: {devices_per_task: 8}
  on_bad_row: stop
failures: {node_mtbf: 30d, node_mttr: 4h}
policies: [static-fifo, gpumax]
checkpoint: {every: 30m, restart: 60s}
window: 61d
seeds: [42, 43]
arrived: 1.3
start: 5s
grace: 30s
fractions: {"0.5": 3, ".25": 1, "1": 2}
policy: {placement: {gpu: spread, cpu: pack}, fairness_k: 1.0, reserve_after: 30m, max_evictions: 0, stale_grace: 60s,
  search_steps: 10000, pools: {train: {placement: {gpu: pack}}}}
"""
TABLES = """
protocol: inflate
nodes: {csv: nodes.csv, columns: {name: sn, devices: gpu}}
arrivals: {trace: pods.csv, format: openb}
policies: [fgd, random]
"""
_SOME = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def _told(document: Any) -> list[str]:
    """The faults of a document; none where it is read."""
    try:
        SCENARIO.read(document)
    except Bad as bad:
        return [str(fault) for fault in bad_file(bad).faults]
    return []


@pytest.mark.parametrize("text", [EVERYTHING, TABLES])
def test_the_examples_are_read_and_fit(text: str) -> None:
    """Every field that there is, once."""
    document = yaml.safe_load(text)
    assert _told(document) == []
    assert matches(document, ROOT, ROOT)


def test_every_field_of_a_scenario_is_in_the_examples() -> None:
    """So that what is tried with them is tried with all."""
    written = EVERYTHING + TABLES + "trace: devices_per_node: scale: value:"
    for part in parts(ROOT):
        for field in part.get("properties", {}):
            assert f"{field}:" in written, field


@st.composite
def _spoiled(draw: st.DrawFn) -> Any:
    """An example with one to four places changed, removed or moved."""
    document = yaml.safe_load(draw(st.sampled_from((EVERYTHING, TABLES))))
    for _ in range(draw(st.integers(1, 4))):
        places = _places(document)
        container, key = places[draw(st.integers(0, len(places) - 1))]
        other, there = places[draw(st.integers(0, len(places) - 1))]
        if draw(st.booleans()):
            container[key] = deepcopy(draw(st.sampled_from(_ODD)))
        elif draw(st.booleans()):
            container[key] = deepcopy(other[there])
        else:
            del container[key]
        if not document:
            break
    return document


@_SOME
@given(_spoiled())
def test_a_spoiled_scenario_is_read_or_refused_in_words(document: Any) -> None:
    """And the schema is never stricter than the reader."""
    told = _told(document)
    for fault in told:
        assert "found " in fault
        assert "; wanted " in fault
        assert fault.isprintable()
    if not told:
        assert matches(document, ROOT, ROOT)


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"nodes": []}, "nodes: found a list of 0; wanted at least one entry"),
        ({"nodes": [{"count": 0}]}, "nodes[0].count: found 0; wanted a whole number, 1 to 100000"),
        ({"nodes": [{"name": "a"}, {"name": "a"}]}, 'nodes[1].name: found "a" twice; wanted each name once'),
        ({"nodes": [{"count": 60_000}, {"count": 60_000}]}, "nodes: found too many nodes; wanted at most 100,000"),
        ({"nodes": {"columns": {}}}, "nodes.csv: found nothing; wanted the field csv"),
        ({"nodes": {"csv": "a", "columns": {"gpus": "x"}}}, 'nodes.columns.gpus: found "gpus"; wanted one of name, pool, cpu, cpu_milli'),
        ({"queues": [{"name": "a"}, {"name": "a"}]}, 'queues[1].name: found "a" twice, first at [0]; wanted each name once'),
        ({"queues": {"csv": "a", "scale": -1}}, "queues.scale: found -1; wanted a number"),
        ({"arrivals": {}}, "arrivals: found neither csv nor trace; wanted one of the two"),
        ({"arrivals": {"csv": "a", "trace": "b"}}, "arrivals: found both csv and trace; wanted one of the two"),
        ({"arrivals": {"trace": "a", "format": "slurm", "columns": {"gpu": "x"}}}, "arrivals.columns: found columns beside format slurm; wanted columns with csv alone"),
        ({"arrivals": {"csv": "a", "between": ["2026-01-01"]}}, "arrivals.between: found a list of 1; wanted a first moment, and a later one"),
        ({"arrivals": {"csv": "a", "between": ["2026-13-01", 1]}}, 'arrivals.between[0]: found "2026-13-01"; wanted a day like 2017-10-01'),
        ({"arrivals": {"csv": "a", "gang": {"devices_per_task": -1}}}, "arrivals.gang.devices_per_task: found -1; wanted a whole number, 0 to 256"),
        ({"failures": {"node_mtbf": "30d"}}, "failures.node_mttr: found nothing; wanted the field node_mttr"),
        ({"failures": {"node_mtbf": 0, "node_mttr": 1}}, "failures.node_mtbf: found 0; wanted a duration of 100 years at most, not negative, not 0"),
        ({"policies": []}, "policies: found a list of 0; wanted at least one entry"),
        ({"policies": ["gpumax", "gpumax"]}, 'policies[1]: found "gpumax" twice; wanted each once'),
        ({"protocol": "inflate", "arrived": 1e6}, "arrived: found 1000000.0; wanted a number, 0.001 to 10"),
        ({"protocol": "inflate", "arrived": 0}, "arrived: found 0; wanted a number, 0.001 to 10"),
        ({"seeds": [-1]}, "seeds[0]: found -1; wanted a whole number, 0 to 4294967295"),
        ({"fractions": {"0.000": 1}}, 'fractions["0.000"]: found "0.000"; wanted more than nothing'),
        ({"fractions": {}}, "fractions: found an empty object; wanted at least one size"),
        ({"protocol": "inflate", "window": "1d"}, "window: found window for inflate; wanted nothing: inflate knows no tenants and no time"),
    ],
)  # fmt: skip
def test_what_is_impossible_is_refused_in_words(part: dict[str, Any], told: str) -> None:
    """Before anything runs."""
    document = {"nodes": [{"devices": {"count": 1}}], "arrivals": {"csv": "jobs.csv"}, **part}
    (fault,) = _told(document)
    assert fault.startswith(told)


@pytest.mark.parametrize("protocol", POLICIES)
def test_every_policy_of_a_protocol_may_be_named(protocol: str) -> None:
    """And none of the other's."""
    others = {name for names in POLICIES.values() for name in names} - set(POLICIES[protocol])
    document = {"nodes": [{}], "arrivals": {"csv": "a"}, "protocol": protocol}
    assert _told({**document, "policies": list(POLICIES[protocol])}) == []
    for name in others:
        assert len(_told({**document, "policies": [name]})) == 1
