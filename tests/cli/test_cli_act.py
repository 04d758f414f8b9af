"""stop, suspend, resume, delete; queue set, list, show, delete."""

from __future__ import annotations

import json

import pytest
import yaml

from cli.conftest import Cli
from cli.fake_api import FakeApi, error, ok, page, queue, workload


@pytest.mark.parametrize("action", ["stop", "suspend", "resume"])
def test_actions(cli: Cli, api: FakeApi, action: str) -> None:
    """One request a name, each name once; prose tells it, -q prints the names."""
    for name in ("a", "b"):
        api.on(f"POST /workloads/{name}/{action}", ok({}))
    result = cli(action, "a", "b", "a")
    assert (result.code, result.out) == (0, "")
    assert [line.partition(":")[0] for line in result.err.splitlines()] == ["a", "b"]
    assert cli(action, "-q", "a", "b").out == "a\nb\n"
    assert len(api.seen) == 4


def test_one_refusal_keeps_nobody_back(cli: Cli, api: FakeApi) -> None:
    """The names that can be stopped are; each that can't has a line, and the code is a refusal's."""
    api.on("POST /workloads/b/stop", error(409, "b is finished"))
    api.on("POST /workloads/c/stop", ok({}))
    result = cli("stop", "a", "b", "c")
    assert result.code == 3
    assert sorted(result.err.splitlines()) == [
        "c: stopping",
        "gpumax: b is finished",
        "gpumax: there is nothing at /workloads/a/stop",
    ]


def test_delete_of_running_work(cli: Cli, api: FakeApi) -> None:
    """Running work is not deleted without -y where nobody can be asked; finished work is."""
    for name, state in (("a", "running"), ("b", "succeeded")):
        api.on(f"GET /workloads/{name}", ok(workload(name, state=state)))
        api.on(f"DELETE /workloads/{name}", ok({}))
    refused = cli("delete", "a", "b")
    assert refused.code == 2
    assert "-y" in refused.err
    assert not api.asked("DELETE /workloads/b")
    assert cli("delete", "b").code == 0
    assert cli("delete", "-y", "a", "b").code == 0
    assert len(api.asked("DELETE /workloads/a")) == 1


def test_queue_list_draws_a_tree(cli: Cli, api: FakeApi) -> None:
    """Children stand below their parents; a bar shows what is held within quota, beyond it, and quota that is free."""
    beyond = [{"resource": "gpu", "quota": 2, "share": 6, "allocated": 4, "demand": 4}]
    endless = [{"resource": "gpu", "quota": "unlimited", "share": 8, "allocated": 1, "demand": 1}]
    api.on(
        "GET /queues",
        page(
            queue("team-b", parent="dept", shares=beyond),
            queue("dept"),
            queue("other", shares=endless, limit={"gpu": 16}),
        ),
    )
    lines = cli("queue", "list").out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:2]] == ["dept"]
    assert lines[2].startswith("  team-b")
    assert "[#########...]" in lines[1]
    assert "[###+++      ]" in lines[2]
    assert lines[3].split()[-7:] == ["1", "8", "unlimited", "16", "1", "3", "1"]
    assert cli("queue").out == cli("queue", "list").out
    assert cli("queue", "list", "-q").out == "team-b\ndept\nother\n"
    assert len(json.loads(cli("queue", "list", "-o", "json").out)["items"]) == 3


def test_queue_show(cli: Cli, api: FakeApi) -> None:
    """Settings, then a row a resource."""
    api.on("GET /queues/q", ok(queue("q", reclaim_min_runtime="10m")))
    out = cli("queue", "show", "q").out
    assert "gpu=8" in out
    assert "10m" in out
    assert out.splitlines()[-1].split() == ["gpu", "6", "8", "8", "7"]
    assert yaml.safe_load(cli("queue", "show", "q", "-o", "yaml").out)["name"] == "q"


def test_queue_is_made(cli: Cli, api: FakeApi) -> None:
    """Amounts are given as they are written in files, several at once or one by one."""
    api.on("PUT /queues/q", ok(queue("q")))
    result = cli(
        *(
            "queue",
            "set",
            "q",
            "--quota",
            "gpu=8,cpu=unlimited",
            "--quota",
            "memory=1Ti",
            "--limit",
            "gpu=16.5",
        ),
        *("--weight", "gpu=2", "--parent", "p", "--priority", "7", "--reclaim-min-runtime", "10m"),
        *("--preempt-min-runtime", "5s", "--demote", "1,10", "--fresh", "f"),
    )
    assert (result.code, result.err) == (0, "queue q: made\n")
    assert api.asked("PUT /queues/q")[0].document == {
        "quota": {"gpu": 8, "cpu": "unlimited", "memory": "1Ti"},
        "limit": {"gpu": 16.5},
        "weight": {"gpu": 2},
        "parent": "p",
        "priority": 7,
        "reclaim_min_runtime": "10m",
        "preempt_min_runtime": "5s",
        "demote": ["1", "10"],
        "fresh": "f",
    }


def test_queue_set_changes_only_what_is_given(cli: Cli, api: FakeApi) -> None:
    """The rest is sent as it was; weights that only followed the quota go on following it."""
    before = queue(
        "q",
        parent="p",
        quota={"gpu": 8, "memory": "2Gi"},
        limit={"gpu": 16, "cpu": 4},
        weight={"gpu": 8, "cpu": 3, "memory": 2},
        reclaim_min_runtime="10m",
    )
    api.on("GET /queues/q", ok(before))
    api.on("PUT /queues/q", ok(before))
    assert cli("queue", "set", "q", "--quota", "gpu=4", "--limit", "gpu=").err == "queue q: set\n"
    assert api.asked("PUT /queues/q")[0].document == {
        "parent": "p",
        "priority": 100,
        "quota": {"gpu": 4, "memory": "2Gi"},
        "limit": {"cpu": 4},
        "weight": {"cpu": 3},
        "reclaim_min_runtime": "10m",
    }
    cli("queue", "set", "q", "--parent", "", "--reclaim-min-runtime", "")
    assert not {"parent", "reclaim_min_runtime"} & api.asked("PUT /queues/q")[1].document.keys()


def test_queue_faults(cli: Cli, api: FakeApi) -> None:
    """A fault of what was given is told at its option."""
    rows = [{"path": "quota.gpu", "line": 1, "found": "-1", "wanted": "0 or more"}]
    api.on("PUT /queues/q", error(422, "a fault", rows))
    result = cli("queue", "set", "q", "--quota", "gpu=-1")
    assert (result.code, result.err) == (2, "gpumax: --quota gpu: found -1; wanted 0 or more\n")


def test_queue_delete(cli: Cli, api: FakeApi) -> None:
    """A queue with work in it is refused by the server, and that is told."""
    api.on("DELETE /queues/a", ok({}))
    api.on("DELETE /queues/b", error(409, "queue b has work in it"))
    result = cli("queue", "delete", "a", "b")
    assert result.code == 3
    assert result.err == "a: deleted\ngpumax: queue b has work in it\n"
