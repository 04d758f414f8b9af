"""What a scheduler says of itself while it runs: whether it lives and is ready, what it counts, and to whom it says so."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from controlplane.plane import ControlPlane
from controlplane.processes import Program, eventually, free_ports
from controlplane.stage import QUEUES, Document, Stage

SPACE = "/api/v1/namespaces/default"
ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"


class Scheduler:
    """One process that listens."""

    def __init__(
        self, plane: ControlPlane, home: Path, name: str, *options: str, host: str = "127.0.0.1"
    ) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.log = home / f"{name}.log"
        argv = [
            sys.executable,
            "-m",
            "gpumax.apps.cli.main",
            "up",
            "--kubernetes",
            "--data",
            str(home / name),
        ]
        env = {"KUBECONFIG": str(plane.kubeconfig(name, "system:masters"))}
        self.program = Program([*argv, "--listen", f"{host}:{port}", *options], self.log, env=env)

    def ask(self, path: str, token: str = "") -> tuple[int, str]:
        """The answer; 0 where there is none."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            answer = httpx.get(self.url + path, headers=headers, trust_env=False)
        except httpx.TransportError:
            return 0, ""
        return answer.status_code, answer.text

    def sample(self, name: str) -> float:
        """A metric without labels."""
        families = text_string_to_metric_families(self.ask("/metrics")[1])
        return next(one.value for family in families for one in family.samples if one.name == name)


@contextmanager
def running(*schedulers: Scheduler) -> Iterator[None]:
    """They run, and end in order."""
    with ExitStack() as stack:
        for each in schedulers:
            each.program.start()
            stack.callback(each.program.stop)
        yield


def token(plane: ControlPlane, name: str) -> str:
    """Of a service account of the namespace `default`, made for it."""
    plane.api.post(f"{SPACE}/serviceaccounts", json={"metadata": {"name": name}}).raise_for_status()
    answer = plane.api.post(
        f"{SPACE}/serviceaccounts/{name}/token", json={"spec": {"expirationSeconds": 600}}
    )
    found: str = answer.raise_for_status().json()["status"]["token"]
    return found


def may_read_metrics(plane: ControlPlane, name: str) -> None:
    """As docs/how-to/kubernetes.md has it."""
    role = {"metadata": {"name": name}, "rules": [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]}
    plane.api.post(ROLES, json=role).raise_for_status()
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}],
    }
    plane.api.post(BINDINGS, json=binding).raise_for_status()


def status(stage: Stage, path: str) -> Document:
    """Of an object; empty where it has none."""
    found: Document = stage.api.get(path).json().get("status", {})
    return found


