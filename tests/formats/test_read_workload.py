"""Workload files: what a person writes, with the queues beside it."""

from __future__ import annotations

import pytest

from formats.kit import QUEUES, fault_of, faults_of, one, submit
from gpumax.errors import BadFile
from gpumax.formats.text import parse_text
from gpumax.formats.workload import load_workloads
from gpumax.model.amounts import Amounts
from gpumax.model.queue import Queue
from gpumax.model.spec import Checkpoint, GroupSpec, WorkloadSpec
from gpumax.model.workload import (
    Affinity,
    Company,
    DeviceAsk,
    Expression,
    Preemptible,
    Request,
    TaskTerm,
)

GIB = 1024

EVERYTHING = """
    version: gpumax/v1
    name: llama-ft
    kind: training
    project: team-a
    priority: normal
    preemptible: true
    tasks: 4
    resources: {gpu: H100:2, cpu: 8, memory: 64Gi, shm: 8Gi}
    workdir: .
    image: python:3.12
    env: {EPOCHS: "10"}
    secrets: [HF_TOKEN]
    setup: pip install -r requirements.txt
    run: python train.py
    max_duration: 12h
    grace: 30s
    retries: {max: 3}
    checkpoint: {path: ckpt, every: 15m}
    groups:
      - {name: leader, tasks: 1, resources: {cpu: 4}}
      - {name: worker, tasks: {min: 2, max: 8}, run: [python, worker.py], env: {ROLE: worker}}
"""


def _queues(text: str, queues: tuple[Queue, ...] = QUEUES) -> tuple[Queue, ...]:
    return load_workloads(parse_text(text.encode()), base="/", queues=queues, default_project="default")[0]


def test_the_example_of_the_format_means_what_it_says() -> None:
    """Every field is read, with its unit; groups take from the workload what they leave unset, env adds up."""
    assert one(EVERYTHING) == WorkloadSpec(
        "llama-ft",
        "team-a",
        (
            GroupSpec("leader", 1, 1, Request(cpu_milli=4000), "python train.py"),
            GroupSpec(
                "worker", 2, 8, Request((DeviceAsk(2, model="H100"),), 8000, 64 * GIB), ("python", "worker.py"),
                {"ROLE": "worker"}, 8 * GIB,
            ),
        ),
        "training", 50, True, "/home/me", "python:3.12", {"EPOCHS": "10"}, ("HF_TOKEN",), "pip install -r requirements.txt",
        12 * 3_600_000, 30_000, 3, Checkpoint("ckpt", 900_000),
    )  # fmt: skip


def test_what_is_unset_has_the_defaults_of_the_format() -> None:
    """One task that asks for nothing, in the caller's project, where it was submitted, named after the file."""
    assert one("run: python train.py") == WorkloadSpec(
        "my-file", "default", (GroupSpec("", 1, 1, Request(), "python train.py"),),
        "training", 50, True, "/home/me", "", {}, (), "", None, 30_000, 0, None,
    )  # fmt: skip


def test_null_is_the_same_as_unset() -> None:
    """For every field but run."""
    fields = "name priority preemptible tasks resources workdir image env secrets setup max_duration grace retries checkpoint topology groups kind project version"
    assert one("{run: x, " + ", ".join(f"{field}: null" for field in fields.split()) + "}") == one("run: x")
    assert fault_of(submit, "run: null").path == "run"


def test_what_could_be_read_is_checked_beside_what_could_not() -> None:
    """All faults come at once, also those that several fields make together; what is unreadable isn't called missing."""
    text = """
        nmae: a
        tasks: -1
        resources: {gpu: 0.3, gpu_memory: 20Gi, cpu: x}
        env: {TOKEN: a}
        secrets: [TOKEN]
        priority: highest
    """
    assert {fault.path for fault in faults_of(submit, text)} == {
        "nmae", "tasks", "resources.gpu_memory", "resources.cpu", "secrets[0]", "priority", "run",
    }  # fmt: skip
    paths = [fault.path for fault in faults_of(submit, "{x: 1, run: [], resources: {gpu: -1, devices: 2}}")]
    assert sorted(paths) == ["resources.gpu", "run", "x"]
    assert [fault.path for fault in faults_of(submit, "groups: [{name: -}, {name: b}]")] == ["groups[0].name"]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("my_file.yaml", "my-file"), ("/a/b/Train LLM v2.yml", "train-llm-v2"), ("", "workload"), ("-", "workload"),
        ("é.yaml", "workload"), ("a" * 100, "a" * 57), ("x.tar.gz", "x-tar"),
    ],
)  # fmt: skip
def test_a_name_is_made_from_the_file_s(source: str, name: str) -> None:
    """It is a DNS name and a path."""
    assert one("run: x", source=source).name == name


def test_made_names_avoid_each_other_and_those_that_are_written() -> None:
    """With a number behind."""
    specs = submit("run: x\n---\nname: my-file\nrun: y\n---\nrun: z\n")
    assert [spec.name for spec in specs] == ["my-file-2", "my-file", "my-file-3"]


