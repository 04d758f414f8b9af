"""The chart on a real cluster: what it makes is taken by the API server, and the scheduler does its work with the rights that it gets."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import httpx
import pytest
import yaml

from audit import check
from controlplane.helm import CHART, Document, Helm, only
from controlplane.plane import Cluster, ControlPlane
from controlplane.processes import HOST, Program, eventually, free_ports
from controlplane.stage import CRDS, QUEUES, Stage
from controlplane.test_chart import VALUES, needed, pods, values_file
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

SPACE = "gpumax-system"
HOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/gpumax"
ACCOUNT = f"system:serviceaccount:{SPACE}:gpumax"


@pytest.fixture(scope="module")
def plane(cluster: Cluster) -> Iterator[ControlPlane]:
    """A control plane with kubelets that are played, and without our kinds of objects."""
    if cluster.own is None:
        pytest.skip("needs a control plane of its own, not somebody's cluster")
    kwok = cluster.own.start_kwok()
    forget_kinds(cluster.own)
    yield cluster.own
    kwok.stop()


def forget_kinds(plane: ControlPlane) -> None:
    """Others may have added them; then they are nobody's."""
    for row in plane.api.get(CRDS).json()["items"]:
        if row["spec"]["group"] == "gpumax.dev":
            path = f"{CRDS}/{row['metadata']['name']}"
            plane.api.delete(path)
            eventually(lambda path=path: plane.api.get(path).status_code == 404, "a kind is gone")  # type: ignore[misc]


@pytest.fixture(scope="module")
def helm(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm as the cluster's administrator."""
    return Helm(tmp_path_factory.mktemp("helm"), str(plane.kubeconfig()))


@pytest.fixture(scope="module")
def installed(plane: ControlPlane, helm: Helm) -> Iterator[list[Document]]:
    """The objects of the chart, installed by the command that the README has."""
    helm.run("install", "gpumax", str(CHART), "-n", SPACE, "--create-namespace")
    yield [one for one in yaml.safe_load_all(helm.run("get", "manifest", "gpumax", "-n", SPACE)) if one]
    if helm.run("list", "-n", SPACE, "-q"):
        helm.run("uninstall", "gpumax", "-n", SPACE)


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


@pytest.fixture
def scheduler(plane: ControlPlane, installed: list[Document], tmp_path: Path) -> Iterator[Running]:
    """The scheduler as the chart's deployment would start it, started by hand: no kubelet is here. Its rights are the chart's."""
    (container,) = only(installed, "Deployment")["spec"]["template"]["spec"]["containers"]
    (port,) = free_ports(1)
    arguments = [word.replace(":8080", f":{port}") for word in container["args"]]
    program = Program(
        [sys.executable, "-m", "gpumax.apps.cli.main", *arguments],
        tmp_path / "scheduler.log",
        env={
            "KUBECONFIG": str(plane.kubeconfig_of_account(SPACE, "gpumax")),
            "GPUMAX_DATA": str(tmp_path / "data"),
        },
    )
    program.start()
    eventually(lambda: "steering, epoch" in program.said(), "it steers", program)
    yield Running(program, f"http://127.0.0.1:{port}")
    program.stop()
    assert "Traceback" not in program.said()


@pytest.fixture
def certified(
    plane: ControlPlane, installed: list[Document], tmp_path: Path
) -> Iterator[tuple[Program, int]]:
    """The same of the webhook, and its port; it has certificates, and the API server was told whom to trust."""
    (container,) = only(installed, "Deployment", "gpumax-webhook")["spec"]["template"]["spec"]["containers"]
    (port,) = free_ports(1)
    arguments = [word.replace(":9443", f":{port}") for word in container["args"]]
    program = Program(
        [sys.executable, "-m", "gpumax.apps.cli.main", *arguments, "--also", HOST],
        tmp_path / "webhook.log",
        env={"KUBECONFIG": str(plane.kubeconfig_of_account(SPACE, "gpumax-webhook"))},
    )
    program.start()
    eventually(lambda: "answering on" in program.said(), "it answers", program)
    yield program, port
    program.stop()
    assert "Traceback" not in program.said()


@pytest.fixture
def webhook(
    plane: ControlPlane, installed: list[Document], certified: tuple[Program, int]
) -> Iterator[Program]:
    """The webhook as the API server reaches it here, where there is no network of pods."""
    program, port = certified
    usual = only(installed, "MutatingWebhookConfiguration")["webhooks"][0]["clientConfig"]
    trusted = webhooks_own(plane)[1]
    reach(plane, {"url": f"https://{HOST}:{port}/pods", "caBundle": trusted})
    yield program
    reach(plane, {**usual, "caBundle": trusted})


def reach(plane: ControlPlane, way: Document) -> None:
    """Have the API server ask there."""
    patch = [{"op": "replace", "path": f"/webhooks/{number}/clientConfig", "value": way} for number in (0, 1)]
    headers = {"Content-Type": "application/json-patch+json"}
    plane.api.patch(HOOKS, json=patch, headers=headers).raise_for_status()


@pytest.fixture
def stage(plane: ControlPlane, installed: list[Document]) -> Iterator[Installed]:
    """A namespace of the test's own."""
    made = Installed(plane)
    try:
        yield made
    finally:
        made.close()
        assert check(plane.audited(), limits={}) == []


@pytest.mark.parametrize("name", VALUES)
def test_a_real_api_server_takes_every_object(
    plane: ControlPlane, helm: Helm, name: str, tmp_path: Path
) -> None:
    """Each object, field by field; pods pass the strictest profile of pod security, that of the deployment among them."""
    space = f"dry-{name}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    plane.api.post(
        "/api/v1/namespaces",
        json={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space, "labels": labels}},
    )
    plane.await_account(space)
    objects = helm.objects("-f", values_file(name, tmp_path), namespace=space)
    # A pod is refused where its account isn't there; a monitor, where nobody installed its operator.
    for one in objects:
        if one["kind"] == "ServiceAccount":
            assert plane.api.post(path_of(plane, one), json=one).status_code == 201
    # Agents mount folders of their node, which no profile but `privileged` allows.
    for spec in pods([one for one in objects if one["kind"] != "DaemonSet"]):
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "as-pod", "namespace": space},
            "spec": spec,
        }
        objects.append(pod | {"spec": {**spec, "serviceAccountName": "default"}})
    faults = [
        (one["kind"], answer.text)
        for one in objects
        if one["kind"] not in ("ServiceMonitor", "ServiceAccount")
        and (answer := dry(plane, one)).status_code not in (200, 201)
    ]
    plane.api.delete(f"/api/v1/namespaces/{space}")
    assert faults == []


