"""The same commands as on one machine, against a real API server with our scheduler; kubelets are played."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from controlplane.guards import may, on
from controlplane.kubelets import STAYS
from controlplane.plane import ControlPlane
from controlplane.processes import PATIENCE_S, eventually
from controlplane.stage import QUEUES, Stage
from gpumax.apps.cli import main
from gpumax.apps.cli.stream import messages
from gpumax.apps.kubernetes import look, submit
from gpumax.apps.kubernetes.door import ClusterApi, access
from gpumax.engines.kubernetes import keys


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
    # What a command says of its work at the end depends on what was said of that by then.
    monkeypatch.setattr(submit, "CODE_S", PATIENCE_S)

    def run(*arguments: str) -> Result:
        capfd.readouterr()
        code = main.run(arguments)
        return Result(code, *capfd.readouterr())

    return run


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands wait for the scheduler, however long it takes; so there has to be one."""
    monkeypatch.setattr(submit, "PATIENCE_S", PATIENCE_S)


def as_user(stage: Stage, monkeypatch: pytest.MonkeyPatch, user: str) -> None:
    """From now on commands are this user's."""
    monkeypatch.setenv("KUBECONFIG", str(stage.plane.kubeconfig(user)))
    for name, value in (("ENGINE", "kubernetes"), ("NAMESPACE", stage.name), ("SCHEDULER", stage.name)):
        monkeypatch.setenv(f"GPUMAX_{name}", value)


def jobs(stage: Stage) -> dict[str, Any]:
    """Jobs of the namespace, by name."""
    rows = stage.api.get(f"/apis/batch/v1/namespaces/{stage.name}/jobs").json()["items"]
    return {row["metadata"]["name"]: row for row in rows}


def test_a_command_runs(stage: Stage, cli: Cli, heard: None) -> None:
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


def test_why_work_waits(stage: Stage, cli: Cli, heard: None) -> None:
    """What the scheduler wrote on its pods, and how that came about."""
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    stage.steer()
    answer = cli("run", "-p", queue, "-n", "big", "--gpu", "4", "--tasks", "2", "--", "true")
    assert answer.code == 0, answer.err
    assert "big: waits: Gang" in answer.err  # maybe for its second pod, if that takes long to be made
    eventually(lambda: "GangNoRoom" in cli("ps").out, "ps says why")
    assert "2 x 4 GPUs together" in cli("why", "big").out
    told = cli("why", "big", "-o", "json").document
    assert told["hold"]["code"] == "GangNoRoom"
    assert "together" in " ".join(told["sentences"])
    assert {row["queue"] for row in told["derived"]} == {queue}


