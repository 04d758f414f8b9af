"""An agent with the rights that it is installed with, by a token as the kubelet gives it: it does its work, and speaks of no other node."""

from __future__ import annotations

import json
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
import yaml

from controlplane.guards import apply, system_namespace
from controlplane.leftovers import heed
from controlplane.plane import ControlPlane
from controlplane.processes import HOST, Program, eventually, free_ports
from controlplane.stage import Document, Stage
from gpumax.apps.agent.parts import Origin
from gpumax.apps.agent.telling import NO_HOST_MEMORY, event
from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.guard import NAMESPACE
from gpumax.engines.kubernetes.offers import annotation_of, slice_of
from gpumax.engines.kubernetes.telling import UNFENCED, UNFENCED_GOES
from gpumax.model.node import Device
from kubelet import Kubelet

SLICES = "/apis/resource.k8s.io/v1/resourceslices"
ACCOUNT = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/gpumax-agent"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
MERGE = {"Content-Type": "application/merge-patch+json"}
ONE = Device(0, "H100", 81_920)


@pytest.fixture(scope="module")
def guarded(prepared: ControlPlane) -> Iterator[ControlPlane]:
    """The control plane with what is applied for agents."""
    system_namespace(prepared)
    made = [
        path
        for name in ("agent-rights", "agent-plugin-rights", "agent-metrics-rights", "agent", "agent-evict")
        for path in apply(prepared, name)
    ]
    heed(prepared)
    yield prepared
    for path in reversed(made):
        prepared.api.delete(path)


@pytest.fixture
def token(guarded: ControlPlane, stage: Stage) -> Iterator[str]:
    """The token of an agent's pod on the node n1."""
    stage.node("n1", 0)
    stage.node("n2", 0)
    body = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": stage.name},
        "spec": {
            "serviceAccountName": "gpumax-agent", "nodeName": f"{stage.name}-n1", "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "agent", "image": "none"}],
        },
    }  # fmt: skip
    answer = guarded.api.post(PODS, json=body)
    assert answer.status_code == 201, answer.text
    bound = {"apiVersion": "v1", "kind": "Pod", "name": stage.name, "uid": answer.json()["metadata"]["uid"]}
    asked = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"boundObjectRef": bound},
    }
    given = guarded.api.post(f"{ACCOUNT}/token", json=asked)
    assert given.status_code == 201, given.text
    yield given.json()["status"]["token"]
    guarded.api.delete(f"{PODS}/{stage.name}")


def client_of(plane: ControlPlane, token: str) -> httpx.Client:
    """Whoever has the token."""
    trust = ssl.create_default_context(cafile=str(plane.authority.certificate))
    return httpx.Client(
        base_url=plane.url, verify=trust, trust_env=False, headers={"Authorization": f"Bearer {token}"}
    )


