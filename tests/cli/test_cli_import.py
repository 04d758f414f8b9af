"""import kai-queues."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cli.conftest import Cli
from gpumax.engines.kubernetes.queues import read_queue
from gpumax.formats.text import parse_text
from gpumax.formats.workload import load_workloads
from gpumax.model.amounts import Amounts
from gpumax.units import UNLIMITED

THEIRS = """
apiVersion: v1
kind: List
items:
- apiVersion: scheduling.run.ai/v2
  kind: Queue
  metadata: {name: a-team, uid: x}
  spec: {parentQueue: zoo, preemptMinRuntime: 10m, resources: {gpu: {quota: 4, limit: 8, overQuotaWeight: 2.5}}}
- apiVersion: scheduling.run.ai/v2
  kind: Queue
  metadata: {name: zoo}
  spec: {priority: 7, resources: {gpu: {quota: 8.5, limit: -1}, cpu: {quota: 2500}, memory: {quota: -1}}}
- {apiVersion: v1, kind: Pod, metadata: {name: x}}
"""


@pytest.fixture
def theirs(tmp_path: Path) -> str:
    """What `kubectl get queues -o yaml` gives."""
    path = tmp_path / "kai.yaml"
    path.write_text(THEIRS)
    return str(path)


def test_queues_of_kai_become_a_file_to_apply(cli: Cli, theirs: str) -> None:
    """With parents first; what is no queue is passed over, and told."""
    result = cli("import", "kai-queues", theirs)
    assert result.code == 0
    assert result.err == "passed over 1 object that is no Queue of scheduling.run.ai\n"
    read, _ = load_workloads(parse_text(result.out.encode()), base="/", queues=(), default_project="")
    zoo, team = read
    assert (zoo.name, zoo.priority, zoo.quota) == ("zoo", 7, Amounts(8500, 2500, UNLIMITED))
    assert (team.name, team.parent, team.quota.gpu, team.limit.gpu) == ("a-team", "zoo", 4000, 8000)
    assert team.weight == Amounts(2500, 1000, 1000)
    assert team.preempt_min_runtime_ms == 600_000


def test_queues_of_kai_become_objects_that_mean_the_same(cli: Cli, theirs: str) -> None:
    """For a cluster: read there, they are the queues that theirs were."""
    result = cli("import", "kai-queues", theirs, "--to", "kubernetes")
    items = yaml.safe_load(result.out)["items"]
    originals = {row["metadata"]["name"]: row for row in yaml.safe_load(THEIRS)["items"][:2]}
    assert [item["metadata"]["name"] for item in items] == ["zoo", "a-team"]
    for item in items:
        assert item["apiVersion"] == "gpumax.dev/v1alpha1"
        ours, their = read_queue(item), read_queue(originals[item["metadata"]["name"]])
        assert ours.faults == their.faults == ()
        assert ours.queue == their.queue


def test_every_fault_of_a_file_is_told(cli: Cli, tmp_path: Path) -> None:
    """With its line and place; nothing is printed."""
    path = tmp_path / "bad.yaml"
    path.write_text(
        "apiVersion: scheduling.run.ai/v2\nkind: Queue\nmetadata: {name: 'A b'}\n"
        "spec:\n  resources:\n    gpu: {quota: many, limt: 3}\n    tpu: 1\n"
    )
    result = cli("import", "kai-queues", str(path))
    assert (result.code, result.out) == (2, "")
    for part in (
        "line 3: metadata.name",
        "line 6: spec.resources.gpu.quota",
        "did you mean limit?",
        "spec.resources.tpu",
    ):
        assert part in result.err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{apiVersion: scheduling.run.ai/v2, kind: Queue, metadata: {name: a}, spec: {parentQueue: b}}", "a queue that exists"),
        ("{kind: List, items: [{apiVersion: scheduling.run.ai/v2, kind: Queue, metadata: {name: a}}, "
         "{apiVersion: scheduling.run.ai/v2, kind: Queue, metadata: {name: a}}]}", "each queue once"),
        ("{apiVersion: scheduling.run.ai/v2, kind: Queue, metadata: {name: a}, spec: 7}", "an object"),
        ("{apiVersion: scheduling.run.ai/v2, kind: Queue, metadata: {name: a}, spec: {parentQueue: a}}", "a tree"),
    ],
)  # fmt: skip
def test_queues_that_are_no_tree_are_refused(cli: Cli, tmp_path: Path, text: str, told: str) -> None:
    """A missing parent, a name twice, a queue above itself."""
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    result = cli("import", "kai-queues", str(path))
    assert (result.code, result.out) == (2, "")
    assert told in result.err


def test_a_file_without_queues_says_so(cli: Cli, tmp_path: Path) -> None:
    """Nothing to print."""
    path = tmp_path / "none.yaml"
    path.write_text("{apiVersion: v1, kind: Pod, metadata: {name: x}}")
    result = cli("import", "kai-queues", str(path))
    assert (result.code, result.out) == (0, "")
    assert result.err.endswith("no queues\n")