def dry(plane: ControlPlane, one: Document) -> Any:
    """What the API server says of an object, without keeping it. One that is there is changed."""
    query = {"dryRun": "All", "fieldValidation": "Strict"}
    path = path_of(plane, one)
    answer = plane.api.post(path, params=query, json=one)
    if answer.status_code != 409:
        return answer
    body = yaml.safe_dump(one)
    return plane.api.patch(
        f"{path}/{one['metadata']['name']}",
        params={**query, "fieldManager": "test", "force": "true"},
        content=body,
        headers={"Content-Type": "application/apply-patch+yaml"},
    )


def path_of(plane: ControlPlane, one: Document) -> str:
    """Where such objects are made."""
    version = one["apiVersion"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    (row,) = [
        row
        for row in plane.api.get(root).json()["resources"]
        if row["kind"] == one["kind"] and "/" not in row["name"]
    ]
    space = f"/namespaces/{one['metadata']['namespace']}" if row["namespaced"] else ""
    return f"{root}{space}/{row['name']}"


def test_the_installed_scheduler_does_its_work_with_its_rights(
    plane: ControlPlane, scheduler: Running, webhook: Program, stage: Installed
) -> None:
    """A gang, a reclaim, a part of a GPU, what is told to who waits: nothing is forbidden, and every right is used.

    Of the kinds of owners only jobs and pods are tried; the others are read by the same code.
    """
    program = scheduler.program
    eventually(
        lambda: plane.api.get(f"{QUEUES}/default").status_code == 200, "a first queue is there", program
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
    readers(plane, scheduler.url, "prometheus")
    # Lists are read as watches where the server can do that; what a claim is bound with is no request.
    sure = {
        right for right in wanted(plane) if right[2] != "list" and not right[1].endswith("claims/binding")
    }
    eventually(lambda: sure <= used(plane), "every right is used", program)
    forbidden = [row["requestURI"] for row in entries(plane) if row["responseStatus"]["code"] == 403]
    assert forbidden == []
    assert used(plane) <= wanted(plane)


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


def readers(plane: ControlPlane, url: str, name: str) -> None:
    """Probes are answered; metrics are for those who were given the chart's role for it."""
    assert httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
    eventually(lambda: httpx.get(f"{url}/readyz", trust_env=False).status_code == 200, "it is ready")
    accounts = f"/api/v1/namespaces/{SPACE}/serviceaccounts"
    plane.api.post(accounts, json={"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
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
    plane.api.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", json=rbac).raise_for_status()
    for account, code in (("", 401), ("gpumax", 403), (name, 200)):
        headers = {"Authorization": f"Bearer {plane.token(SPACE, account)}"} if account else {}
        assert httpx.get(f"{url}/metrics", headers=headers, trust_env=False).status_code == code


def test_the_chart_s_own_test_is_content(
    plane: ControlPlane, helm: Helm, scheduler: Running, tmp_path: Path
) -> None:
    """`helm test` runs the doctor with the scheduler's rights: started as its pod would start it, it finds a leader and nothing to be mended first."""
    (hook,) = [one for one in yaml.safe_load_all(helm.run("get", "hooks", "gpumax", "-n", SPACE)) if one]
    (container,) = hook["spec"]["containers"]
    env = {
        "KUBECONFIG": str(plane.kubeconfig_of_account(SPACE, "gpumax")),
        "HOME": str(tmp_path),
        "PATH": "/usr/bin",
    }
    words = [sys.executable, "-m", "gpumax.apps.cli.main", *container["args"]]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok    leader" in done.stdout
    assert "ok    rights" in done.stdout
    assert scheduler.program.said()


def entries(plane: ControlPlane) -> list[Document]:
    """What the chart's account asked of the API server."""
    return [row for row in plane.audited() if row["user"]["username"] == ACCOUNT and "responseStatus" in row]


def used(plane: ControlPlane) -> set[tuple[str, str, str]]:
    """Which rights were used: group, resource and verb."""
    found = set()
    for row in entries(plane):
        if place := row.get("objectRef"):
            part = f"/{place['subresource']}" if "subresource" in place else ""
            found.add((place.get("apiGroup", ""), f"{place['resource']}{part}", row["verb"]))
    return found


def wanted(plane: ControlPlane) -> set[tuple[str, str, str]]:
    """All rights on what this cluster serves; of owners, those on jobs. Events aren't audited."""
    groups = {""} | {row["name"] for row in plane.api.get("/apis").json()["groups"]}
    native = any(
        row["name"] == "podgroups"
        for version in ("v1beta1", "v1alpha3")
        for row in plane.api.get(f"/apis/scheduling.k8s.io/{version}").json().get("resources", [])
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
def daemons(helm: Helm, installed: list[Document]) -> Iterator[Document]:
    """The chart with agents."""
    helm.run(
        "upgrade", "gpumax", str(CHART), "-n", SPACE, "--set", "agent.enabled=true,agent.devices=1xH100:80Gi"
    )
    made = [one for one in yaml.safe_load_all(helm.run("get", "manifest", "gpumax", "-n", SPACE)) if one]
    yield only(made, "DaemonSet", "gpumax-agent")
    helm.run("rollback", "gpumax", "-n", SPACE)


def test_an_agent_gives_containers_their_part(
    plane: ControlPlane, daemons: Document, scheduler: Running, webhook: Program, stage: Installed
) -> None:
    """Started as the chart's daemon set would start it, with a token that the kubelet would get for it."""
    stage.node("n1", 0)
    (container,) = daemons["spec"]["template"]["spec"]["containers"]
    node = f"{stage.name}-n1"
    body = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "agent", "namespace": SPACE},
        "spec": {"nodeName": node, "serviceAccountName": "gpumax-agent", "containers": [{"name": "a", "image": "a"}]},
    }  # fmt: skip
    pod = plane.api.post(f"/api/v1/namespaces/{SPACE}/pods", json=body).raise_for_status().json()
    with TemporaryDirectory(prefix="gpumax-") as folder:
        kubelet = Kubelet(Path(folder))
        words = [word.replace("/var/lib/kubelet", folder) for word in container["args"]]
        config = plane.kubeconfig_of_account(SPACE, "gpumax-agent", pod)
        program = Program(
            [sys.executable, "-m", "gpumax.apps.cli.main", *words, "--cdi-dir", str(kubelet.cdi)],
            Path(folder) / "agent.log",
            env={"KUBECONFIG": str(config), "NODE_NAME": node},
        )
        program.start()
        mine = f"{SLICES}/gpumax.dev-{node}"
        eventually(lambda: plane.api.get(mine).status_code == 200, "its devices are published", program)
        stage.pod("half", stage.queue("q", 1), 0, annotations={"gpu-fraction": "0.5"})
        eventually(lambda: stage.where("half") == ["n1"], "a pod gets its part", scheduler.program)
        eventually(lambda: kubelet.look() == ["gpu.gpumax.dev"], "the kubelet knows it", program)
        (claim,) = plane.api.get(f"/apis/resource.k8s.io/v1/namespaces/{stage.name}/resourceclaims").json()[
            "items"
        ]
        assert kubelet.added(kubelet.prepare(claim)).env["GPUMAX_SHARE"] == "0.5"
        program.stop()
        assert "Traceback" not in program.said()
    plane.api.delete(mine)
    plane.api.delete(f"/api/v1/namespaces/{SPACE}/pods/agent")


def test_who_edits_a_namespace_edits_its_gangs(plane: ControlPlane, stage: Installed) -> None:
    """By the usual role of Kubernetes; queues are not theirs."""
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "team"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": stage.name}],
    }  # fmt: skip
    stage.post(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{stage.name}/rolebindings", binding)
    with plane.client(stage.name) as team:
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


def test_what_it_may_not_is_refused(plane: ControlPlane, installed: list[Document]) -> None:
    """Asked of the API server itself, as that account."""
    for group, resource, verb in (
        ("", "secrets", "get"), ("", "pods", "create"), ("", "pods", "delete"), ("", "nodes", "patch"),
        ("gpumax.dev", "queues", "delete"), ("rbac.authorization.k8s.io", "clusterroles", "create"),
        ("apiextensions.k8s.io", "customresourcedefinitions", "create"),
    ):  # fmt: skip
        review = {
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": ACCOUNT, "groups": ["system:authenticated"],
                     "resourceAttributes": {"group": group, "resource": resource, "verb": verb}},
        }  # fmt: skip
        answer = plane.api.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", json=review)
        assert answer.json()["status"]["allowed"] is False, (group, resource, verb)


def webhooks_own(plane: ControlPlane) -> tuple[object, ...]:
    """What the webhook writes: its certificates, and whom the API server is to trust."""
    secret = plane.api.get(f"/api/v1/namespaces/{SPACE}/secrets/gpumax-webhook-certificates").json()
    trusted = [hook["clientConfig"].get("caBundle") for hook in plane.api.get(HOOKS).json()["webhooks"]]
    return secret.get("data"), *trusted


def test_an_upgrade_changes_our_kinds(
    plane: ControlPlane, helm: Helm, certified: tuple[Program, int], tmp_path: Path
) -> None:
    """A newer chart with another field of a queue: the API server knows the field after `helm upgrade`.

    What the webhook wrote meanwhile, its certificates and whom to trust, stays.
    """
    before = webhooks_own(plane)
    assert all(before), before
    newer = tmp_path / "gpumax"
    shutil.copytree(CHART, newer)
    path = newer / "files" / "crds" / "queues.yaml"
    body = yaml.safe_load(path.read_text())
    spec = body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["tomorrow"] = {"type": "string"}
    path.write_text(yaml.safe_dump(body))
    helm.run("upgrade", "gpumax", str(newer), "-n", SPACE)
    try:
        known = plane.api.get(f"{CRDS}/queues.gpumax.dev").json()
        schema = known["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        assert "tomorrow" in schema["properties"]["spec"]["properties"]
        assert webhooks_own(plane) == before
    finally:
        helm.run("rollback", "gpumax", "-n", SPACE)


def test_queues_stay_when_the_chart_goes_and_it_can_come_back(
    plane: ControlPlane, helm: Helm, installed: list[Document]
) -> None:
    """`helm uninstall` takes the scheduler and its rights, and no queue."""
    queue = {
        "apiVersion": "gpumax.dev/v1alpha1",
        "kind": "Queue",
        "metadata": {"name": "stays"},
        "spec": {"quota": {"gpu": 1}},
    }
    assert plane.api.post(QUEUES, json=queue).status_code == 201
    helm.run("uninstall", "gpumax", "-n", SPACE)
    assert plane.api.get(f"{QUEUES}/stays").status_code == 200
    assert plane.api.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/gpumax").status_code == 404
    assert plane.api.get(f"/apis/apps/v1/namespaces/{SPACE}/deployments/gpumax").status_code == 404
    helm.run("install", "gpumax", str(CHART), "-n", SPACE)
    plane.api.delete(f"{QUEUES}/stays")