def test_why_tells_of_a_scheduler_that_is_silent(
    stage: Stage, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody steers, what has room doesn't start; that isn't told as if it did."""
    stage.node("n1", 4)
    assert cli("run", "-p", stage.queue("a", 4), "-n", "lost", "--gpu", "1", "--", "true").code == 0
    eventually(lambda: len(stage.pods()) == 1, "its pod is there")
    monkeypatch.setattr(look, "SILENT_MS", -1)
    assert "`gpumax doctor` tells whether one is there" in cli("why", "lost").out


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
    assert "gang would " in cli("plan", "-f", "work.yaml").out
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


def test_work_is_put_aside_and_ended(stage: Stage, cli: Cli) -> None:
    """Suspended it has no pods, resumed it has; stopped it stays on record, and is never resumed."""
    queue = stage.queue("a", 4)
    assert cli("run", "-p", queue, "-n", "one", "--", "true").code == 0
    eventually(lambda: len(stage.pods()) == 1, "its pod is made")
    assert cli("suspend", "one").code == 0
    eventually(lambda: stage.pods() == {}, "its pod is gone")
    assert cli("show", "one", "-o", "json").document["state"] == "suspended"
    assert "gpumax resume one" in cli("why", "one").out
    assert cli("resume", "one").code == 0
    eventually(lambda: len(stage.pods()) == 1, "its pod is made again")
    assert cli("stop", "one").code == 0
    eventually(lambda: cli("show", "one", "-o", "json").document["state"] == "stopped", "it is stopped")
    refused = cli("resume", "one")
    assert refused.code == 3
    assert "has been stopped already" in refused.err
    assert [row["name"] for row in cli("ps", "-a", "-o", "json").document["items"]] == ["one"]
    assert cli("ps", "-q").out == ""


def test_groups_are_one_gang(stage: Stage, cli: Cli, heard: None, tmp_path: Path) -> None:
    """Each is a Job of its own; they start together or not at all, and ranks go on from one to the next."""
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    stage.steer()
    document = {
        "name": "team", "project": queue, "run": "true", "workdir": "/",
        "groups": [
            {"name": "leader", "tasks": 1, "resources": {"gpu": 1}},
            {"name": "worker", "tasks": 2, "resources": {"gpu": 2}},
        ],
    }  # fmt: skip
    (tmp_path / "team.yaml").write_text(yaml.safe_dump(document))
    assert "team: waits: Gang" in cli("apply", "-f", "team.yaml").err
    eventually(lambda: stage.where() == ["", "", ""], "its pods are there, and wait")
    shown = cli("show", "team", "-o", "json").document
    assert [(task["index"], task["group"]) for task in shown["tasks"]] == [
        (0, "leader"),
        (1, "worker"),
        (2, "worker"),
    ]
    eventually(lambda: "GangNoRoom" in cli("ps").out, "it says why it waits")
    worker = jobs(stage)["team-worker"]["spec"]["template"]["spec"]["containers"][0]
    assert "RANK=$$r" in worker["command"][2]
    assert {"name": "MASTER_ADDR", "value": "team-leader-0.team"} in worker["env"]
    stage.node("n2", 4)
    eventually(lambda: "" not in stage.where(), "there is room, and all of them start")
    assert cli("delete", "-y", "team").code == 0
    eventually(lambda: jobs(stage) == {}, "both Jobs are gone")


def test_what_a_plan_says_comes_true(stage: Stage, cli: Cli, tmp_path: Path) -> None:
    """A plan tells who would start where and who would wait, and changes nothing."""
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    stage.steer()
    (tmp_path / "fits.yaml").write_text(f"project: {queue}\nresources: {{gpu: 4}}\nrun: 'true'\nworkdir: /\n")
    (tmp_path / "big.yaml").write_text(f"project: {queue}\nresources: {{gpu: 8}}\nrun: 'true'\nworkdir: /\n")
    fits = cli("plan", "fits.yaml")
    assert fits.code == 0, fits.err
    assert f"fits would start on {stage.name}-n1" in fits.out
    assert "would wait: NoNodeMatches" in cli("plan", "big.yaml").out
    assert jobs(stage) == {}


def test_the_whole_cluster_is_shown(stage: Stage, cli: Cli) -> None:
    """Board, nodes, GPUs and queues, for whoever may see them."""
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    stage.steer()
    stage.pod("p", queue, 2)
    eventually(lambda: stage.where() == ["n1"], "it is bound")
    node = f"{stage.name}-n1"
    assert node in cli("board").out
    (row,) = [row for row in cli("nodes", "-o", "json").document["items"] if row["name"] == node]
    assert (row["gpu"], row["tasks"]) == ({"total": 4, "free": 2}, 1)
    held = [
        row
        for row in cli("gpu", "list", "-o", "json").document["items"]
        if row["node"] == node and row["holders"]
    ]
    assert [one["holders"][0]["workload"] for one in held] == [f"{stage.name}/pod/p"] * 2
    # What an agent says of who shares its GPUs.
    beyond = {
        "pid": 77,
        "bytes": 3 << 30,
        "why": "it has declared nothing",
        "command": "",
        "workload": f"{stage.name}/p",
    }
    part = {
        "bytes": 38 << 30,
        "used": 0,
        "state": "idle",
        "holder": None,
        "serial": False,
        "residents": [],
        "unfenced": [beyond],
    }
    note = {"metadata": {"annotations": {keys.RESIDENTS: json.dumps({"0": part})}}}
    merge = {"Content-Type": "application/merge-patch+json"}
    assert stage.api.patch(f"/api/v1/nodes/{node}", json=note, headers=merge).status_code == 200
    line = f"UNFENCED: process 77 in pod {stage.name}/p uses 3Gi"
    assert line in cli("gpu", "list").out
    assert line in cli("board").out
    (own,) = [row for row in cli("queue", "list", "-o", "json").document["items"] if row["name"] == queue]
    assert own["running"] == 1
    assert {row["resource"]: row["allocated"] for row in own["shares"]}["gpu"] == 2


def test_queues_are_set_and_deleted(stage: Stage, cli: Cli) -> None:
    """In the words of one machine: what is not said stays, and a queue with work below it isn't deleted."""
    name = f"{stage.name}-q"
    assert cli("queue", "set", name, "--quota", "gpu=4,cpu=unlimited", "--weight", "gpu=0.5").code == 0
    assert cli("queue", "set", name, "--limit", "gpu=8", "--reclaim-min-runtime", "10m").code == 0
    shown = cli("queue", "show", name, "-o", "json").document
    assert (shown["quota"]["gpu"], shown["limit"]["gpu"], shown["weight"]["gpu"]) == (4, 8, 0.5)
    assert shown["quota"]["cpu"] == "unlimited"
    assert shown["reclaim_min_runtime"] == "10m"
    assert cli("queue", "set", name, "--demote", "0.5,10").code == 0
    assert cli("queue", "show", name, "-o", "json").document["demote"] == [0.5, 10]
    assert cli("queue", "set", name, "--limit", "gpu=").code == 0
    assert cli("queue", "show", name, "-o", "json").document["limit"]["gpu"] == "unlimited"
    stage.pod("p", name)
    refused = cli("queue", "delete", name)
    assert refused.code == 3
    assert "unfinished work" in refused.err
    stage.api.delete(f"{stage.pods_path}/p")
    eventually(lambda: cli("queue", "delete", name).code == 0, "without work it is deleted")


def test_what_happened_is_told(stage: Stage, cli: Cli) -> None:
    """From submit to end, in the order in which it happened, and after `after` only what is new."""
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    stage.steer()
    assert cli("run", "-p", queue, "-n", "one", "--gpu", "1", "--", "true").code == 0
    eventually(lambda: cli("show", "one", "-o", "json").document["state"] == "succeeded", "it is done")
    rows = cli("events", "one", "-o", "json").document["items"]
    kinds = [row["kind"] for row in rows]
    assert kinds[0] == "Submitted"
    assert kinds.index("Placed") < kinds.index("Succeeded")
    assert [row["seq"] for row in rows] == sorted({row["seq"] for row in rows})


def tenant(stage: Stage, name: str) -> None:
    """A user who may do in the stage's namespace what editors may, and nothing elsewhere."""
    stage.post(
        f"/apis/rbac.authorization.k8s.io/v1/namespaces/{stage.name}/rolebindings",
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
        },
    )  # fmt: skip
    what = on("jobs", "create", "batch", namespace=stage.name)
    eventually(lambda: may(stage.plane, name, what), "the API server has heard of it")