@pytest.mark.parametrize(
    ("fields", "priority", "preemptible"),
    [
        ("priority: 99", 99, True), ("priority: 100", 100, False), ("priority: build", 100, False),
        ("priority: inference, preemptible: true", 125, True), ("priority: low, preemptible: false", 25, False),
        ("priority: build, preemptible: semi", 100, "semi"), ("priority: low, preemptible: semi", 25, "semi"),
        ("priority: train", 50, True), ("priority: normal", 50, True), ("priority: interactive", 75, True),
    ],
)  # fmt: skip
def test_preemptible_follows_from_the_priority_unless_it_is_written(
    fields: str, priority: int, preemptible: Preemptible
) -> None:
    """A class name or a number; from 100 on work is non-preemptible."""
    spec = one(f"{{run: x, {fields}}}")
    assert (spec.priority, spec.preemptible) == (priority, preemptible)


def test_tasks_are_a_number_or_a_range() -> None:
    """A range is elastic; in groups, those that write nothing take the workload's."""
    assert [(group.min, group.max) for group in one("{run: x, tasks: {min: 2, max: 8}}").groups] == [(2, 8)]
    groups = one("{run: x, tasks: 4, groups: [{name: a}, {name: b, tasks: 2}]}").groups
    assert [(group.min, group.max) for group in groups] == [(4, 4), (2, 2)]


def test_values_of_variables_are_text_as_it_was_written() -> None:
    """Numbers stand for their digits; booleans and null need quotes, for nobody knows which word was meant."""
    spec = one("{run: x, env: {A: 007, B: 1.10, C: 1e3, D: 0x10, E: 2026-01-01, F: no, G: '', H: 3}}")
    assert spec.env == {
        "A": "007", "B": "1.10", "C": "1e3", "D": "0x10", "E": "2026-01-01", "F": "no", "G": "", "H": "3",
    }  # fmt: skip
    faults = faults_of(submit, "{run: x, env: {A: true, B: null, C: [1], 1A: x, 'B C': x}}")
    assert [fault.path for fault in faults] == ["env.A", "env.B", "env.C", 'env["1A"]', 'env["B C"]']


def test_variables_that_every_task_gets_can_not_be_set() -> None:
    """What a person writes there would be lost."""
    for name in ("RANK", "WORLD_SIZE", "CUDA_VISIBLE_DEVICES", "GPUMAX_RUN"):
        assert fault_of(submit, f"{{run: x, env: {{{name}: x}}}}").path == f"env.{name}"
    assert one("{run: x, env: {MASTER_PORT: 1234, GPUMAX_SERVER: http://s}}").env["MASTER_PORT"] == "1234"


def test_affinity_is_passed_down_and_labels_add_up() -> None:
    """A group's own affinity takes the place of the workload's; its labels stand beside the workload's."""
    near, apart = (
        f"{{requiredDuringSchedulingIgnoredDuringExecution: [{{topologyKey: zone, labelSelector: {{matchLabels: {{app: {app}}}}}}}]}}"
        for app in ("db", "web")
    )
    spec = one(
        f"""
        run: x
        labels: {{app: web}}
        affinity: {{podAffinity: {near}}}
        groups:
          - {{name: a}}
          - {{name: b, labels: {{role: b}}, affinity: {{podAntiAffinity: {apart}}}}}
        """
    )
    terms = [TaskTerm("zone", (Expression("app", "In", (app,)),)) for app in ("db", "web")]
    assert spec.labels == {"app": "web"}
    assert [(group.labels, group.affinity) for group in spec.groups] == [
        ({}, Affinity(near=Company((terms[0],)))),
        ({"role": "b"}, Affinity(apart=Company((terms[1],)))),
    ]


def test_secrets_stand_by_name_only() -> None:
    """A map of values is refused, and so is a name that is a variable, too."""
    assert fault_of(submit, "{run: x, secrets: {HF_TOKEN: abc}}").path == "secrets"
    assert fault_of(submit, "{run: x, secrets: [A=b]}").path == "secrets[0]"
    assert fault_of(submit, "{run: x, secrets: [A, A]}").path == "secrets"
    assert fault_of(submit, "{run: x, secrets: [A, B], env: {B: x}}").path == "secrets[1]"
    assert "abc" not in str(fault_of(submit, "{run: x, secrets: {HF_TOKEN: abc}}"))


