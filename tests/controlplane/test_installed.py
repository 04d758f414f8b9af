"""What the chart installs, at work: with the rights that its service accounts get, and no others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
import yaml

from controlplane.helm import CHART, Document, Helm, only
from controlplane.installation import (
    ACCOUNT,
    SPACE,
    Installed,
    Running,
    command,
    manifest,
    reach,
    scheduler_of,
    webhook_of,
    webhooks_own,
)
from controlplane.leftovers import heed
from controlplane.plane import ControlPlane
from controlplane.processes import HOST, PATIENCE_S, Program, eventually, free_ports
from controlplane.stage import QUEUES
from controlplane.test_chart import needed
from controlplane.test_fractions import SLICES, offer
from gpumax.engines.kubernetes.claims import document
from gpumax.engines.kubernetes.grants import Amount, Given, Grant
from gpumax.engines.kubernetes.rights import (
    CALLERS,
    CLAIMING,
    FIRST_QUEUE,
    LEASE,
    OWNERS,
    TELLING,
    WATCHED,
    WRITES,
)
from kubelet import Kubelet


@pytest.fixture
def no_queue(bare: ControlPlane, installed: list[Document]) -> None:
    """As after the first installation: no scheduler has made a queue yet."""
    for row in bare.api.get(QUEUES).json()["items"]:
        path = f"{QUEUES}/{row['metadata']['name']}"
        bare.api.delete(path)
        eventually(lambda path=path: bare.api.get(path).status_code == 404, f"{path} is gone")  # type: ignore[misc]


@pytest.fixture
def scheduler(bare: ControlPlane, installed: list[Document], tmp_path: Path) -> Iterator[Running]:
    """The scheduler."""
    with scheduler_of(bare, installed, tmp_path) as running:
        yield running


@pytest.fixture
def webhook(bare: ControlPlane, installed: list[Document], tmp_path: Path) -> Iterator[Program]:
    """The webhook as the API server reaches it here, where there is no network of pods."""
    usual = only(installed, "MutatingWebhookConfiguration")["webhooks"][0]["clientConfig"]
    with webhook_of(bare, installed, tmp_path) as (program, port):
        trusted = webhooks_own(bare)[1]
        reach(bare, {"url": f"https://{HOST}:{port}/pods", "caBundle": trusted})
        yield program
        reach(bare, {**usual, "caBundle": trusted})


@pytest.fixture
def stage(bare: ControlPlane, installed: list[Document]) -> Iterator[Installed]:
    """A namespace of the test's own."""
    made = Installed(bare)
    try:
        yield made
    finally:
        made.close()
        made.judge()


def test_the_installed_scheduler_does_its_work_with_its_rights(
    bare: ControlPlane, no_queue: None, scheduler: Running, webhook: Program, stage: Installed
) -> None:
    """A gang, a reclaim, a part of a GPU, what is told to who waits: nothing is forbidden, and every right is used.

    Of the kinds of owners only jobs and pods are tried; the others are read by the same code.
    """
    program = scheduler.program
    eventually(
        lambda: bare.api.get(f"{QUEUES}/default").status_code == 200, "a first queue is there", program
    )
    stage.node("n1", 8)
    lender, owner = stage.queue("lender", 2), stage.queue("owner", 6)
    for number in range(8):
        stage.pod(f"b{number}", lender)
    eventually(lambda: "" not in stage.where("b"), "what is idle is lent", program)
    stage.gang("g", owner, 4)
    eventually(lambda: stage.where("g") == ["n1"] * 4, "the gang of the owner runs", program)
    waits_for_its_driver(stage, lender)
    eventually(
        lambda: any(name == "executor" for _, name in stage.events()), "it is told why it waits", program
    )
    has_a_part(stage, owner)
    eventually(lambda: stage.where("half") == ["n2"], "it gets the part", program)
    readers(bare, scheduler.url, "prometheus")
    # Lists are read as watches where the server can do that; what a claim is bound with is no request; the chart has a lease (see test_uninstall).
    sure = {
        right
        for right in wanted(bare)
        if right[2] != "list"
        and not right[1].endswith("claims/binding")
        and right[1:] != ("leases", "create")
    }
    eventually(lambda: sure <= used(bare, scheduler.began), "every right is used", program)
    forbidden = [
        row["requestURI"] for row in entries(bare, scheduler.began) if row["responseStatus"]["code"] == 403
    ]
    assert forbidden == []
    assert used(bare, scheduler.began) <= wanted(bare)