def test_a_tenant_needs_no_more_than_a_namespace(
    stage: Stage, cli: Cli, heard: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may see nothing of the cluster submits, looks and acts all the same, and is told what could not be seen."""
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    stage.steer()
    user = f"{stage.name}-user"
    tenant(stage, user)
    as_user(stage, monkeypatch, user)
    answer = cli("run", "-p", queue, "-n", "big", "--gpu", "8", "--tasks", "2", "--", "true")
    assert answer.code == 0, answer.err
    assert "waits" in answer.err
    eventually(lambda: "NoNodeMatches" in cli("why", "big").out, "it is told why it waits")
    assert "can't be seen from here" in cli("why", "big").out
    assert cli("board").code == 3
    planned = cli("run", "--dry-run", "-p", queue, "--", "true")
    assert planned.code == 0, planned.err
    assert "can't be seen from here" in planned.out
    assert cli("delete", "-y", "big").code == 0
    monkeypatch.setenv("GPUMAX_NAMESPACE", "default")
    refused = cli("run", "-p", queue, "--", "true")
    assert refused.code == 3
    assert "forbidden" in refused.err


def running(stage: Stage, cli: Cli, tmp_path: Path, **fields: Any) -> None:
    """The workload `lives`, whose tasks run until they are told to go."""
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    stage.steer()
    document = {
        "name": "lives",
        "project": queue,
        "run": "true",
        "workdir": "/",
        "labels": {STAYS: "yes"},
        **fields,
    }
    (tmp_path / "lives.yaml").write_text(yaml.safe_dump(document))
    assert cli("apply", "-f", "lives.yaml").code == 0

    def states() -> set[str]:
        return {task["state"] for task in cli("show", "lives", "-o", "json").document["tasks"]}

    eventually(lambda: states() == {"running"}, "all of it runs")


def test_what_tasks_print(plane: ControlPlane, stage: Stage, cli: Cli, tmp_path: Path) -> None:
    """As it is, with the task's name where there are several, or the last lines of it."""
    plane.prints("one\ntwo\nthree\n")
    running(stage, cli, tmp_path, tasks=2)
    eventually(lambda: "[lives-1] three" in cli("logs", "lives").out, "both print")
    assert cli("logs", "lives", "--task", "1").out == "one\ntwo\nthree\n"
    assert cli("logs", "lives", "--task", "0", "-n", "1").out == "three\n"
    refused = cli("logs", "lives", "--task", "7")
    assert refused.code == 2
    assert "wanted one of 0 to 1" in refused.err


@pytest.fixture
def opened(stage: Stage, cli: Cli) -> Iterator[ClusterApi]:
    """The way to the cluster that commands have, for what comes piece by piece."""
    api = ClusterApi(access(namespace=stage.name), stage.name)
    yield api
    api.close()


def test_logs_are_followed_to_the_end(
    plane: ControlPlane, stage: Stage, cli: Cli, tmp_path: Path, opened: ClusterApi
) -> None:
    """What is printed comes as it is printed; the last word is how the workload ended."""
    plane.prints("one\n")
    running(stage, cli, tmp_path)
    heard = messages(opened.open("GET", "/workloads/lives/tasks/0/log", query={"follow": 1}))
    assert next(heard).data == '"one\\n"'
    assert cli("stop", "lives").code == 0
    last = list(heard)[-1]
    assert (last.event, json.loads(last.data)) == ("end", {"state": "stopped"})


def test_a_command_beside_a_task(stage: Stage, cli: Cli, tmp_path: Path) -> None:
    """It prints here, on the stream that it printed on; who asks for a task that doesn't run is told so."""
    running(stage, cli, tmp_path)
    done = cli("exec", "lives", "--", "sh", "-c", "echo out; echo err >&2")
    assert (done.code, done.out) == (0, "out\n"), done.err
    assert "err\n" in done.err
    assert cli("stop", "lives").code == 0
    eventually(lambda: stage.pods() == {}, "its pod is gone")
    refused = cli("exec", "lives", "--", "true")
    assert refused.code == 3
    assert "task 0 of lives doesn't run" in refused.err


def hear(terminal: int, wanted: bytes) -> bytes:
    """What is printed there, up to this."""
    said = b""
    while wanted not in said:
        there, _, _ = select.select([terminal], [], [], PATIENCE_S)
        assert there, said
        said += os.read(terminal, 1024)
    return said


def test_a_terminal_is_lent(stage: Stage, cli: Cli, tmp_path: Path) -> None:
    """The command has a terminal where we have one; what is typed goes there, and ours is given back as it was."""
    running(stage, cli, tmp_path)
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    words = [
        "exec",
        "lives",
        "--",
        "sh",
        "-c",
        "test -t 0 && echo ready; read word; echo heard $word; read end",
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "gpumax.apps.cli.main", *words], stdin=theirs, stdout=theirs, stderr=theirs
    ) as program:
        try:
            hear(ours, b"ready")
            os.write(ours, b"a word\r")
            hear(ours, b"heard a word")
            os.write(ours, b"\r")
            assert program.wait(PATIENCE_S) == 0
        finally:
            program.kill()
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


