"""What `examples/kubernetes/` promises, on a real API server, with two GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from controlplane.kubelets import STAYS
from controlplane.processes import eventually
from controlplane.stage import QUEUES, Stage

EXAMPLES: Final = Path(__file__).resolve().parents[2] / "examples" / "kubernetes"
QUEUE: Final = "gpumax.dev/queue"


def test_halves_share_a_gpu_beside_a_gang(stage: Stage) -> None:
    """With one GPU, both halves run; the gang needs two, waits as a whole, and starts with the second node."""
    stage.node("n1", 1)
    stage.steer()
    for file in ("teams", "fraction", "gang"):
        apply(stage, file)
    eventually(lambda: stage.where("halves") == ["n1", "n1"], "both halves are bound")
    eventually(lambda: stage.where("gang") == ["", ""], "the gang is there")
    stage.node("n2", 2)
    eventually(lambda: stage.where("gang") == ["n2", "n2"], "the gang is bound")


def test_what_was_borrowed_is_given_back(stage: Stage) -> None:
    """Team vision holds both GPUs; as soon as team language asks for its one, it has it. The pod that made way is made again, and is no failure."""
    stage.node("n1", 2)
    stage.steer()
    apply(stage, "teams")
    apply(stage, "borrow")
    eventually(lambda: stage.where("borrow").count("n1") == 2, "vision has both GPUs")
    eventually(lambda: len(stage.where("borrow")) == 64, "all of its pods are made")
    before = stage.pods().keys()
    apply(stage, "reclaim")
    eventually(lambda: stage.where("mine") == ["n1"], "language has its own")
    eventually(lambda: "Reclaimed" in {reason for reason, _ in stage.events()}, "it is told why it goes")
    eventually(lambda: bool(stage.pods().keys() - before - {"mine"}), "there is another pod for it")
    job = stage.api.get(f"/apis/batch/v1/namespaces/{stage.name}/jobs/borrow").json()
    assert job["status"].get("failed", 0) == 0


def apply(stage: Stage, name: str) -> None:
    """The objects of a file, in this stage's corner of the cluster: its queues, its scheduler, its nodes."""
    for body in yaml.safe_load_all((EXAMPLES / f"{name}.yaml").read_text()):
        kind = body["kind"]
        if kind == "Queue":
            body["metadata"]["name"] = f"{stage.name}-{body['metadata']['name']}"
            stage.post(QUEUES, body)
            continue
        _move(stage, body if kind == "Pod" else body["spec"]["template"])
        where = {"Pod": "/api/v1", "Job": "/apis/batch/v1", "Deployment": "/apis/apps/v1"}[kind]
        stage.post(f"{where}/namespaces/{stage.name}/{kind.lower()}s", body)


def _move(stage: Stage, pod: dict[str, Any]) -> None:
    labels, spec = pod["metadata"]["labels"], pod["spec"]
    assert spec["schedulerName"] == "gpumax"
    labels[QUEUE] = f"{stage.name}-{labels[QUEUE]}"
    labels[STAYS] = "yes"
    spec.update(schedulerName=stage.name, nodeSelector={"stage": stage.name}, terminationGracePeriodSeconds=0)
