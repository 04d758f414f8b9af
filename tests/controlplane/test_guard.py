"""What the API server itself keeps: policies that hold whoever asks, and whatever we believe."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import yaml

from controlplane.guards import apply, system_namespace
from controlplane.leftovers import heed
from controlplane.pilot import Pilot
from controlplane.plane import ControlPlane
from controlplane.processes import Program, eventually
from controlplane.stage import Document, Stage
from gpumax.engines.kubernetes import keys, quantities
from gpumax.engines.kubernetes.guard import NAMESPACE, kind_of, objects
from gpumax.engines.kubernetes.lease import Fence

SIGNED = "gpumax/1/a"
"""How the holder of the lease signs, as long as the fence of this module stands."""
SCHEDULER = f"system:serviceaccount:{NAMESPACE}:gpumax"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"


@pytest.fixture(scope="module")
def system(prepared: ControlPlane) -> ControlPlane:
    """The control plane with the namespace that we are installed in."""
    system_namespace(prepared)
    return prepared


@pytest.fixture(scope="module")
def scheduler(system: ControlPlane) -> Iterator[httpx.Client]:
    """The service account of the scheduler, here with all rights: what it may not do is the policies' to say."""
    with system.client(SCHEDULER, "system:masters") as client:
        yield client


@pytest.fixture(scope="module")
def fenced(system: ControlPlane) -> Iterator[ControlPlane]:
    """With the fence, in force, and a lease of epoch 1 that replica `a` holds."""
    made = apply(system, "fence")
    heed(system)
    hold(system, "a", 1)
    yield system
    for path in made:
        system.api.delete(path)
    system.api.delete(f"{LEASES}/gpumax")


def hold(plane: ControlPlane, holder: str, epoch: int) -> None:
    """Have this replica hold the lease, and the server know it."""
    spec = {"holderIdentity": holder, "leaseTransitions": epoch, "leaseDurationSeconds": 15}
    body = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "gpumax"},
        "spec": spec,
    }
    if plane.api.post(LEASES, json=body).status_code == 409:
        merge = {"Content-Type": "application/merge-patch+json"}
        plane.api.patch(f"{LEASES}/gpumax", json={"spec": spec}, headers=merge).raise_for_status()
    with plane.client(SCHEDULER, "system:masters") as client:
        eventually(
            lambda: (
                (tried(client, "").status_code, tried(client, f"gpumax/{epoch}/{holder}").status_code)
                == (403, 404)
            ),
            "the server knows who holds it",
        )


def tried(
    client: httpx.Client, stamp: str, namespace: str = "default", pod: str = "nobody"
) -> httpx.Response:
    """A bind that would be signed so, to nothing that there is: 404 once the policies let it pass."""
    return bind(client, stamp, namespace, pod, "nowhere", dry=True)


def bind(
    client: httpx.Client, stamp: str, namespace: str, pod: str, node: str, *, dry: bool = False, **meta: Any
) -> httpx.Response:
    """A bind that is signed so."""
    body = {
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod, "namespace": namespace, **meta},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    }  # fmt: skip
    query = ({"fieldManager": stamp} if stamp else {}) | ({"dryRun": "All"} if dry else {})
    return client.post(f"/api/v1/namespaces/{namespace}/pods/{pod}/binding", json=body, params=query)


def signatures(plane: ControlPlane, stage: Stage, pod: str) -> set[str]:
    """How the binds of a pod that the server carried out were signed."""
    return {
        parse_qs(urlsplit(entry["requestURI"]).query).get("fieldManager", [""])[0]
        for entry in plane.audited()
        if entry.get("objectRef", {}).get("subresource") == "binding"
        and (entry["objectRef"]["namespace"], entry["objectRef"]["name"]) == (stage.name, pod)
        and entry.get("responseStatus", {}).get("code") == 201
    }