def test_run_stays_until_the_end(plane: ControlPlane, stage: Stage, cli: Cli) -> None:
    """With -f it prints what the task prints, and ends with it."""
    plane.prints("hello\n")
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    stage.steer()
    answer = cli("run", "-f", "-p", queue, "-n", "one", "--workdir", "/", "--", "true")
    assert (answer.code, answer.out) == (0, "hello\n"), answer.err
    assert "Task was destroyed" not in answer.err


def test_what_happens_is_told_as_it_happens(stage: Stage, cli: Cli, opened: ClusterApi) -> None:
    """A watch tells each event once, and what is done while it is open, too."""
    queue = stage.queue("a", 4)
    heard = messages(opened.open("GET", "/watch", query={"after": 0}))
    assert cli("run", "-p", queue, "-n", "one", "--workdir", "/", "--", "true").code == 0
    first = json.loads(next(heard).data)
    assert (first["kind"], first["workload"]) == ("Submitted", "one")
    assert cli("suspend", "one").code == 0
    assert json.loads(next(heard).data)["kind"] == "Suspended"
    last = cli("events", "-o", "json").document["next"]
    later = messages(opened.open("GET", "/watch", query={"after": last}))
    assert cli("run", "-p", queue, "-n", "two", "--workdir", "/", "--", "true").code == 0
    assert any(json.loads(each.data)["workload"] == "two" for each in later)


