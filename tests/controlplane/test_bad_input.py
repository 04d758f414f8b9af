"""What users write wrongly is told on the pod, as a condition and an event, with what would be right; everybody else is served."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from controlplane.plane import ControlPlane
from controlplane.processes import eventually
from controlplane.stage import Stage

LONG = "x" * 200_000
GANG = {"gpumax.dev/gang": "g"}
TWO = {"gpumax.dev/min": "2"}
PART = "wanted a part of one device between 0 and 1, like 0.5"
QUEUE = "gpumax.dev/queue"


class Wrong(NamedTuple):
    """What a user writes, and what the pod is told. {space} stands for the namespace."""

    told: str
    annotations: dict[str, str] = {}  # noqa: RUF012  never changed
    labels: dict[str, str] = {}  # noqa: RUF012
    gpus: int = 0
    reason: str = "Invalid"


def _fraction(written: str, shown: str = "") -> Wrong:
    return Wrong(
        f'metadata.annotations[gpu-fraction]: found "{shown or written}"; {PART}', {"gpu-fraction": written}
    )


WRONG = {
    "above-one": _fraction("1.5"),
    "nothing": _fraction("0"),
    "no-number": _fraction("abc"),
    "comma": _fraction("0,5"),
    "wide-digits": _fraction("０.５"),
    "long": _fraction(LONG, "x" * 57 + "..."),
    "no-memory": Wrong(
        'metadata.annotations[gpu-memory]: found "much"; wanted MiB of a device as a whole number like 20480, or with a unit like 20Gi',
        {"gpu-memory": "much"},
    ),
    "both": Wrong(
        "metadata.annotations[gpu-fraction]: found gpu-memory beside it; wanted only one of the two",
        {"gpu-fraction": "0.5", "gpu-memory": "1024"},
    ),
    "beside-whole": Wrong(
        "metadata.annotations[gpu-fraction]: found whole devices or slices in the containers' resources beside it; wanted one of the two",
        {"gpu-fraction": "0.5"},
        gpus=1,
    ),
    "in-init": Wrong(
        'metadata.annotations[gpu-fraction-container-name]: found "prepare", an init container; wanted a container that stays',
        {"gpu-fraction": "0.5", "gpu-fraction-container-name": "prepare"},
    ),
    "no-such-container": Wrong(
        'metadata.annotations[gpu-fraction-container-name]: found "other"; wanted a container of the pod: main',
        {"gpu-fraction": "0.5", "gpu-fraction-container-name": "other"},
    ),
    "queue-in-letters": Wrong(
        'metadata["gpumax.dev/queue"]: found "größe"; wanted a name: a letter or digit first, then letters, digits, `.`, `_`, `-`, `/`',
        {QUEUE: "größe"},
        {QUEUE: ""},
    ),
    "no-such-queue": Wrong(
        "queue nobody does not exist; wanted one that does, by the label gpumax.dev/queue",
        labels={QUEUE: "nobody"},
        reason="QueueNotFound",
    ),
    "no-minimum": Wrong(
        "metadata.annotations: found a gang without a minimum; wanted the annotation gpumax.dev/min with the number of tasks that start "
        "together, or a Gang of that name",
        labels={"gpumax.dev/gang": "lonely"},
    ),
    "minimum": Wrong(
        'metadata.annotations[gpumax.dev/min]: found "-1"; wanted a whole number, 1 to 10,000',
        {"gpumax.dev/min": "-1"},
        {"gpumax.dev/gang": "minus"},
    ),
    "other-queue": Wrong(
        'metadata.labels.gpumax.dev/queue: found "other"; wanted {space}-a, as {space}/first of the same gang has it',
        TWO,
        {**GANG, QUEUE: "other"},
    ),
    "other-priority": Wrong(
        'metadata["gpumax.dev/priority"]: found "build", which is 100; wanted 50, as {space}/first of the same gang has it',
        TWO,
        {**GANG, "gpumax.dev/priority": "build"},
    ),
    "no-priority": Wrong(
        'metadata["gpumax.dev/priority"]: found "huge"; wanted a priority class: build, inference, interactive, low, normal, '
        "system-cluster-critical, system-node-critical, train",
        labels={"gpumax.dev/priority": "huge"},
    ),
    "no-duration": Wrong(
        'metadata["gpumax.dev/max-duration"]: found "soon"; wanted a duration like 90s, 10m, 2h30m or 7d',
        {"gpumax.dev/max-duration": "soon"},
    ),
}  # fmt: skip
SOUND = {
    "sound": {},
    "n" * 253: {},
    "notes": {"annotations": {"notes": LONG}},
    "letters": {"annotations": {"notes": "größer 🚀"}},
    "long-queue": {"labels": {QUEUE: ""}, "annotations": {QUEUE: "q" * 253}},
    "long-gang": {"labels": {"gpumax.dev/gang": "g" * 63}, "annotations": {"gpumax.dev/min": "1"}},
}  # fmt: skip


class Told(NamedTuple):
    """What each pod was told in the end: in its condition, and in its event."""

    space: str
    reasons: dict[str, str]
    messages: dict[str, str]
    notes: dict[str, str]
    nodes: dict[str, str]


def _post(stage: Stage, name: str, gpus: int, labels: dict[str, str], annotations: dict[str, str]) -> None:
    body = stage.template(f"{stage.name}-a", gpus, name=name, labels=labels, annotations=annotations)
    if not body["metadata"]["labels"][QUEUE]:
        del body["metadata"]["labels"][QUEUE]
    if not gpus:
        del body["spec"]["containers"][0]["resources"]
    body["spec"]["initContainers"] = [{"name": "prepare", "image": "none"}]
    stage.post(stage.pods_path, {"apiVersion": "v1", "kind": "Pod", **body})


def _job(stage: Stage) -> None:
    """A gang whose minimum is above its size."""
    stage.gang("j", f"{stage.name}-a", 3, annotations={"gpumax.dev/min": "5"})


def _seen(stage: Stage) -> Told:
    pods = stage.pods()
    rows = stage.api.get(f"/apis/events.k8s.io/v1/namespaces/{stage.name}/events").json()["items"]
    ours = [row for row in rows if row.get("reportingController", "").startswith("gpumax.dev/")]
    told = {name: stage.told(name) for name in pods}
    return Told(
        stage.name,
        {name: row.get("reason", "") for name, row in told.items()},
        {name: row.get("message", "") for name, row in told.items()},
        {row["regarding"]["name"]: row["note"] for row in ours},
        {name: row["spec"].get("nodeName", "").removeprefix(f"{stage.name}-") for name, row in pods.items()},
    )


@pytest.fixture(scope="module")
def told(prepared: ControlPlane) -> Iterator[Told]:
    """All of it at once, and what came of it."""
    stage = Stage(prepared)
    try:
        stage.node("n1", 64)
        stage.queue("a", 64)
        stage.post("/apis/gpumax.dev/v1alpha1/queues", _long_queue())
        stage.steer()
        _post(stage, "first", 1, GANG, TWO)
        for name, wrong in WRONG.items():
            # The first of a gang is who came first, in whole seconds; then by name.
            _post(stage, name, wrong.gpus, wrong.labels, wrong.annotations)
        _job(stage)
        for name, more in SOUND.items():
            _post(stage, name, 1, more.get("labels", {}), more.get("annotations", {}))
        eventually(lambda: set(map(_seen(stage).nodes.get, SOUND)) == {"n1"}, "everybody else is bound")
        eventually(lambda: set(WRONG) <= set(_seen(stage).notes), "all who wrote something wrong are told")
        eventually(
            lambda: sum(name.startswith("j-") for name in _seen(stage).notes) == 3, "and so is all of the job"
        )
        yield _seen(stage)
    finally:
        stage.close()
    stage.judge()


def _long_queue() -> dict[str, Any]:
    quota = {"gpu": 8, "cpu": "unlimited", "memory": "unlimited"}
    return {
        "apiVersion": "gpumax.dev/v1alpha1", "kind": "Queue", "metadata": {"name": "q" * 253}, "spec": {"quota": quota},
    }  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_with_what_would_be_right(told: Told, name: str) -> None:
    """In the same words in the condition and in the event; and the pod has no node."""
    wrong = WRONG[name]
    assert told.messages[name] == wrong.told.format(space=told.space)
    assert told.notes[name] == told.messages[name]
    assert told.reasons[name] == wrong.reason
    assert told.nodes[name] == ""


def test_a_minimum_above_the_size_of_a_gang_is_told_to_all_of_it(told: Told) -> None:
    """Each of its pods, since it's of no use to any of them."""
    said = {message for name, message in told.messages.items() if name.startswith("j-")}
    where = f"{told.space}/job/j"
    assert said == {
        f"metadata.annotations[gpumax.dev/min]: found 5; wanted at most 3, the parallelism of {where}"
    }


@pytest.mark.parametrize("name", SOUND)
def test_everybody_else_is_served(told: Told, name: str) -> None:
    """With names and annotations as long as the API has them, in any letters."""
    assert told.nodes[name] == "n1"