@pytest.mark.parametrize("stamp", ["", "gpumax", "gpumax/0/a", "gpumax/1/b", "gpumax/2/a", "gpumax/1/a/"])
def test_binds_of_another_epoch_are_refused_by_the_server(
    fenced: ControlPlane, scheduler: httpx.Client, stamp: str
) -> None:
    """Whoever doesn't hold the lease, held it in an earlier epoch, or doesn't say: 403, in words that name both."""
    answer = tried(scheduler, stamp)
    assert answer.status_code == 403
    assert "is held by gpumax/1/a" in answer.json()["message"]


def test_writes_of_the_lease_s_epoch_pass_and_those_of_others_are_not_looked_at(
    fenced: ControlPlane, scheduler: httpx.Client
) -> None:
    """The holder's binds reach the pod registry, and so do those of whoever is not the scheduler."""
    assert tried(scheduler, "gpumax/1/a").status_code == 404
    with fenced.client("system:kube-scheduler", "system:masters") as other:
        assert tried(other, "").status_code == 404


def test_status_evictions_and_statuses_of_our_objects_are_fenced_alike(
    fenced: ControlPlane, scheduler: httpx.Client, stage: Stage
) -> None:
    """All that the scheduler writes, not binds alone."""
    stage.queue("team", 1)
    stage.pod("one", f"{stage.name}-team")
    merge = {"Content-Type": "application/merge-patch+json"}
    pod = f"{stage.pods_path}/one"
    asked: list[tuple[str, str, Document]] = [
        ("PATCH", f"{pod}/status", {"status": {"reason": "Told"}}),
        ("PATCH", f"/apis/gpumax.dev/v1alpha1/queues/{stage.name}-team/status", {"status": {}}),
        (
            "POST",
            f"{pod}/eviction",
            {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "one"}},
        ),
    ]
    for method, path, body in asked:
        headers = merge if method == "PATCH" else {}
        codes = [
            scheduler.request(
                method, path, json=body, headers=headers, params={"fieldManager": stamp}
            ).status_code
            for stamp in ("gpumax/0/z", "gpumax/1/a")
        ]
        assert codes[0] == 403, path
        assert codes[1] in (200, 201), path


def test_a_leader_whose_clock_stands_still_writes_nothing_once_another_holds_the_lease(
    fenced: ControlPlane,
) -> None:
    """Its own fence stays open for ever; the server refuses its writes, it notices, and the next leader's pass."""
    first, second = Fence(now_s=lambda: 0.0), Fence(now_s=lambda: 0.0)
    first.renewed(0.0, 1, "a")
    hold(fenced, "a", 1)
    stage = Stage(fenced, SCHEDULER, first)
    try:
        queue = stage.queue("team", 4)
        stage.node("n1", 4)
        stage.steer()
        stage.pod("before", queue)
        eventually(lambda: stage.where("before") == ["n1"], "the leader binds")
        hold(fenced, "b", 2)
        stage.pod("after", queue)
        eventually(lambda: stage.cluster.counts["fenced"] > 0, "it is told")
        assert stage.where("after") == [""]
        assert not first.open
        second.renewed(0.0, 2, "b")
        other = Pilot(fenced.kubeconfig(SCHEDULER, "system:masters"), stage.name, fence=second)
        try:
            other.steer()
            eventually(lambda: stage.where("after") == ["n1"], "the next leader binds")
        finally:
            other.close()
        assert signatures(fenced, stage, "after") == {"gpumax/2/b"}
    finally:
        stage.close()
        hold(fenced, "a", 1)


def test_a_lease_that_nobody_holds_lets_nobody_write(fenced: ControlPlane, scheduler: httpx.Client) -> None:
    """It was given up, or is empty: whoever held it last is not its holder."""
    merge = {"Content-Type": "application/merge-patch+json"}
    try:
        for spec in ({"holderIdentity": None}, None):
            body = {"spec": spec}
            fenced.api.patch(f"{LEASES}/gpumax", json=body, headers=merge).raise_for_status()
            eventually(lambda: tried(scheduler, SIGNED).status_code == 403, "the server knows it")
            assert {tried(scheduler, stamp).status_code for stamp in ("gpumax/1/", "gpumax/0/", "")} == {403}
    finally:
        hold(fenced, "a", 1)