def published(stage: Stage, node: str) -> Document:
    """A slice for a node of the stage."""
    uid = stage.api.get(f"/api/v1/nodes/{stage.name}-{node}").json()["metadata"]["uid"]
    body = slice_of(f"{stage.name}-{node}", uid, (ONE,), {0: "GPU-0"})
    return {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", **body}


def test_an_agent_speaks_of_its_own_node_alone(guarded: ControlPlane, stage: Stage, token: str) -> None:
    """Its devices as a slice or as an annotation, and nothing else of the node."""
    with client_of(guarded, token) as agent:
        other = agent.post(SLICES, json=published(stage, "n2"))
        assert (other.status_code, "publishes the devices of its own node" in other.text) == (403, True)
        foreign = published(stage, "n1")
        foreign["spec"]["driver"] = "gpu.nvidia.com"
        assert agent.post(SLICES, json=foreign).status_code == 403
        assert agent.post(SLICES, json=published(stage, "n1")).status_code == 201
        offer = {"metadata": {"annotations": {keys.OFFERED: annotation_of((ONE,))}}}
        refused: list[tuple[str, Document]] = [
            ("n2", offer),
            ("n1", {"metadata": {"labels": {"team": "mine"}}}),
            ("n1", {"metadata": {"annotations": {"other": "words"}}}),
            ("n1", {"metadata": {"annotations": {"kwok.x-k8s.io/node": None}}}),
            ("n1", {"spec": {"unschedulable": True}}),
            ("n2", {"metadata": {"annotations": {keys.RESIDENTS: "{}"}}}),
        ]
        for node, change in refused:
            answer = agent.patch(f"/api/v1/nodes/{stage.name}-{node}", json=change, headers=MERGE)
            assert answer.status_code == 403, (node, change, answer.text)
        for change in (
            offer,
            {"metadata": {"annotations": {keys.RESIDENTS: "{}"}}},
            {"metadata": {"annotations": {keys.RESIDENTS: None}}},
        ):
            own = agent.patch(f"/api/v1/nodes/{stage.name}-n1", json=change, headers=MERGE)
            assert own.status_code == 200, own.text
        shares = agent.patch(
            f"{SLICES}/gpumax.dev-{stage.name}-n1",
            json={"metadata": {"annotations": {keys.RESIDENTS: "{}"}}},
            headers=MERGE,
        )
        assert shares.status_code == 200, shares.text
        assert shares.json()["metadata"]["annotations"] == {keys.RESIDENTS: "{}"}
        # Published anew it stays: it's another's field.
        anew = agent.patch(
            f"{SLICES}/gpumax.dev-{stage.name}-n1",
            params={"fieldManager": "gpumax-agent", "force": "true"},
            content=json.dumps(published(stage, "n1")),
            headers={"Content-Type": "application/apply-patch+yaml"},
        )
        assert anew.json()["metadata"]["annotations"] == {keys.RESIDENTS: "{}"}, anew.text
    guarded.api.delete(f"{SLICES}/gpumax.dev-{stage.name}-n1")


def test_an_agent_tells_what_it_has_to_say_and_nothing_else(
    guarded: ControlPlane, stage: Stage, token: str
) -> None:
    """Of its own node, and of pods; in no other words than its own."""
    here, there = f"{stage.name}-n1", f"{stage.name}-n2"
    pod = Origin("default", "claim", "u", stage.name, "u")
    cases: list[tuple[int, Document]] = [
        (201, event(here, None, UNFENCED, "Watch", "process 1 is unfenced")),
        (201, event(here, pod, UNFENCED, "Watch", "process 1 is unfenced")),
        (201, event(here, pod, UNFENCED_GOES, "Evict", "x" * 2000)),
        (201, event(here, pod, NO_HOST_MEMORY, "Share", "x")),
        (403, event(there, None, UNFENCED, "Watch", "x")),
        (403, event(here, pod, "Preempted", "Evict", "x")),
        (403, {**event(here, pod, UNFENCED, "Watch", "x"), "reportingController": "gpumax.dev/scheduler"}),
    ]
    with client_of(guarded, token) as agent:
        for code, body in cases:
            space = body["metadata"]["namespace"]
            answer = agent.post(f"/apis/events.k8s.io/v1/namespaces/{space}/events", json=body)
            assert answer.status_code == code, (body, answer.text)


def test_an_agent_that_evicts_deletes_pods_of_its_node_that_have_a_part(
    guarded: ControlPlane, stage: Stage, token: str
) -> None:
    """None of another node, of another scheduler, or without one."""
    given = {keys.GIVEN: '{"devices":{"0":{"milli":500}}}'}
    cases: list[tuple[int, str, Document, Document]] = [
        (200, "mine", given, {}),
        (403, "far", given, {"nodeName": f"{stage.name}-n2"}),
        (403, "theirs", given, {"schedulerName": "another"}),
        (403, "whole", {}, {}),
    ]
    for _, name, written, spec in cases:
        body = {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": written},
            "spec": {
                "schedulerName": "gpumax", "nodeName": f"{stage.name}-n1", "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "main", "image": "none"}], **spec,
            },
        }  # fmt: skip
        made = guarded.api.post(stage.pods_path, json=body)
        assert made.status_code == 201, made.text
    try:
        with client_of(guarded, token) as agent:
            for code, name, _, _ in cases:
                answer = agent.delete(f"{stage.pods_path}/{name}")
                assert answer.status_code == code, (name, answer.text)
    finally:
        for _, name, _, _ in cases:
            guarded.api.delete(f"{stage.pods_path}/{name}")


@pytest.mark.parametrize("way", ["claims", "plugin"])
def test_an_agent_needs_no_more_rights_than_it_has(
    guarded: ControlPlane, stage: Stage, token: str, way: str
) -> None:
    """From its start until its devices are known."""
    config = yaml.safe_load(guarded.kubeconfig().read_text())
    config["users"][0]["user"] = {"token": token}
    with TemporaryDirectory(prefix="gpumax-") as folder:
        (kubeconfig := Path(folder) / "kubeconfig").write_text(yaml.safe_dump(config))
        kubelet = Kubelet(Path(folder))
        (port,) = free_ports(1)
        argv = [
            sys.executable, "-m", "gpumax.apps.cli.main", "agent", "--node-name", f"{stage.name}-n1",
            "--devices", "1xH100:80Gi", "--kubelet-dir", folder, "--cdi-dir", str(kubelet.cdi),
            "--listen", f"0.0.0.0:{port}", *(["--plugin"] if way == "plugin" else []),
        ]  # fmt: skip
        program = Program(argv, Path(folder) / "agent.log", env={"KUBECONFIG": str(kubeconfig)})
        program.start()
        try:
            eventually(lambda: known(stage, way), "its devices are known", program)
            url = f"http://{HOST}:{port}"
            eventually(
                lambda: httpx.get(f"{url}/readyz").status_code == 200, "it says that it's ready", program
            )
            # The agent's own token may ask the cluster who calls, and not read metrics.
            for shown, code in (("", 401), ("nonsense", 401), (token, 403)):
                headers = {"Authorization": f"Bearer {shown}"} if shown else {}
                assert httpx.get(f"{url}/metrics", headers=headers).status_code == code
        finally:
            program.stop()
        assert "403" not in program.said().replace(str(port), "")
    guarded.api.delete(f"{SLICES}/gpumax.dev-{stage.name}-n1")


def known(stage: Stage, way: str) -> bool:
    """Whether the cluster knows the devices of n1."""
    name = f"{stage.name}-n1"
    if way == "claims":
        return stage.api.get(f"{SLICES}/gpumax.dev-{name}").status_code == 200
    annotations = stage.api.get(f"/api/v1/nodes/{name}").json()["metadata"]["annotations"]
    return keys.OFFERED in annotations


def test_the_claim_of_a_pod_is_of_no_use_to_another(guarded: ControlPlane) -> None:
    """Of another scheduler it is refused, by whatever name it asks for the claim; of ours it would wait. Other claims are nobody's business here."""
    made = apply(guarded, "decisions")
    try:
        heed(guarded)
        assert tried(guarded, "gpumax-x", "another") == 403
        assert tried(guarded, "gpumax-x", "default-scheduler") == 403
        assert tried(guarded, "gpumax-x", "gpumax") == 201
        assert tried(guarded, "nic", "another") == 201
    finally:
        for path in reversed(made):
            guarded.api.delete(path)


def tried(plane: ControlPlane, claim: str, scheduler: str) -> int:
    """What comes of making a pod that uses this claim, without making it."""
    body = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "borrower"},
        "spec": {
            "schedulerName": scheduler, "resourceClaims": [{"name": "mine", "resourceClaimName": claim}],
            "containers": [{"name": "main", "image": "none", "resources": {"claims": [{"name": "mine"}]}}],
        },
    }  # fmt: skip
    return plane.api.post("/api/v1/namespaces/default/pods", json=body, params={"dryRun": "All"}).status_code