def columns(stage: Stage, path: str) -> dict[str, object]:
    """One object as `kubectl get` prints it."""
    table = stage.api.get(path, headers={"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}).json()
    names = [column["name"] for column in table["columnDefinitions"]]
    return dict(zip(names, table["rows"][0]["cells"], strict=True))


def test_queues_and_gangs_say_how_they_are(stage: Stage) -> None:
    """What a queue may hold, holds and waits for; how far a gang has come, and why it waits; as columns, too."""
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    gangs = f"/apis/gpumax.dev/v1alpha1/namespaces/{stage.name}/gangs"
    stage.post(
        gangs,
        {"apiVersion": "gpumax.dev/v1alpha1", "kind": "Gang", "metadata": {"name": "g"}, "spec": {"min": 2}},
    )
    stage.pod("first", queue, 3)
    stage.steer()
    eventually(
        lambda: status(stage, f"{QUEUES}/{queue}").get("allocated", {}).get("gpu") == "3",
        "it says what it holds",
    )
    assert status(stage, f"{gangs}/g")["state"] == "Empty"
    for number in range(2):
        stage.pod(f"g{number}", queue, labels={"gpumax.dev/gang": "g"})
    eventually(lambda: status(stage, f"{gangs}/g").get("state") == "Waiting", "the gang says that it waits")
    (ready,) = status(stage, f"{gangs}/g")["conditions"]
    assert (ready["status"], ready["reason"]) == ("False", "GangNoRoom")
    eventually(
        lambda: status(stage, f"{QUEUES}/{queue}")["waiting"].get("gpu") == "2", "the queue says what waits"
    )
    found = columns(stage, f"{QUEUES}/{queue}")
    assert (found["Quota"], found["Allocated"], found["Waiting"], found["Ready"]) == ("4", "3", 1, "True")
    stage.api.delete(f"{stage.pods_path}/first")
    eventually(lambda: status(stage, f"{gangs}/g").get("state") == "Running", "the gang runs, and says so")
    found = columns(stage, f"{gangs}/g")
    assert (found["Min"], found["State"], found["Running"]) == (2, "Running", 2)
    assert not found["Why"]


def test_a_queue_with_nonsense_in_it_says_what_until_it_is_mended(stage: Stage) -> None:
    """Its work waits meanwhile, and that of others runs."""
    stage.node("n1", 4)
    sound = stage.queue("sound", 2)
    lost = stage.queue("lost", 2, parent=f"{stage.name}-top")
    stage.pod("here", sound)
    stage.pod("there", lost)
    stage.steer()
    eventually(lambda: stage.where("here") == ["n1"], "the sound one runs")
    eventually(lambda: "conditions" in status(stage, f"{QUEUES}/{lost}"), "the other says something")
    (ready,) = status(stage, f"{QUEUES}/{lost}")["conditions"]
    assert (ready["status"], ready["reason"]) == ("False", "Invalid")
    assert ready["message"] == f'spec.parent: found "{stage.name}-top"; wanted a queue that exists'
    assert stage.where("there") == [""]
    stage.queue("top", 2)
    eventually(lambda: stage.where("there") == ["n1"], "its work runs when there is one")
    eventually(lambda: columns(stage, f"{QUEUES}/{lost}")["Ready"] == "True", "and it says so")


def test_status_costs_few_writes_however_much_happens(stage: Stage) -> None:
    """At most one an object and look, and none where nothing is new."""
    stage.node("n1", 64)
    queue = stage.queue("a", 64)
    stage.steer()
    for number in range(32):
        stage.pod(f"p{number}", queue)
    eventually(lambda: "" not in stage.where(), "all are bound")
    eventually(
        lambda: status(stage, f"{QUEUES}/{queue}").get("allocated", {}).get("gpu") == "32", "it says so"
    )
    stage.cluster.settle()
    writes = [
        row
        for row in stage.plane.audited()
        if row.get("objectRef", {}).get("name") == queue and row["verb"] == "patch"
    ]
    assert 0 < len(writes) < 12
    binds = [row["requestReceivedTimestamp"] for row in stage.plane.audited() if _is_bind(row, stage.name)]
    assert writes[-1]["requestReceivedTimestamp"] > binds[-1]


def _is_bind(row: Document, space: str) -> bool:
    about: dict[str, str] = row.get("objectRef", {})
    return about.get("subresource") == "binding" and about.get("namespace") == space


def test_two_replicas_are_ready_and_one_of_them_steers(prepared: ControlPlane, tmp_path: Path) -> None:
    """The other says that it is ready to take over, which it does when the first is gone."""
    lease = f"default/l{uuid.uuid4().hex[:8]}"
    options = ("--lease", lease, "--log-format", "json")
    first, second = (Scheduler(prepared, tmp_path, f"replica-{number}", *options) for number in (1, 2))
    with running(second):
        with running(first):
            programs = first.program, second.program
            eventually(
                lambda: {first.ask("/readyz")[0], second.ask("/readyz")[0]} == {200},
                "both are ready",
                *programs,
            )
            eventually(
                lambda: first.sample("gpumax_leader") + second.sample("gpumax_leader") == 1,
                "one steers",
                *programs,
            )
            assert first.ask("/healthz") == second.ask("/healthz") == (200, "ok\n")
            said = {first.ask("/readyz")[1], second.ask("/readyz")[1]}
            assert said == {"ready, and steers\n", "ready to take over; another replica steers\n"}
        eventually(lambda: second.sample("gpumax_leader") == 1, "the other steers", second.program)
        assert second.ask("/readyz") == (200, "ready, and steers\n")
    for line in (*first.log.read_text().splitlines(), *second.log.read_text().splitlines()):
        assert {"ts", "level", "logger", "message"} <= json.loads(line).keys()


def test_who_may_read_metrics_off_loopback_the_cluster_says(prepared: ControlPlane, tmp_path: Path) -> None:
    """By the caller's own token; no token gets into the log."""
    name = f"reader-{uuid.uuid4().hex[:8]}"
    reader, other = token(prepared, name), token(prepared, f"{name}-not")
    may_read_metrics(prepared, name)
    scheduler = Scheduler(prepared, tmp_path, "replica-1", host="0.0.0.0")
    with running(scheduler):
        eventually(lambda: scheduler.ask("/readyz")[0] == 200, "it is ready", scheduler.program)
        assert scheduler.ask("/metrics")[0] == 401
        assert scheduler.ask("/metrics", "nonsense")[0] == 401
        assert scheduler.ask("/metrics", other)[0] == 403
        status, text = scheduler.ask("/metrics", reader)
        assert status == 200
        assert "gpumax_watch_age_seconds" in text
    assert reader not in scheduler.log.read_text()


def test_readiness_goes_with_the_lease_and_life_does_not(prepared: ControlPlane, tmp_path: Path) -> None:
    """A replica that may not look at its lease could never take over: it says so, and is not started anew for that."""
    scheduler = Scheduler(prepared, tmp_path, "replica-1", "--lease", "nowhere/gpumax")
    with running(scheduler):
        words = 'namespaces "nowhere" not found'
        eventually(lambda: words in scheduler.ask("/readyz")[1], "it says what is missing", scheduler.program)
        assert scheduler.ask("/readyz")[0] == 503
        assert scheduler.ask("/healthz") == (200, "ok\n")


@pytest.mark.parametrize(
    "options", [("--listen", "8080"), ("--log-format", "xml"), ("--dry-run", "--install")]
)
def test_what_cannot_be_is_refused_before_anything_is_done(
    prepared: ControlPlane, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """In a line, without a traceback."""
    scheduler = Scheduler(prepared, tmp_path, "replica-1", *options)
    with running(scheduler):
        eventually(scheduler.program.ended, "it ends")
    said = scheduler.log.read_text()
    assert said
    assert "Traceback" not in said