def test_where_there_is_no_lease_nobody_is_fenced(fenced: ControlPlane, scheduler: httpx.Client) -> None:
    """Nobody can have taken over where there is nothing to take; and nobody else's binds fail for want of it."""
    fenced.api.delete(f"{LEASES}/gpumax").raise_for_status()
    try:
        eventually(lambda: tried(scheduler, "").status_code == 404, "the server knows that it is gone")
        with fenced.client("system:kube-scheduler", "system:masters") as other:
            assert tried(other, "").status_code == 404
    finally:
        hold(fenced, "a", 1)


@pytest.fixture(scope="module")
def decisions(system: ControlPlane) -> Iterator[ControlPlane]:
    """With the guard of decisions in force, and a tenant who may do anything to pods of namespace `tenants`."""
    made = apply(system, "decisions")
    made += grant(
        system, "tenants", "tenant", ["pods", "pods/status", "pods/binding", "pods/ephemeralcontainers"]
    )
    heed(system)
    yield system
    for path in reversed(made):
        system.api.delete(path)


def grant(plane: ControlPlane, namespace: str, user: str, resources: list[str]) -> list[str]:
    """A namespace where this user may do anything to these resources of the core; the paths of what was made."""
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    rules = [{"apiGroups": [""], "resources": resources, "verbs": ["*"]}]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user}
    who = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]
    for path, body in (
        ("/api/v1/namespaces", {"metadata": {"name": namespace}}),
        (f"{rbac}/roles", {"metadata": {"name": user}, "rules": rules}),
        (f"{rbac}/rolebindings", {"metadata": {"name": user}, "roleRef": role, "subjects": who}),
    ):
        assert plane.api.post(path, json=body).status_code in (201, 409)
    plane.await_account(namespace)
    return [f"{rbac}/rolebindings/{user}", f"{rbac}/roles/{user}"]


TENANTS = "/api/v1/namespaces/tenants/pods"


def made_by(
    client: httpx.Client, name: str = "p", *, dry: bool = True, scheduler: str = "gpumax",
    env: Document | None = None, node: str = "", where: str = "tenants", **meta: Any,
) -> httpx.Response:  # fmt: skip
    """What a tenant's pod is answered; it is kept where dry is False."""
    containers = [
        {
            "name": "main",
            "image": "none",
            "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
        }
    ]
    spec = {"schedulerName": scheduler, "containers": containers} | ({"nodeName": node} if node else {})
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **meta}, "spec": spec}
    path = f"/api/v1/namespaces/{where}/pods"
    return client.post(path, json=body, params={"dryRun": "All"} if dry else {})


PART = {"gpu-fraction": "0.5"}
GIVEN = {"gpumax.dev/devices": '{"devices": {}}'}


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (
            {"annotations": {"gpumax.dev/devices": '{"0":500}'}},
            "leave it out, and ask by gpumax.dev/gpu-fraction",
        ),
        ({"node": "n1"}, "the scheduler gpumax chooses the node"),
        ({"annotations": PART, "env": {"NVIDIA_VISIBLE_DEVICES": "all"}}, "leave them out of its env"),
        ({"labels": PART, "env": {"GPUMAX_SHARE": "1000"}}, "leave them out of its env"),
    ],
)
def test_a_tenant_can_name_neither_device_nor_node_nor_share(
    decisions: ControlPlane, words: Document, wrong: str
) -> None:
    """Refused in words that say what to do instead; pods of other schedulers are not looked at."""
    with decisions.client("tenant") as tenant:
        answer = made_by(tenant, **words)
        assert (answer.status_code, wrong in answer.json()["message"]) == (403, True), answer.text
        assert made_by(tenant, scheduler="default-scheduler", **words).status_code == 201
        fine: Document = {"env": {"PATH": "/bin"}, "labels": {"gpumax.dev/queue": "q"}, "annotations": PART}
        assert made_by(tenant, **fine).status_code == 201


