"""Our own objects, edited to nonsense: what the schema lets through, and what was stored before there was one. Everybody else is served."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from controlplane.leftovers import CRDS
from controlplane.plane import ControlPlane
from controlplane.processes import eventually
from controlplane.stage import QUEUES, Document, Stage
from gpumax.apps.scheduler.install import kinds

MERGE = {"content-type": "application/merge-patch+json"}
GANGS = "/apis/gpumax.dev/v1alpha1/namespaces/default/gangs"
TOPOLOGIES = "/apis/gpumax.dev/v1alpha1/topologies"
PLACES = ((QUEUES, "Queue"), (TOPOLOGIES, "Topology"), (GANGS, "Gang"))
LOOSE = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}


def ours(kind: str, name: str, spec: object) -> Document:
    """An object of ours, whatever is in it."""
    return {"apiVersion": "gpumax.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def gangs_of(stage: Stage) -> str:
    """Where its gangs are."""
    return f"/apis/gpumax.dev/v1alpha1/namespaces/{stage.name}/gangs"


OF_A_QUEUE = "; whoever keeps the queue has to correct it, nothing is wrong with the pod"


def served(stage: Stage, wrong: dict[str, str]) -> None:
    """A pod of a sound queue is bound, and each of the others is told what is wrong and has no node."""
    stage.pod("good", f"{stage.name}-a")
    eventually(lambda: stage.where("good") == ["n1"], "the sound one is bound")
    eventually(lambda: all(stage.told(name) for name in wrong), "all others are told")
    told = {name: stage.told(name).get("message") for name in wrong}
    assert told == {
        name: words.format(s=stage.name) + (OF_A_QUEUE if words.startswith("queue ") else "")
        for name, words in wrong.items()
    }
    reasons = {name: stage.told(name)["reason"] for name in wrong}
    assert reasons == {
        name: "QueueInvalid" if words.startswith("queue ") else "Invalid" for name, words in wrong.items()
    }
    assert {stage.pods()[name]["spec"].get("nodeName") for name in wrong} == {None}
    assert stage.steering.trouble == ""


def test_nonsense_that_the_schema_lets_through(stage: Stage) -> None:
    """Queues above each other in a circle or below nobody, amounts beyond all clusters, groups in a circle, levels that no topology has."""
    made = {
        "orphan": {"parent": f"{stage.name}-nobody"},
        "x": {"parent": f"{stage.name}-y"},
        "y": {"parent": f"{stage.name}-x"},
        "huge": {"quota": {"gpu": "9" * 30}},
        "long": {"preemptMinRuntime": "9" * 25 + "w"},
    }
    for name, spec in made.items():
        stage.post(QUEUES, ours("Queue", f"{stage.name}-{name}", spec))
    circle = [{"name": "a", "parent": "b", "min": 1}, {"name": "b", "parent": "a", "min": 1}]
    gangs: dict[str, dict[str, Any]] = {
        "circle": {"groups": circle},
        "lost": {"groups": [{"name": "a", "parent": "z", "min": 1}]},
        "nowhere": {"min": 1, "topology": {"name": "nobody", "required": "rack"}},
    }
    for name, spec in gangs.items():
        stage.post(gangs_of(stage), ours("Gang", name, spec))
    stage.post(TOPOLOGIES, ours("Topology", f"{stage.name}-t", {"levels": ["no.such/label", "other"]}))
    stage.node("n1", 8)
    queue = stage.queue("a", 8)
    stage.steer()
    for name in ("orphan", "x", "huge", "long"):
        stage.pod(name, f"{stage.name}-{name}")
    for name in gangs:
        group = {} if name == "nowhere" else {"gpumax.dev/group": "a"}
        stage.pod(name, queue, labels={"gpumax.dev/gang": name, **group})
    served(stage, {
        "orphan": "queue {s}-orphan can't be used: spec.parent: found \"{s}-nobody\"; wanted a queue that exists",
        "x": "queue {s}-x can't be used: spec.parent: found a cycle: {s}-x > {s}-y > {s}-x; wanted a tree",
        "huge": f"queue {{s}}-huge can't be used: spec.quota.gpu: found \"{'9' * 30}\"; wanted at most 1125899906842.624",
        "long": f"queue {{s}}-long can't be used: spec.preemptMinRuntime: found \"{'9' * 25}w\"; wanted a duration of 100 years at most, "
        "not negative",
        "circle": "metadata.labels[gpumax.dev/group]: found \"a\"; wanted no group; the gang has none; spec.groups: found a cycle through "
        "\"a\"; wanted a tree; spec.groups: found a cycle through \"b\"; wanted a tree",
        "lost": "spec.groups: found \"z\", the parent of \"a\"; wanted a group of this gang",
        "nowhere": "spec.topology: found \"nobody\"; wanted a topology of the snapshot",
    })  # fmt: skip


@contextmanager
def without_schema(plane: ControlPlane) -> Iterator[None]:
    """As if our kinds had once been installed by somebody who took anything."""

    def describe(schema: Document | None) -> None:
        for crd in kinds():
            versions = json.loads(json.dumps(crd["spec"]["versions"]))
            for version in versions:
                version["schema"] = schema or version["schema"]
            answer = plane.api.patch(
                f"{CRDS}/{crd['metadata']['name']}", json={"spec": {"versions": versions}}, headers=MERGE
            )
            answer.raise_for_status()

    describe(LOOSE)
    try:
        yield
    finally:
        describe(None)
        eventually(lambda: not any(_takes(plane, *each) for each in PLACES), "the schemas hold again")


def _takes(plane: ControlPlane, path: str, kind: str) -> bool:
    """Whether the API server would take nonsense there."""
    probe = ours(kind, "probe", "nonsense")
    return plane.api.post(path, json=probe, params={"dryRun": "All"}).status_code != 422


def insist(stage: Stage, path: str, body: Document) -> None:
    """Make it; a schema that was just changed takes a moment to be so."""
    eventually(lambda: stage.api.post(path, json=body).status_code in (201, 409), f"{body} is there")
    stage.made(f"{path}/{body['metadata']['name']}")


def test_nonsense_that_was_stored_before_there_was_a_schema(stage: Stage, plane: ControlPlane) -> None:
    """No part of it is what it should be."""
    queues = {"lots": "lots", "list": [1, 2], "negative": {"quota": {"gpu": -5, "cpu": {"a": 1}}}}
    gangs = {
        "text": "many",
        "words": {"groups": "all", "min": "two"},
        "part": {"min": 1.5},
        "huge": {"min": 10**30},
    }
    with without_schema(plane):
        for name, queue in queues.items():
            insist(stage, QUEUES, ours("Queue", f"{stage.name}-{name}", queue))
        for name, gang in gangs.items():
            insist(stage, gangs_of(stage), ours("Gang", name, gang))
        for name, topology in {"t": {"levels": {"a": 1}}, "u": 7}.items():
            insist(stage, TOPOLOGIES, ours("Topology", f"{stage.name}-{name}", topology))
    stage.node("n1", 8)
    sound = stage.queue("a", 8)
    stage.steer()
    for name in queues:
        stage.pod(name, f"{stage.name}-{name}")
    for name in gangs:
        stage.pod(f"g-{name}", sound, labels={"gpumax.dev/gang": name})
    number = "wanted a whole number, 1 to 10,000"
    served(stage, {
        "lots": "queue {s}-lots can't be used: spec: found \"lots\"; wanted an object",
        "list": "queue {s}-list can't be used: spec: found a list of 2; wanted an object",
        "negative": "queue {s}-negative can't be used: spec.quota.cpu: found an empty object; wanted an amount like 4, 0.5 or 500m, or unlimited; "
        "spec.quota.gpu: found -5; wanted 0 or more",
        "g-text": "spec: found \"many\"; wanted an object",
        "g-words": f"spec.min: found \"two\"; {number}",
        "g-part": f"spec.min: found 1.5; {number}",
        "g-huge": f"spec.min: found 1e+30; {number}",
    })  # fmt: skip