def waits_for_its_driver(stage: Installed, queue: str) -> None:
    """A gang of an object of ours, with a pod that another pod made."""
    body = {
        "apiVersion": "gpumax.dev/v1alpha1",
        "kind": "Gang",
        "metadata": {"name": "spark"},
        "spec": {"min": 2},
    }
    stage.post(f"/apis/gpumax.dev/v1alpha1/namespaces/{stage.name}/gangs", body)
    labels = {"gpumax.dev/gang": "spark"}
    stage.pod("driver", queue, 9, labels=labels)
    uid = stage.pods()["driver"]["metadata"]["uid"]
    reference = {"apiVersion": "v1", "kind": "Pod", "name": "driver", "controller": True, "uid": uid}
    stage.pod("executor", queue, 9, labels=labels, ownerReferences=[reference])


def has_a_part(stage: Installed, queue: str) -> None:
    """A pod that asks for a half, whose claim is there already, as after a scheduler that ended before it was done."""
    stage.node("n2", 0)
    stage.pod("half", queue, 0, annotations={"gpu-fraction": "0.5"})
    body = stage.pods()["half"]
    (claim,) = body["spec"]["resourceClaims"]
    pod = {"namespace": stage.name, "name": "half", "uid": body["metadata"]["uid"]}
    made = document(pod, Given(Grant({0: Amount(500, 0)}), claim["resourceClaimName"]))
    made = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", **made}
    stage.post(f"/apis/resource.k8s.io/v1/namespaces/{stage.name}/resourceclaims", made)
    offer(stage, "n2", 1)