def test_what_a_placed_pod_asked_for_stays_as_it_was(
    decisions: ControlPlane, scheduler: httpx.Client
) -> None:
    """By no way that leads to its metadata; a pod that waits may ask for something else, and other words may change."""
    name = "changes"
    merge = {"Content-Type": "application/merge-patch+json"}
    with decisions.client("tenant") as tenant:
        made_by(tenant, name, dry=False, labels={"gpumax.dev/queue": "mine", "app": "a"}).raise_for_status()
        try:

            def change(part: str = "", who: httpx.Client = tenant, **meta: Any) -> int:
                path = f"{TENANTS}/{name}{part}"
                return who.patch(path, json={"metadata": meta}, headers=merge).status_code

            assert change(labels={"gpumax.dev/queue": "ours"}) == 200
            assert change(annotations=GIVEN) == 403
            given = bind(tenant, "", "tenants", name, "n1", annotations=GIVEN)
            assert (given.status_code, "only the scheduler" in given.text) == (403, True)
            bind(scheduler, SIGNED, "tenants", name, "n1", annotations=GIVEN).raise_for_status()
            for part in ("", "/status"):
                for meta in (
                    {"labels": {"gpumax.dev/queue": "theirs"}}, {"labels": {"gpumax.dev/queue": None}},
                    {"labels": {"kai.scheduler/queue": "theirs"}}, {"annotations": {"runai/queue": "theirs"}},
                    {"annotations": {"gpu-fraction": "0.1"}}, {"annotations": {"priorityClassName": "inference"}},
                    {"annotations": {"gpumax.dev/devices": None}}, {"labels": {"gpumax.dev/preemptible": "false"}},
                ):  # fmt: skip
                    assert change(part, **meta) == 403, (part, meta)
                assert change(part, labels={"app": "b"}, annotations={"note": "x" * 200_000}) == 200
            assert change(who=scheduler, annotations={"gpumax.dev/devices": "[]"}) == 200
        finally:
            decisions.api.delete(f"{TENANTS}/{name}", params={"gracePeriodSeconds": 0})


def test_every_word_that_counts_is_guarded(decisions: ControlPlane) -> None:
    """A name that is added to those that are read, and not to the policy, would be one that tenants can change later."""
    policy = next(body for body in objects("decisions") if body["kind"] == "ValidatingAdmissionPolicy")
    rows = {row["name"]: row["expression"] for row in policy["spec"]["variables"]}
    pattern = rows["ours"].strip("'").replace("\\\\", "\\")
    assert [key for key in sorted(keys.READ) if not re.search(pattern, key)] == []
    assert all(f"'{key}'" in rows["asksForPart"] for key in (*keys.FRACTION, *keys.MEMORY))
    assert keys.GIVEN in str(policy["spec"]["validations"])


@pytest.fixture(scope="module")
def queues(system: ControlPlane) -> Iterator[ControlPlane]:
    """With the right to use queues required: `mine` and `too` are for the namespace `tenants`, `personal` for the tenant alone."""
    made = apply(system, "queues")
    made += grant(system, "tenants", "tenant", ["pods", "serviceaccounts"])
    made += allow(system, "tenants", "mine", {"kind": "Group", "name": "system:serviceaccounts:tenants"})
    made += allow(
        system, "tenants", "too", {"kind": "ServiceAccount", "name": "default", "namespace": "tenants"}
    )
    made += allow(system, "tenants", "personal", {"kind": "User", "name": "tenant"})
    heed(system)
    yield system
    for path in reversed(made):
        system.api.delete(path)


def allow(plane: ControlPlane, namespace: str, queue: str, who: Document) -> list[str]:
    """Let somebody use a queue from a namespace; the paths of what was made."""
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    rule = {"apiGroups": ["gpumax.dev"], "resources": ["queues"], "resourceNames": [queue], "verbs": ["use"]}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": queue}
    subject = who if who["kind"] == "ServiceAccount" else {"apiGroup": "rbac.authorization.k8s.io", **who}
    for path, body in (
        (f"{rbac}/roles", {"metadata": {"name": queue}, "rules": [rule]}),
        (f"{rbac}/rolebindings", {"metadata": {"name": queue}, "roleRef": role, "subjects": [subject]}),
    ):
        assert plane.api.post(path, json=body).status_code in (201, 409)
    return [f"{rbac}/roles/{queue}", f"{rbac}/rolebindings/{queue}"]


