"""The same commands as on one machine, against a real API server with our scheduler; kubelets are played."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from controlplane.processes import eventually
from controlplane.stage import Stage
from gpumax.apps.cli import main


class Result(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What was printed, as JSON."""
        return json.loads(self.out)


Cli = Callable[..., Result]


@pytest.fixture
def cli(
    stage: Stage, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Cli:
    """Run one command line as the cluster's administrator, in the stage's namespace and an empty directory."""
    as_user(stage, monkeypatch, "admin")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        capfd.readouterr()
        code = main.run(arguments)
        return Result(code, *capfd.readouterr())

    return run


def as_user(stage: Stage, monkeypatch: pytest.MonkeyPatch, user: str) -> None:
    """From now on commands are this user's."""
    monkeypatch.setenv("KUBECONFIG", str(stage.plane.kubeconfig(user)))
    for name, value in (("ENGINE", "kubernetes"), ("NAMESPACE", stage.name), ("SCHEDULER", stage.name)):
        monkeypatch.setenv(f"GPUMAX_{name}", value)


def jobs(stage: Stage) -> dict[str, Any]:
    """Jobs of the namespace, by name."""
    rows = stage.api.get(f"/apis/batch/v1/namespaces/{stage.name}/jobs").json()["items"]
    return {row["metadata"]["name"]: row for row in rows}


def test_a_command_runs(stage: Stage, cli: Cli) -> None:
    """`run` says where it starts; `ps` and `show` tell the same, in the shapes of one machine, and which cluster answered."""
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    stage.steer()
    answer = cli("run", "-p", queue, "-n", "hello", "--gpu", "2", "--", "python", "-c", "print('$(HOME) $$')")
    assert answer.code == 0, answer.err
    assert f"namespace {stage.name}" in answer.err
    assert f"hello: starts on {stage.name}-n1" in answer.err or "hello: succeeded" in answer.err
    eventually(lambda: stage.where() == ["n1"], "its pod is bound")
    listed = cli("ps", "-a", "-o", "json").document
    assert listed["engine"] == {"name": "kubernetes", "context": "test", "namespace": stage.name}
    (row,) = listed["items"]
    assert (row["name"], row["project"], row["gpu"]) == ("hello", queue, 2)
    shown = cli("show", "hello", "-o", "json").document
    assert [task["node"] for task in shown["tasks"]] == [f"{stage.name}-n1"]
    assert shown["spec"]["run"] == ["python", "-c", "print('$(HOME) $$')"]
    (pod,) = stage.pods().values()
    assert pod["spec"]["containers"][0]["command"] == ["python", "-c", "print('$$(HOME) $$$$')"]


def test_why_work_waits(stage: Stage, cli: Cli) -> None:
    """What the scheduler wrote on its pods, and how that came about."""
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    stage.steer()
    answer = cli("run", "-p", queue, "-n", "big", "--gpu", "4", "--tasks", "2", "--", "true")
    assert answer.code == 0, answer.err
    assert "GangNoRoom" in answer.err
    eventually(lambda: "GangNoRoom" in cli("ps").out, "ps says why")
    told = cli("why", "big", "-o", "json").document
    assert told["hold"]["code"] == "GangNoRoom"
    assert "together" in " ".join(told["sentences"])
    assert {row["queue"] for row in told["derived"]} == {queue}


def test_what_a_cluster_cannot_honour_is_refused(stage: Stage, cli: Cli, tmp_path: Path) -> None:
    """All of it at once, with lines, and nothing is created, not even what is sound."""
    queue = stage.queue("a", 4)
    (tmp_path / "work.yaml").write_text(
        f"name: fine\nproject: {queue}\nrun: 'true'\n---\n"
        f"name: odd\nproject: {queue}\nrun: 'true'\npriority: 60\ntasks: {{min: 1, max: 2}}\nretries: {{max: 2}}\n"
    )
    answer = cli("apply", "-f", "work.yaml")
    assert answer.code == 2
    assert "line 8: priority: found 60" in answer.err
    assert "line 9: tasks: found 1 to 2" in answer.err
    assert "line 10: retries: found 2 for 2 tasks" in answer.err
    assert jobs(stage) == {}


def test_a_file_is_applied_once(stage: Stage, cli: Cli, tmp_path: Path) -> None:
    """Again it changes nothing; changed, it is told what can't change; deleted, all of it goes."""
    queue = stage.queue("a", 4)
    document = {"name": "gang", "project": queue, "tasks": 2, "run": "true", "workdir": "files"}
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "train.py").write_text("print('hello')")
    (tmp_path / "work.yaml").write_text(yaml.safe_dump(document))
    assert cli("apply", "-f", "work.yaml").code == 0
    made = jobs(stage)["gang"]
    assert made["spec"]["suspend"] is False
    again = cli("apply", "-f", "work.yaml")
    assert again.code == 0
    assert "submitted before" in again.err
    assert jobs(stage)["gang"]["metadata"]["uid"] == made["metadata"]["uid"]
    (tmp_path / "work.yaml").write_text(yaml.safe_dump({**document, "run": "false"}))
    changed = cli("apply", "-f", "work.yaml")
    assert changed.code == 3
    assert "run of it can't change" in changed.err
    for kind, name in (("services", "gang"), ("secrets", "gang-files")):
        path = f"/api/v1/namespaces/{stage.name}/{kind}/{name}"
        assert stage.api.get(path).json()["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
    assert cli("delete", "-y", "gang").code == 0
    eventually(lambda: jobs(stage) == {}, "the Job is gone")
    eventually(lambda: stage.api.get(path).status_code == 404, "what it owned has gone, too")
