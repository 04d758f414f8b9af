"""What a scheduler says of itself while it runs: whether it lives and is ready, what it counts, and to whom it says so."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import uuid
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from threading import Thread

import pytest
import yaml

from controlplane.guards import may
from controlplane.plane import ControlPlane
from controlplane.processes import Program, eventually
from controlplane.schedulers import Scheduler, running
from controlplane.stage import QUEUES, Document, Stage
from gpumax.apps.scheduler.trial import Trial, suppose
from gpumax.engines.kubernetes.client.kubeconfig import access_from
from gpumax.engines.kubernetes.status.keeper import EVERY_S
from gpumax.engines.kubernetes.trial import TrialCluster
from gpumax.loop.beside import Beside
from gpumax.loop.steer import Steering
from gpumax.model.snapshot import Policy
from gpumax.policy.decide import decide
from gpumax.ports.clock import SystemClock
from gpumax.ports.journal import MemoryJournal

SPACE = "/api/v1/namespaces/default"
ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"


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
    metrics = {"nonResourceAttributes": {"path": "/metrics", "verb": "get"}}
    account = f"system:serviceaccount:default:{name}"
    eventually(lambda: may(plane, account, metrics), "the API server has heard of it")


def status(stage: Stage, path: str) -> Document:
    """Of an object; empty where it has none."""
    found: Document = stage.api.get(path).json().get("status", {})
    return found


def condition(stage: Stage, path: str) -> tuple[str, str]:
    """The one condition of an object, and its reason; empty where it has none."""
    rows = status(stage, path).get("conditions", [])
    return (rows[0]["status"], rows[0]["reason"]) if rows else ("", "")


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
    eventually(
        lambda: status(stage, f"{gangs}/g").get("state") == "Empty", "the gang says that it has no pods"
    )
    for number in range(2):
        stage.pod(f"g{number}", queue, labels={"gpumax.dev/gang": "g"})
    eventually(
        lambda: condition(stage, f"{gangs}/g") == ("False", "GangNoRoom"), "the gang says why it isn't ready"
    )
    assert status(stage, f"{gangs}/g")["state"] == "Waiting"
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
    eventually(
        lambda: condition(stage, f"{QUEUES}/{lost}") == ("False", "Invalid"), "the other says what is wrong"
    )
    (ready,) = status(stage, f"{QUEUES}/{lost}")["conditions"]
    assert ready["message"] == f'spec.parent: found "{stage.name}-top"; wanted a queue that exists'
    assert stage.where("there") == [""]
    stage.queue("top", 2)
    eventually(lambda: stage.where("there") == ["n1"], "its work runs when there is one")
    eventually(lambda: columns(stage, f"{QUEUES}/{lost}")["Ready"] == "True", "and it says so")


def test_a_queue_may_demote_work_that_has_held_much(stage: Stage) -> None:
    """The steps are read as a file has them; what is no number is refused where it is written."""
    stage.node("n1", 4)
    fresh = stage.queue("fresh", 1)
    queue = stage.queue("a", 2, demote=[1, "2.5"], fresh=fresh)
    stage.steer()
    stage.pod("p", queue)
    eventually(lambda: stage.where() == ["n1"], "it is bound")
    eventually(
        lambda: status(stage, f"{QUEUES}/{fresh}").get("allocated", {}).get("gpu") == "1",
        "it counts as fresh",
    )
    body = {
        "apiVersion": "gpumax.dev/v1alpha1",
        "kind": "Queue",
        "metadata": {"name": f"{stage.name}-wrong"},
        "spec": {"demote": ["much"]},
    }
    refused = stage.api.post(QUEUES, json=body)
    assert refused.status_code == 422
    assert "wanted a number of GPU hours" in refused.text


def test_status_costs_few_writes_however_much_happens(stage: Stage) -> None:
    """One an object and look, and those come well apart."""
    stage.node("n1", 64)
    queue = stage.queue("a", 64)
    stage.steer()
    for number in range(32):
        stage.pod(f"p{number}", queue)
    eventually(lambda: "" not in stage.where(), "all are bound")
    eventually(
        lambda: status(stage, f"{QUEUES}/{queue}").get("allocated", {}).get("gpu") == "32", "it says so"
    )
    told = [
        datetime.fromisoformat(row["requestReceivedTimestamp"])
        for row in stage.happened()
        if row.get("objectRef", {}).get("name") == queue and row["verb"] == "patch"
    ]
    assert told
    assert all(later - earlier >= timedelta(seconds=EVERY_S) for earlier, later in pairwise(told))


def test_each_bind_and_eviction_is_one_line(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """With what a machine needs to know of it beside the sentence."""
    caplog.set_level(logging.INFO, "gpumax")
    stage.node("n1", 1)
    a, b = stage.queue("a", 1), stage.queue("b", 0)
    stage.steer()
    stage.pod("b0", b)
    eventually(lambda: stage.where("b0") == ["n1"], "b is bound")
    stage.pod("a0", a)
    eventually(lambda: stage.where("a0") == ["n1"], "a is bound")
    stage.cluster.settle()
    acts = [
        row.context
        for row in caplog.records
        if hasattr(row, "context") and row.context["event"] != "leadership"
    ]
    where = {"node": f"{stage.name}-n1", "outcome": "done"}
    first, second = ({"pod": f"{stage.name}/{pod}", "queue": queue, "workload": f"{stage.name}/pod/{pod}", **where} for pod, queue in (("b0", b), ("a0", a)))  # fmt: skip
    gone = {**first, "event": "evict", "cause": "reclaim", "beneficiary": f"{stage.name}/pod/a0"}
    assert acts == [{**first, "event": "bind"}, gone, {**second, "event": "bind"}]


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
            eventually(
                lambda: first.ask("/healthz") == second.ask("/healthz") == (200, "ok\n"),
                "both live",
                *programs,
            )
            words = {"ready, and steers\n", "ready to take over; another replica steers, epoch 1\n"}
            eventually(
                lambda: {first.ask("/readyz")[1], second.ask("/readyz")[1]} == words,
                "both say which they are",
                *programs,
            )
        eventually(lambda: second.sample("gpumax_leader") == 1, "the other steers", second.program)
        eventually(
            lambda: second.ask("/readyz") == (200, "ready, and steers\n"), "it says so", second.program
        )
    for line in (*first.said().splitlines(), *second.said().splitlines()):
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
    assert reader not in scheduler.said()


def test_readiness_goes_with_the_lease_and_life_does_not(prepared: ControlPlane, tmp_path: Path) -> None:
    """A replica that may not look at its lease could never take over: it says so, and is not started anew for that."""
    scheduler = Scheduler(prepared, tmp_path, "replica-1", "--lease", "nowhere/gpumax")
    with running(scheduler):
        words = "there is no namespace nowhere, so this replica schedules nothing"
        eventually(lambda: words in scheduler.ask("/readyz")[1], "it says what is missing", scheduler.program)
        assert scheduler.ask("/readyz")[0] == 503
        eventually(lambda: scheduler.ask("/healthz") == (200, "ok\n"), "it lives", scheduler.program)


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
    assert scheduler.said()
    assert "Traceback" not in scheduler.said()


class Onlooker:
    """A dry run beside a stage."""

    def __init__(self, stage: Stage, home: Path, **supposed: object) -> None:
        self.lines: list[dict[str, object]] = []
        self.steering: Steering
        self.cluster = TrialCluster(
            access_from((stage.plane.kubeconfig(),)), lambda: self.steering.wake(), scheduler=stage.name
        )
        policy = Policy()
        if supposed:
            file = home / "supposed.yaml"
            file.write_text(json.dumps(supposed))
            policy, self.cluster.queues = suppose(file)
        trial = Trial(
            Beside(decide, self.cluster.told_to_go), "json", lambda line: self.lines.append(json.loads(line))
        )
        self.steering = Steering(
            self.cluster, MemoryJournal(), SystemClock(), policy, dry=True, hearers=[trial.hear]
        )
        self._end = trial.end
        self._thread = Thread(target=self.steering.run, daemon=True)

    def __enter__(self) -> Onlooker:
        self.cluster.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.steering.stop()
        self._thread.join()
        self.cluster.close()
        self._end()

    def saw(self, stage: Stage) -> bool:
        """Whether it has seen all pods where they are."""
        seen = self.steering.last
        found = (
            {
                task.name.partition("/")[2]: task.node or ""
                for row in seen.snapshot.workloads
                for task in row.tasks
            }
            if seen
            else {}
        )
        return found == {name: pod["spec"].get("nodeName", "") for name, pod in stage.pods().items()}


def story(stage: Stage, *others: Onlooker) -> None:
    """Work comes, queue b uses what a leaves, and a takes back what it is due."""
    a, b = stage.queue("a", 4), stage.queue("b", 4)
    stage.node("n1", 4)
    stage.node("n2", 4)
    stage.steer()
    for number in range(6):
        stage.pod(f"b{number}", b)
    eventually(lambda: "" not in stage.where("b"), "b is bound")
    for number in range(4):
        stage.pod(f"g{number}", a, labels={"gpumax.dev/gang": "g"}, annotations={"gpumax.dev/min": "4"})
    eventually(lambda: len(stage.where("g")) == 4 and "" not in stage.where("g"), "a is bound")
    for other in others:
        eventually(lambda other=other: other.saw(stage), "the dry run has seen it")  # type: ignore[misc]


def test_a_dry_run_of_the_same_policy_differs_in_nothing(stage: Stage, tmp_path: Path) -> None:
    """And writes nothing, though it decides all of it."""
    with Onlooker(stage, tmp_path) as other:
        story(stage, other)
    *differ, summary = other.lines
    assert differ == []
    assert summary["kind"] == "summary"
    assert summary["same"] == 12
    assert set(other.cluster.counts.values()) == {0}


def test_a_dry_run_of_other_queues_names_what_would_differ(stage: Stage, tmp_path: Path) -> None:
    """b may have no more than two at a time, so two of its six would never have started, nor be evicted."""
    queues = [{"name": f"{stage.name}-a", "quota": {"gpu": 4, "cpu": "unlimited", "memory": "unlimited"}}]
    queues.append({"name": f"{stage.name}-b", "quota": {"gpu": 2}, "limit": {"gpu": 2}})
    with Onlooker(stage, tmp_path, version="gpumax/v1", queues=queues) as other:
        story(stage, other)
    *differ, summary = other.lines
    started = [line for line in differ if line["kind"] == "started"]
    assert len(started) >= 4
    assert {line["ours"] for line in started} == {"OverLimit"}
    assert {line["queue"] for line in started} == {f"{stage.name}-b"}
    assert summary["started"] == len(started)


def test_a_dry_run_is_a_command(plane: ControlPlane, stage: Stage, tmp_path: Path) -> None:
    """Beside the scheduler that runs, of the pods that it schedules; the sum at its end."""
    scheduler = Scheduler(plane, tmp_path, "replica-1", "--dry-run", "-o", "json", "--scheduler", stage.name)
    with running(scheduler):
        eventually(lambda: scheduler.ask("/readyz")[0] == 200, "it is ready", scheduler.program)
        stage.node("n1", 4)
        queue = stage.queue("a", 4)
        stage.steer()
        stage.pod("p", queue)
        eventually(lambda: stage.where("p") == ["n1"], "it is bound")
        eventually(
            lambda: (
                scheduler.ask("/metrics")[1].count(
                    f'gpumax_queue_allocated{{queue="{queue}",resource="gpu"}} 1.0'
                )
                == 1
            ),
            "the dry run has seen it",
        )
        assert scheduler.sample("gpumax_leader") == 0
    assert json.loads(scheduler.said().splitlines()[-1]) == {
        "kind": "summary", "same": 1, "elsewhere": 0, "started": 0, "waits": 0, "evicted": 0, "stays": 0,
    }  # fmt: skip


def test_it_can_be_ended_before_it_knows_the_cluster(stage: Stage, tmp_path: Path) -> None:
    """Who may not list what it needs is told each kind, and needn't wait until it gives up."""
    program = Program(
        [
            sys.executable,
            "-m",
            "gpumax.apps.cli.main",
            "up",
            "--kubernetes",
            "--dry-run",
            "--data",
            str(tmp_path),
        ],
        tmp_path / "log",
        env={"KUBECONFIG": str(stage.plane.kubeconfig("newcomer"))},
    )
    program.start()
    try:
        eventually(lambda: "pods is forbidden" in program.said(), "it says what it may not", program)
        program.signal(signal.SIGINT)
        eventually(program.ended, "it ends")
        assert "not all is known" not in program.said()
        assert "Traceback" not in program.said()
    finally:
        program.stop()


@pytest.mark.parametrize(("proof", "told"), [("nonsense", "doesn't know you"), ("", "is forbidden")])
def test_who_may_not_start_it_is_refused(stage: Stage, tmp_path: Path, proof: str, told: str) -> None:
    """In words, with the exit code of a refusal, as every other command."""
    config = yaml.safe_load(stage.plane.kubeconfig().read_text())
    config["users"][0]["user"] = {"token": proof} if proof else {}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [sys.executable, "-m", "gpumax.apps.cli.main", "up", "--kubernetes", "--install", "--data", str(tmp_path)],
        env={**os.environ, "KUBECONFIG": str(tmp_path / "kubeconfig")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("gpumax: cluster test")
    assert told in done.stderr
