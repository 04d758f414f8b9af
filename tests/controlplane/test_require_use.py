"""Where queues take the right to use them, and no policy of the API server keeps that: the scheduler does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from controlplane.guards import (
    TENANTS,
    allow,
    grant,
    made_by,
)
from controlplane.plane import ControlPlane
from controlplane.processes import Program, eventually
from controlplane.stage import Stage
from gpumax.engines.kubernetes.guard import kind_of, objects


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