def readers(bare: ControlPlane, url: str, name: str) -> None:
    """Probes are answered; metrics are for those who were given the chart's role for it."""
    for path in ("healthz", "readyz"):
        eventually(lambda path=path: answered(f"{url}/{path}") == 200, f"it is well by {path}")  # type: ignore[misc]
    accounts = f"/api/v1/namespaces/{SPACE}/serviceaccounts"
    bare.api.post(accounts, json={"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
    rbac: Document = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
    }
    rbac["roleRef"] = {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": "gpumax-metrics-reader",
    }
    rbac |= {"subjects": [{"kind": "ServiceAccount", "name": name, "namespace": SPACE}]}
    bare.api.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", json=rbac).raise_for_status()
    heed(bare)
    for account, code in (("", 401), ("gpumax", 403), (name, 200)):
        headers = {"Authorization": f"Bearer {bare.token(SPACE, account)}"} if account else {}
        assert answered(f"{url}/metrics", **headers) == code


def answered(url: str, **headers: str) -> int:
    """The code of the answer."""
    return httpx.get(url, headers=headers, trust_env=False, timeout=PATIENCE_S).status_code


def test_the_chart_s_own_test_is_content(
    bare: ControlPlane, helm: Helm, scheduler: Running, tmp_path: Path
) -> None:
    """`helm test` runs the doctor with the scheduler's rights: started as its pod would start it, it finds a leader and nothing to be mended first."""
    (hook,) = [one for one in yaml.safe_load_all(helm.run("get", "hooks", "gpumax", "-n", SPACE)) if one]
    (container,) = hook["spec"]["containers"]
    env = {
        "KUBECONFIG": str(bare.kubeconfig_of_account(SPACE, "gpumax")),
        "HOME": str(tmp_path),
        "PATH": "/usr/bin",
    }
    words = [sys.executable, "-m", "gpumax.apps.cli.main", *container["args"]]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok    leader" in done.stdout
    assert "ok    rights" in done.stdout
    assert scheduler.program.said()


def entries(bare: ControlPlane, since: str) -> list[Document]:
    """What the chart's account asked of the API server; before, other tests were it."""
    return [
        row
        for row in bare.audited()
        if row["requestReceivedTimestamp"] >= since
        and row["user"].get("username") == ACCOUNT
        and "responseStatus" in row
    ]


def used(bare: ControlPlane, since: str) -> set[tuple[str, str, str]]:
    """Which rights were used: group, resource and verb."""
    found = set()
    for row in entries(bare, since):
        if place := row.get("objectRef"):
            part = f"/{place['subresource']}" if "subresource" in place else ""
            found.add((place.get("apiGroup", ""), f"{place['resource']}{part}", row["verb"]))
    return found


def wanted(bare: ControlPlane) -> set[tuple[str, str, str]]:
    """All rights on what this cluster serves; of owners, those on jobs. Events aren't audited."""
    groups = {""} | {row["name"] for row in bare.api.get("/apis").json()["groups"]}
    native = any(
        row["name"] == "podgroups"
        for version in ("v1beta1", "v1alpha3")
        for row in bare.api.get(f"/apis/scheduling.k8s.io/{version}").json().get("resources", [])
    )
    rights = [
        right
        for right in (
            *WATCHED,
            *WRITES,
            *TELLING,
            *CLAIMING,
            *CALLERS,
            FIRST_QUEUE,
            LEASE,
            *(one for one in OWNERS if one.resource == "jobs"),
        )
        if right.group in groups - {"events.k8s.io"}
        and (native or (right.group, right.resource) != ("scheduling.k8s.io", "podgroups"))
    ]
    return needed(*rights)


@pytest.fixture
def daemons(helm: Helm, installed: list[Document]) -> Iterator[list[Document]]:
    """The chart with agents."""
    helm.run(
        "upgrade", "gpumax", str(CHART), "-n", SPACE, "--set", "agent.enabled=true,agent.devices=1xH100:80Gi"
    )
    yield manifest(helm)
    helm.run("rollback", "gpumax", "-n", SPACE)


def test_an_agent_gives_containers_their_part(
    bare: ControlPlane, daemons: list[Document], scheduler: Running, webhook: Program, stage: Installed
) -> None:
    """Started as the chart's daemon set would start it, with a token that the kubelet would get for it."""
    stage.node("n1", 0)
    node = f"{stage.name}-n1"
    body = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "agent", "namespace": SPACE},
        "spec": {"nodeName": node, "serviceAccountName": "gpumax-agent", "containers": [{"name": "a", "image": "a"}]},
    }  # fmt: skip
    pod = bare.api.post(f"/api/v1/namespaces/{SPACE}/pods", json=body).raise_for_status().json()
    with TemporaryDirectory(prefix="gpumax-") as folder:
        kubelet = Kubelet(Path(folder))
        words = command(daemons, "DaemonSet", "gpumax-agent")
        (port,) = free_ports(1)
        config = bare.kubeconfig_of_account(SPACE, "gpumax-agent", pod)
        program = Program(
            [
                *(word.replace("/var/lib/kubelet", folder).replace(":8080", f":{port}") for word in words),
                "--cdi-dir",
                str(kubelet.cdi),
            ],
            Path(folder) / "agent.log",
            env={"KUBECONFIG": str(config), "NODE_NAME": node},
        )
        program.start()
        mine = f"{SLICES}/gpumax.dev-{node}"
        eventually(lambda: bare.api.get(mine).status_code == 200, "its devices are published", program)
        stage.pod("half", stage.queue("q", 1), 0, annotations={"gpu-fraction": "0.5"})
        eventually(lambda: stage.where("half") == ["n1"], "a pod gets its part", scheduler.program)
        eventually(lambda: kubelet.look() == ["gpu.gpumax.dev"], "the kubelet knows it", program)
        (claim,) = bare.api.get(f"/apis/resource.k8s.io/v1/namespaces/{stage.name}/resourceclaims").json()[
            "items"
        ]
        assert kubelet.added(kubelet.prepare(claim)).env["GPUMAX_SHARE"] == "0.5"
        program.stop()
        assert "Traceback" not in program.said()
    bare.api.delete(mine)
    bare.api.delete(f"/api/v1/namespaces/{SPACE}/pods/agent")


def test_who_edits_a_namespace_edits_its_gangs(bare: ControlPlane, stage: Installed) -> None:
    """By the usual role of Kubernetes; queues are not theirs."""
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "team"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": stage.name}],
    }  # fmt: skip
    stage.post(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{stage.name}/rolebindings", binding)
    with bare.client(stage.name) as team:
        gangs = f"/apis/gpumax.dev/v1alpha1/namespaces/{stage.name}/gangs"
        body = {
            "apiVersion": "gpumax.dev/v1alpha1",
            "kind": "Gang",
            "metadata": {"name": "g"},
            "spec": {"min": 2},
        }
        eventually(lambda: team.get(gangs).status_code == 200, "they see gangs")
        eventually(
            lambda: team.post(gangs, json=body, params={"dryRun": "All"}).status_code == 201, "and make them"
        )
        assert team.get(QUEUES).status_code == 403
        assert team.delete(f"{QUEUES}/default").status_code == 403