@pytest.mark.parametrize(
    ("written", "workdir"),
    [(".", "/home/me"), ("../you", "/home/you"), ("/abs//x/..", "/abs"), ("a/b", "/home/me/a/b")],
)
def test_workdir_is_relative_to_where_it_was_submitted(written: str, workdir: str) -> None:
    """What is stored is absolute."""
    assert one(f"{{run: x, workdir: {written}}}").workdir == workdir


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ("run: ''", "run"), ("run: '  '", "run"), ("run: []", "run"), ("run: ['']", "run"), ("run: {a: b}", "run"),
        ("run: true", "run"), ("run: x, tasks: 0", "tasks"), ("run: x, tasks: {min: 3, max: 2}", "tasks"),
        ("run: x, tasks: {min: 3}", "tasks.max"), ("run: x, tasks: {min: 0, max: 2}", "tasks.min"),
        ("run: x, tasks: 10001", "tasks"), ("run: x, tasks: true", "tasks"), ("run: x, grace: -1s", "grace"),
        ("run: x, max_duration: 0", "max_duration"), ("run: x, max_duration: 5 minutes", "max_duration"),
        ("run: x, priority: hihg", "priority"), ("run: x, retries: 3", "retries"), ("run: x, retries: {}", "retries.max"),
        ("run: x, retries: {max: -1}", "retries.max"), ("run: x, checkpoint: true", "checkpoint"),
        ("run: x, checkpoint: {path: ../x}", "checkpoint.path"), ("run: x, checkpoint: {every: 0}", "checkpoint.every"),
        ("run: x, image: a b", "image"), ("run: x, workdir: ~/x", "workdir"), ("run: x, name: Bad_Name", "name"),
        ("run: x, name: -a", "name"), (f"run: x, name: {'a' * 64}", "name"), ("run: x, name: 5", "name"),
        ("run: x, project: nobody", "project"), ("run: x, project: team", "project"), ("run: x, project: 5", "project"),
        ("run: x, kind: trainig", "kind"), ("run: x, version: gpumax/v2", "version"), ("run: x, groups: []", "groups"),
        ("run: x, groups: [{name: a}, {name: a}]", "groups[1].name"), ("run: x, groups: [{tasks: 2}]", "groups[0].name"),
        ("run: x, groups: [{name: a, image: b}]", "groups[0].image"), ("groups: [{name: a}]", "groups[0].run"),
        ("run: x, tasks: 6000, groups: [{name: a}, {name: b}]", "groups"), ("run: x, resource: {gpu: 1}", "resource"),
        ('run: "a\\0b"', "run"), (f"run: {'x' * 140_000}", "run"), ("run: x, setup: true", "setup"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_a_fault(fields: str, path: str) -> None:
    """At its field."""
    assert path in [fault.path for fault in faults_of(submit, "{" + fields + "}")]


def test_faults_of_several_documents_are_told_together() -> None:
    """With the line of each; a list of workloads is as good as documents."""
    faults = faults_of(submit, "run: x\ntasks: 0\n---\nkind: queue\nname: q\nparent: z\n---\nname: w\n")
    assert [(fault.line, fault.path) for fault in faults] == [(2, "tasks"), (6, "parent"), (8, "run")]
    assert fault_of(submit, "- {run: x}\n- {run: y, tasks: 0}\n").path == "[1].tasks"


def test_a_name_stands_once_in_a_file() -> None:
    """Names of workloads among each other, names of queues among each other."""
    assert fault_of(submit, "name: a\nrun: x\n---\nname: a\nrun: y\n").line == 4
    assert (
        fault_of(submit, "{kind: queue, name: a}\n---\n{kind: queue, name: a}\n", source="f.yaml").line == 3
    )


def test_a_file_without_workloads_and_queues_is_a_fault() -> None:
    """An empty list is a slip."""
    assert fault_of(submit, "[]").found == "no workload and no queue"


def test_queues_may_stand_beside_the_workloads_that_use_them() -> None:
    """With the fields of a snapshot's queue."""
    text = "{kind: queue, name: new, quota: {gpu: 4}, weight: 2}\n---\n{run: x, project: new}\n"
    assert one(text).project == "new"
    assert _queues(text) == (Queue("new", quota=Amounts(gpu=4000), weight=Amounts(2000, 2000, 2000)),)


def test_the_tree_is_checked_with_the_queues_that_exist() -> None:
    """A changed queue replaces the old one; a project that becomes a parent is no leaf any more."""
    with pytest.raises(BadFile, match="a cycle: team > team-a > team"):
        _queues("{kind: queue, name: team, parent: team-a}")
    assert _queues("{kind: queue, name: new, parent: team}") == (Queue("new", parent="team"),)
    text = "{kind: queue, name: new, parent: default}\n---\nrun: x\n"
    assert "which has queues below it" in fault_of(submit, text, source="f.yaml").found


def test_a_queue_s_name_is_part_of_an_address() -> None:
    """No slash in it."""
    assert fault_of(_queues, "{kind: queue, name: a/b}").path == "name"


def test_an_object_of_kubernetes_is_told_as_one() -> None:
    """And not field by field; what else is wrong with the file is told all the same."""
    text = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: x}\nspec: {}\n---\nname: a\nrun: x\nproject: nobody\n"
    faults = faults_of(submit, text)
    assert [(fault.path, fault.line) for fault in faults] == [("apiVersion", 1), ("project", 8)]
    assert faults[0].found == 'an object of Kubernetes ("Job")'
    assert "kubectl apply -f" in faults[0].wanted
