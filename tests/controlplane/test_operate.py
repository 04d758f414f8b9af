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
