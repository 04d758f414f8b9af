"""The chart as it is installed on a control plane of the tests, and its programs, started as their pods would start them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from controlplane.helm import CHART, Document, Helm, only
from controlplane.leftovers import heed, serve
from controlplane.plane import ControlPlane
from controlplane.processes import HOST, Program, eventually, free_ports
from controlplane.stage import Stage, moment

SPACE = "gpumax-system"
HOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/gpumax"
ACCOUNT = f"system:serviceaccount:{SPACE}:gpumax"


@contextmanager
def installation(helm: Helm, plane: ControlPlane) -> Iterator[list[Document]]:
    """The objects of the chart, installed by the command that the README has; the API server goes by them."""
    helm.run("install", "gpumax", str(CHART), "-n", SPACE, "--create-namespace")
    serve(plane)
    heed(plane)
    yield manifest(helm)
    if helm.run("list", "-n", SPACE, "-q"):
        helm.run("uninstall", "gpumax", "-n", SPACE)


def manifest(helm: Helm) -> list[Document]:
    """What is installed now."""
    return [one for one in yaml.safe_load_all(helm.run("get", "manifest", "gpumax", "-n", SPACE)) if one]


class Installed(Stage):
    """A stage whose pods ask for the scheduler that was installed."""

    def template(self, queue: str, gpus: int, **meta: Any) -> Document:
        """See Stage."""
        body = super().template(queue, gpus, **meta)
        body["spec"]["schedulerName"] = "gpumax"
        return body


class Running(NamedTuple):
    """The scheduler, and where it answers."""

    program: Program
    url: str
    began: str


def command(objects: list[Document], kind: str, name: str) -> list[str]:
    """How the pods of an object are started."""
    (container,) = only(objects, kind, name)["spec"]["template"]["spec"]["containers"]
    return [sys.executable, "-m", "gpumax.apps.cli.main", *container["args"]]


@contextmanager
def scheduler_of(plane: ControlPlane, objects: list[Document], folder: Path) -> Iterator[Running]:
    """The scheduler as the chart's deployment would start it, started by hand: no kubelet is here. Its rights are the chart's."""
    (port,) = free_ports(1)
    program = Program(
        [word.replace(":8080", f":{port}") for word in command(objects, "Deployment", "gpumax")],
        folder / "scheduler.log",
        env={
            "KUBECONFIG": str(plane.kubeconfig_of_account(SPACE, "gpumax")),
            "GPUMAX_DATA": str(folder / "data"),
        },
    )
    began = moment()
    program.start()
    try:
        eventually(lambda: "steering, epoch" in program.said(), "it steers", program)
        yield Running(program, f"http://{HOST}:{port}", began)
    finally:
        program.stop()
    assert "Traceback" not in program.said()


@contextmanager
def webhook_of(plane: ControlPlane, objects: list[Document], folder: Path) -> Iterator[tuple[Program, int]]:
    """The same of the webhook, and its port; it has certificates, and the API server was told whom to trust."""
    (port,) = free_ports(1)
    words = [word.replace(":9443", f":{port}") for word in command(objects, "Deployment", "gpumax-webhook")]
    program = Program(
        [*words, "--also", HOST],
        folder / "webhook.log",
        env={"KUBECONFIG": str(plane.kubeconfig_of_account(SPACE, "gpumax-webhook"))},
    )
    program.start()
    try:
        eventually(lambda: "answering on" in program.said(), "it answers", program)
        yield program, port
    finally:
        program.stop()
    assert "Traceback" not in program.said()


def reach(plane: ControlPlane, way: Document) -> None:
    """Have the API server ask there."""
    patch = [{"op": "replace", "path": f"/webhooks/{number}/clientConfig", "value": way} for number in (0, 1)]
    headers = {"Content-Type": "application/json-patch+json"}
    plane.api.patch(HOOKS, json=patch, headers=headers).raise_for_status()
    heed(plane)


def webhooks_own(plane: ControlPlane) -> tuple[object, ...]:
    """What the webhook writes: its certificates, and whom the API server is to trust."""
    secret = plane.api.get(f"/api/v1/namespaces/{SPACE}/secrets/gpumax-webhook-certificates").json()
    trusted = [hook["clientConfig"].get("caBundle") for hook in plane.api.get(HOOKS).json()["webhooks"]]
    return secret.get("data"), *trusted