def test_who_makes_way_is_told_so(stage: Stage, cli: Cli, tmp_path: Path) -> None:
    """Its queue used more than its share: the workload waits again, and says that it was evicted, and why."""
    running(stage, cli, tmp_path, resources={"gpu": 4})
    other = stage.queue("b", 4)
    stage.api.patch(
        f"{QUEUES}/{stage.name}-a", json={"spec": {"quota": {"gpu": 0}}}, headers={"Content-Type": "application/merge-patch+json"}
    )  # fmt: skip
    assert cli("run", "-p", other, "-n", "owner", "--gpu", "4", "--workdir", "/", "--", "true").code == 0
    eventually(lambda: cli("show", "owner", "-o", "json").document["state"] == "succeeded", "the owner runs")
    eventually(lambda: cli("show", "lives", "-o", "json").document["evictions"] == 1, "it is counted")
    assert "evicted" in cli("why", "lives").out
    (told,) = [
        row for row in cli("events", "lives", "-o", "json").document["items"] if row["kind"] == "Evicted"
    ]
    assert "its queue used more than its share" in told["message"]


def test_a_tenant_sees_shares_where_queues_may_be_seen(
    stage: Stage, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the scheduler wrote them on the queues: nodes and the pods of others are not needed for that."""
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    stage.steer()
    stage.pod("p", queue, 2)
    eventually(lambda: stage.where() == ["n1"], "it is bound")
    user = f"{stage.name}-user"
    reader(stage, user)
    as_user(stage, monkeypatch, user)

    def allocated() -> object:
        shown = cli("queue", "show", queue, "-o", "json").document
        return {row["resource"]: row["allocated"] for row in shown["shares"]}.get("gpu")

    eventually(lambda: allocated() == 2, "the scheduler wrote what it holds")
    assert cli("nodes").code == 3


def reader(stage: Stage, user: str) -> None:
    """A user who may list queues, and nothing else."""
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    rules = [{"apiGroups": ["gpumax.dev"], "resources": ["queues"], "verbs": ["get", "list"]}]
    common = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": user}}
    stage.post(f"{rbac}/clusterroles", {**common, "kind": "ClusterRole", "rules": rules})
    stage.post(
        f"{rbac}/clusterrolebindings",
        {
            **common, "kind": "ClusterRoleBinding",
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        },
    )  # fmt: skip
    eventually(
        lambda: may(stage.plane, user, on("queues", "list", "gpumax.dev")), "the API server has heard of it"
    )


def test_work_of_others_is_shown(stage: Stage, cli: Cli) -> None:
    """Pods alone and gangs by label stand beside Jobs, with why they wait; what only their makers can do is refused."""
    stage.node("n1", 4)
    queue = stage.queue("a", 4)
    stage.steer()
    stage.pod("alone", queue, 2)
    for number in range(2):
        stage.pod(
            f"g{number}", queue, 4, labels={"gpumax.dev/gang": "both"}, annotations={"gpumax.dev/min": "2"}
        )
    eventually(lambda: "GangNoRoom" in cli("why", "both").out, "the gang says why it waits")
    eventually(lambda: cli("show", "alone", "-o", "json").document["state"] == "running", "the pod runs")
    listed = cli("ps", "-o", "json").document["items"]
    told = {row["name"]: (row["project"], row["gpu"], row["tasks"]["total"]) for row in listed}
    assert told == {"alone": (queue, 2, 1), "both": (queue, 8, 2)}
    refused = cli("delete", "-y", "both")
    assert refused.code == 2
    assert "both is a Gang" in refused.err


EXAMPLES = Path(__file__).parents[2] / "examples"
AWKWARD: dict[str, dict[str, Any]] = {
    "shell": {"run": "echo $(date) '$$' \"$HOME\" > /tmp/x; exit 3"},
    "words": {"run": ["printf", "%s\\n", "a b", "ünï", ""], "env": {"A": "ü\n$(B)", "EMPTY": ""}},
    "half": {"resources": {"gpu": 0.5, "cpu": "250m", "memory": "1.5Gi", "shm": "64Mi"}},
    "memory": {"resources": {"gpu": {"memory": "20Gi"}, "devices": 2}},
    "models": {"resources": {"gpu": ["H100:2", "A100:2"]}, "affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "z", "operator": "Exists"}]}]}}}},
    "long": {"name": "n" * 50, "tasks": 12, "max_duration": "1500ms", "grace": "0s", "setup": "true"},
    "digit": {"name": "7b", "tasks": 2, "preemptible": "semi", "priority": "inference"},
    "groups": {"groups": [{"name": "b", "tasks": 3}, {"name": "a", "resources": {"gpu": 1}, "labels": {"role": "a"}}]},
    "secret": {"secrets": ["HF_TOKEN"], "image": "registry.example/a/b@sha256:" + "0" * 64, "workdir": "/opt/here nowhere"},
}  # fmt: skip
"""Files that a careless translation would break."""


@pytest.mark.parametrize("name", AWKWARD)
def test_the_api_server_takes_what_files_become(name: str, stage: Stage, cli: Cli, tmp_path: Path) -> None:
    """Every object, and a pod of every Job, in a dry run that changes nothing."""
    document = {"name": name, "project": stage.queue("a", 4), "run": "true", "workdir": "/", **AWKWARD[name]}
    (tmp_path / "work.yaml").write_text(yaml.safe_dump(document))
    secrets = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "gpumax-secrets"}}
    stage.post(f"/api/v1/namespaces/{stage.name}/secrets", {**secrets, "stringData": {"HF_TOKEN": "x"}})
    answer = cli("plan", "-f", "work.yaml")
    assert answer.code == 0, answer.err
    assert jobs(stage) == {}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_examples_run_on_a_cluster(path: Path, stage: Stage, cli: Cli) -> None:
    """The files of the demo are as good for a cluster, where their project is there."""
    found = [
        part
        for one in yaml.safe_load_all(path.read_text())
        for part in (one if isinstance(one, list) else [one])
    ]
    queue = stage.queue("a", 4)
    copy = Path.cwd() / f"{path.stem}.json"
    copy.write_text(json.dumps([{**part, "project": queue} for part in found if part.get("kind") != "queue"]))
    answer = cli("plan", "-f", str(copy))
    assert answer.code == (0 if copy.read_text() != "[]" else 2), answer.err