@pytest.mark.parametrize("key", keys.QUEUE)
@pytest.mark.parametrize("part", ["labels", "annotations"])
def test_a_pod_goes_only_to_queues_that_its_account_may_use(
    queues: ControlPlane, part: str, key: str
) -> None:
    """Whatever the name of the word, and where it stands. Who makes it says nothing: mostly that is a controller."""
    with queues.client("tenant") as tenant:
        made: dict[str, httpx.Response] = {}
        for queue in ("mine", "personal", "theirs", "default"):
            words: Document = {part: {key: queue}}
            made[queue] = made_by(tenant, **words)
        codes = {queue: answer.status_code for queue, answer in made.items()}
        assert codes == {"mine": 201, "personal": 403, "theirs": 403, "default": 403}
        wanted = "found queue theirs; wanted one that service account tenants/default may use"
        assert wanted in made["theirs"].json()["message"]


def test_the_rights_of_the_page_let_a_namespace_use_a_queue(queues: ControlPlane) -> None:
    """As docs/explanation/security.md has them, for its namespace and no other."""
    page = Path(__file__).parents[2] / "docs" / "explanation" / "security.md"
    text = page.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    queues.api.post("/api/v1/namespaces", json={"metadata": {"name": "team-a"}})
    queues.await_account("team-a")
    made = []
    for body in yaml.safe_load_all(text):
        path = kind_of(body).path(body["metadata"].get("namespace", ""))
        assert queues.api.post(path, json=body).status_code == 201
        made.append(f"{path}/{body['metadata']['name']}")
    label = {"gpumax.dev/queue": "research"}
    eventually(lambda: made_by(queues.api, where="team-a", labels=label).status_code == 201, "it may")
    assert made_by(queues.api, where="tenants", labels=label).status_code == 403
    for path in made:
        queues.api.delete(path)


def test_the_queue_of_the_namespace_counts_where_a_pod_says_none(queues: ControlPlane) -> None:
    """It was given by whoever may change namespaces; and the word of the pod goes first."""
    merge = {"Content-Type": "application/merge-patch+json"}

    def given(queue: str | None) -> None:
        body = {"metadata": {"labels": {"kai.scheduler/queue": queue}}}
        queues.api.patch("/api/v1/namespaces/tenants", json=body, headers=merge).raise_for_status()

    with queues.client("tenant") as tenant:
        assert made_by(tenant).status_code == 403
        given("mine")
        try:
            eventually(lambda: made_by(tenant).status_code == 201, "the namespace's queue is mine")
            assert made_by(tenant, labels={"runai/queue": "theirs"}).status_code == 403
        finally:
            given(None)
            eventually(lambda: made_by(tenant).status_code == 403, "it has none again")


def test_a_waiting_pod_can_move_only_to_queues_that_it_may_use(queues: ControlPlane) -> None:
    """What else changes about it is nobody's business here, also after a right was taken away."""
    merge = {"Content-Type": "application/merge-patch+json"}
    with queues.client("tenant") as tenant:
        made_by(tenant, "moves", dry=False, labels={"gpumax.dev/queue": "mine"}).raise_for_status()
        try:

            def change(part: str, value: str) -> int:
                body = {"metadata": {"labels": {part: value}}}
                return tenant.patch(f"{TENANTS}/moves", json=body, headers=merge).status_code

            assert change("gpumax.dev/queue", "theirs") == 403
            assert change("gpumax.dev/queue", "too") == 200
            assert change("app", "x") == 200
        finally:
            queues.api.delete(f"{TENANTS}/moves", params={"gracePeriodSeconds": 0})


