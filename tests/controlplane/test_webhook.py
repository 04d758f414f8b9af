"""The webhook on a real API server: it answers about pods that ask for us, renews its certificates, and its outage stops nobody else."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from controlplane.guards import apply, system_namespace
from controlplane.leftovers import heed
from controlplane.plane import ControlPlane
from controlplane.processes import HOST, Program, eventually, free_ports
from controlplane.stage import Stage
from gpumax.apps.webhook.certificates import OVERLAP, Kept
from gpumax.apps.webhook.keeping import Keeper
from gpumax.apps.webhook.server import PATH, Server
from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.kubeconfig import access_from
from gpumax.engines.kubernetes.guard import NAMESPACE
from gpumax.engines.kubernetes.offers import slice_of
from gpumax.model.node import Device

ACCOUNT = f"system:serviceaccount:{NAMESPACE}:gpumax-webhook"
SECRET = "gpumax-webhook-certificates"
PART = {"gpu-fraction": "0.5"}
SLICES = "/apis/resource.k8s.io/v1/resourceslices"
PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture
def port(prepared: ControlPlane) -> Iterator[int]:
    """Where the API server asks from now on. Nobody listens there yet."""
    (port,) = free_ports(1)
    system_namespace(prepared)
    made = apply(prepared, "webhook-rights")
    made += apply(prepared, "webhook", lambda body: _reached_at(body, port))
    eventually(
        lambda: about(prepared, annotations=PART).status_code == 500, "pods with parts are asked about"
    )
    yield port
    for path in reversed(made):
        prepared.api.delete(path)
    eventually(lambda: about(prepared, annotations=PART).status_code == 201, "nobody is asked any more")


def _reached_at(body: dict[str, Any], port: int) -> dict[str, Any]:
    for hook in body["webhooks"]:
        hook["clientConfig"] = {"url": f"https://{HOST}:{port}{PATH}"}
    return body


def about(plane: ControlPlane, scheduler: str = "gpumax", **meta: Any) -> httpx.Response:
    """What the API server says to a pod, which it doesn't keep."""
    body = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"p{uuid.uuid4().hex[:8]}", **meta},
        "spec": {"schedulerName": scheduler, "containers": [{"name": "main", "image": "none"}]},
    }  # fmt: skip
    return plane.api.post(PODS, json=body, params={"dryRun": "All"})


def process(plane: ControlPlane, port: int, log: Path, *options: str) -> Program:
    """The webhook as a process, with the rights of its account and no others."""
    argv = [
        sys.executable, "-m", "gpumax.apps.cli.main", "webhook",
        "--listen", f"{HOST}:{port}", "--also", HOST, "--service", f"{NAMESPACE}/gpumax-webhook", *options,
    ]  # fmt: skip
    config = plane.kubeconfig(ACCOUNT, "system:serviceaccounts", "system:authenticated")
    program = Program(argv, log, env={"KUBECONFIG": str(config)})
    program.start()
    return program


def test_with_its_few_rights_it_answers_and_warns(prepared: ControlPlane, port: int, tmp_path: Path) -> None:
    """It makes its certificates, has the API server trust them, and what is written wrongly is told at once."""
    program = process(prepared, port, tmp_path / "webhook.log")
    eventually(lambda: about(prepared, annotations=PART).status_code == 201, "it answers", program)
    assert "Warning" not in about(prepared, annotations=PART).headers
    spec = about(prepared, annotations=PART).json()["spec"]
    assert [claim["name"] for claim in spec["resourceClaims"]] == ["gpumax"]
    assert spec["containers"][0]["resources"]["claims"] == [{"name": "gpumax"}]
    told = about(prepared, annotations={"gpu-fraction": "1.5"})
    assert told.status_code == 201
    assert "wanted a part of one device between 0 and 1" in told.headers["Warning"]
    assert (
        "did you mean gpumax.dev/queue?"
        in about(prepared, labels={"gpumax.dev/quue": "x"}).headers["Warning"]
    )
    assert "Warning" not in about(prepared, "default-scheduler", labels={"gpumax.dev/quue": "x"}).headers
    program.stop()
    assert "Traceback" not in program.said()
    assert "KEY" not in program.said()


def test_where_agents_are_device_plugins_pods_ask_for_tickets(
    prepared: ControlPlane, port: int, tmp_path: Path
) -> None:
    """Though the cluster serves claims, which nobody would give out there."""
    program = process(prepared, port, tmp_path / "webhook.log", "--plugin")
    eventually(lambda: about(prepared, annotations=PART).status_code == 201, "it answers", program)
    spec = about(prepared, annotations=PART).json()["spec"]
    assert spec["containers"][0]["resources"]["limits"] == {"gpumax.dev/gpu-part": "1"}
    assert "resourceClaims" not in spec
    program.stop()


def test_while_it_is_down_only_pods_that_need_it_wait(
    prepared: ControlPlane, port: int, tmp_path: Path
) -> None:
    """Pods of others, Deployments, and pods that ask us for whole devices go on; pods with parts are refused until it is back."""
    program = process(prepared, port, tmp_path / "webhook.log")
    eventually(lambda: about(prepared, annotations=PART).status_code == 201, "it answers", program)
    program.kill()
    assert about(prepared, "default-scheduler").status_code == 201
    assert about(prepared, "default-scheduler", annotations=PART).status_code == 201
    assert about(prepared).status_code == 201
    refused = about(prepared, annotations=PART)
    assert refused.status_code == 500
    assert "parts.gpumax.dev" in refused.json()["message"]
    labels = {"app": "elsewhere"}
    deployment = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "elsewhere"},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "none"}]}},
        },
    }  # fmt: skip
    where = "/apis/apps/v1/namespaces/default/deployments"
    prepared.api.post(where, json=deployment).raise_for_status()
    listed = {"labelSelector": "app=elsewhere"}
    eventually(lambda: bool(prepared.api.get(PODS, params=listed).json()["items"]), "its pod is made")
    prepared.api.delete(f"{where}/elsewhere")
    program.start()
    eventually(lambda: about(prepared, annotations=PART).status_code == 201, "it is back", program)
    program.stop()