def test_work_waits_with_a_condition_where_its_account_may_not_use_the_queue(
    system: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any policy in the API server, too; words of owners don't count; who runs keeps its place when the right goes."""
    monkeypatch.setattr("gpumax.engines.kubernetes.uses.KEPT_S", 0.1)
    stage = Stage(system, require_use=True)
    try:
        queue = stage.queue("team", 4)
        stage.node("n1", 4)
        stage.steer()
        stage.pod("p1", queue)
        eventually(lambda: stage.told("p1").get("reason") == "NotAllowed", "it is told")
        wanted = f'found "{queue}"; wanted a queue that service account {stage.name}/default may use'
        assert wanted in stage.told("p1")["message"]
        eventually(lambda: ("NotAllowed", "p1") in stage.events(), "an event says so, too")
        made = allow(
            system, stage.name, queue, {"kind": "Group", "name": f"system:serviceaccounts:{stage.name}"}
        )
        eventually(lambda: stage.where("p1") == ["n1"], "it may, and is placed")
        for path in made:
            system.api.delete(path)
        eventually(lambda: system.api.get(made[1]).status_code == 404, "the right is gone")
        stage.pod("p2", queue, gpus=4)
        eventually(lambda: stage.told("p2").get("reason") == "NotAllowed", "who comes later is told")
        assert stage.where("p1") == ["n1"]
    finally:
        stage.close()


def test_the_command_brings_the_policy_and_keeps_it(system: ControlPlane, tmp_path: Path) -> None:
    """`up --kubernetes --install --require-use`: refused at creation; where the policy is gone, the scheduler itself keeps a pod waiting."""
    argv = [sys.executable, "-m", "gpumax.apps.cli.main", "up", "--kubernetes", "--install", "--require-use"]
    env = {"KUBECONFIG": str(system.kubeconfig())}
    program = Program([*argv, "--data", str(tmp_path / "data")], tmp_path / "log", env=env)
    program.start()
    pod = f"{TENANTS}/waits"
    try:
        eventually(lambda: "steers pods" in program.said(), "it steers", program)
        grant(system, "tenants", "tenant", ["pods"])
        eventually(lambda: "gpumax-queues" in made_by(system.api).text, "it is in force", program)
        for body in objects("queues"):
            system.api.delete(f"{kind_of(body).path()}/{body['metadata']['name']}")
        eventually(lambda: made_by(system.api).status_code == 201, "it is gone")
        made_by(system.api, "waits", dry=False).raise_for_status()
        eventually(lambda: "NotAllowed" in system.api.get(pod).text, "the pod is told", program)
    finally:
        system.api.delete(pod, params={"gracePeriodSeconds": 0})
        program.stop()
    assert "Traceback" not in program.said()


def test_in_a_namespace_that_is_ours_alone_no_other_scheduler_gives_devices(system: ControlPlane) -> None:
    """Whatever the vendor and the container, claims included; pods without devices, and other namespaces, are not looked at."""
    made = apply(system, "only")
    space = {"metadata": {"name": "ours-alone", "labels": {"gpumax.dev/only": "true"}}}
    system.api.post("/api/v1/namespaces", json=space)
    system.await_account("ours-alone")
    (policy, _) = objects("only")
    listed = policy["spec"]["variables"][0]["expression"]
    assert all(f"'{name}'" in listed for name in (*quantities.GPUS, keys.PART))

    def refused(
        resource: str, scheduler: str = "default-scheduler", where: str = "ours-alone", **spec: Any
    ) -> bool:
        limits = {resource: "1"} if resource else {}
        one = {"name": "main", "image": "none", "resources": {"limits": limits}}
        body = {"metadata": {"name": "p"}, "spec": {"schedulerName": scheduler, "containers": [one], **spec}}
        path = f"/api/v1/namespaces/{where}/pods"
        return "'gpumax-only'" in system.api.post(path, json=body, params={"dryRun": "All"}).text

    try:
        eventually(lambda: refused("nvidia.com/gpu"), "it is in force")
        for resource in (*quantities.GPUS, "nvidia.com/mig-1g.10gb", keys.PART):
            assert refused(resource), resource
        first = [{"name": "first", "image": "none", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]
        assert refused("", initContainers=first)
        assert refused("", resourceClaims=[{"name": "c", "resourceClaimName": "c"}])
        assert not refused("")
        assert not refused("nvidia.com/gpu", "gpumax")
        assert not refused("nvidia.com/gpu", where="default")
    finally:
        for path in reversed(made):
            system.api.delete(path)