def test_two_replicas_agree_on_one_certificate(prepared: ControlPlane, port: int, tmp_path: Path) -> None:
    """Both start on an empty secret; whoever comes second takes what the first wrote, and the API server trusts both."""
    (other,) = free_ports(1)
    programs = [process(prepared, each, tmp_path / f"{each}.log") for each in (port, other)]
    for program in programs:
        eventually(lambda program=program: "answering" in program.said(), "it answers", *programs)  # type: ignore[misc]
    eventually(
        lambda: about(prepared, annotations=PART).status_code == 201, "the first is trusted", *programs
    )
    programs[0].kill()
    moved = {
        "webhooks": [{"name": "parts.gpumax.dev", "clientConfig": {"url": f"https://{HOST}:{other}{PATH}"}}]
    }
    prepared.api.patch(
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/gpumax",
        json=moved, headers={"Content-Type": "application/strategic-merge-patch+json"},
    ).raise_for_status()  # fmt: skip
    eventually(lambda: about(prepared, annotations=PART).status_code == 201, "so is the second", programs[1])
    programs[1].stop()


def test_a_pod_that_asks_for_a_part_gets_it(
    prepared: ControlPlane, port: int, stage: Stage, tmp_path: Path
) -> None:
    """From an annotation to a place with an allocated claim: webhook, scheduler and API server together; two halves share a device."""
    program = process(prepared, port, tmp_path / "webhook.log")
    eventually(lambda: about(prepared, annotations=PART).status_code == 201, "it answers", program)
    _ask_for(prepared, stage.name)
    stage.node("n1", 0)
    node = prepared.api.get(f"/api/v1/nodes/{stage.name}-n1").json()["metadata"]
    devices = [Device(0, "H100", 80 * 1024)]
    offer = slice_of(node["name"], node["uid"], devices, {0: "GPU-0"})
    stage.post(SLICES, {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", **offer})
    queue = stage.queue("team", 1)
    stage.steer()
    eventually(
        lambda: about(prepared, stage.name, annotations=PART).json().get("spec", {}).get("resourceClaims"),
        "it is asked",
    )
    for name in ("a", "b"):
        stage.pod(name, queue, gpus=0, annotations=PART)
    eventually(lambda: stage.where() == ["n1", "n1"], "both have their place", program)
    claims = prepared.api.get(f"/apis/resource.k8s.io/v1/namespaces/{stage.name}/resourceclaims").json()[
        "items"
    ]
    held = [claim["status"]["allocation"]["devices"]["results"][0]["device"] for claim in claims]
    assert held == ["gpu-0", "gpu-0"]
    program.stop()


def _ask_for(plane: ControlPlane, scheduler: str) -> None:
    """Have the webhook be asked about pods of this scheduler instead."""
    path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/gpumax"

    def asked() -> bool:
        """The webhook itself may write to it meanwhile."""
        text = plane.api.get(path).text.replace("== 'gpumax'", f"== '{scheduler}'")
        answer = plane.api.put(path, content=text, headers={"Content-Type": "application/json"})
        return answer.status_code == 200

    eventually(asked, "the webhook is asked about others")


@pytest.mark.anyio
async def test_certificates_and_authorities_change_while_it_answers(
    prepared: ControlPlane, port: int
) -> None:
    """Eight months in four steps, in one process: nothing that is asked meanwhile fails."""
    start = datetime.now(UTC)
    clock = [start - timedelta(days=241)]
    config = prepared.kubeconfig(ACCOUNT, "system:serviceaccounts", "system:authenticated")
    seen: list[Kept] = []
    server = Server(HOST, port)
    async with Api(access_from((config,))) as api:
        keeper = Keeper(api, NAMESPACE, SECRET, "gpumax", [HOST], now=lambda: clock[0])
        try:
            for moment in (
                start - timedelta(days=241), start - timedelta(days=1, hours=5), start - OVERLAP - timedelta(minutes=5),
                start, start + timedelta(minutes=9),
            ):  # fmt: skip
                await asyncio.to_thread(
                    heed, prepared
                )  # minutes pass, and the API server knows whom to trust
                clock[0] = moment
                seen.append(await keeper.step())
                server.show(seen[-1])
                if len(seen) == 1:
                    await server.start()
                    continue  # its first certificate ended long ago
                await asyncio.to_thread(_answers, prepared, len(seen) == 2)
        finally:
            await server.stop()
    assert [kept.authorities.count(b"BEGIN") for kept in seen] == [1, 1, 2, 2, 2]
    assert len({kept.certificate for kept in seen}) == 4


def _answers(plane: ControlPlane, first: bool) -> None:
    """Ten questions in a row; the first time the API server may have yet to hear whom to trust."""
    if first:
        eventually(lambda: about(plane, annotations=PART).status_code == 201, "it answers")
    for _ in range(10):
        answer = about(plane, annotations=PART)
        assert answer.status_code == 201, answer.text
