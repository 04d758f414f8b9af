"""ps, show, why, events, status, board, nodes, gpu: what they print, for people and for programs."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from cli.conftest import Cli
from cli.fake_api import HELD, FakeApi, Item, events, ok, page, task, workload
from gpumax.model.workload import Preemptible

NODE: Item = {
    "name": "n1",
    "pool": "default",
    "state": "ready",
    "gpu": {"total": 8, "free": 2},
    "cpu": {"total": 96, "free": 90.5},
    "memory": {"total": "1Ti", "free": "1047539Mi"},
    "tasks": 3,
    "labels": {"rack": "r1"},
    "taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}],
}
GPU: Item = {
    "node": "n1",
    "index": 0,
    "model": "H100",
    "memory": "80Gi",
    "healthy": True,
    "used": 0.5,
    "virtual": True,
    "holders": [{"workload": "a", "task": "a-0", "milli": 500}],
}
STATUS: Item = {
    "version": "9.9",
    "pid": 7,
    "data": "/data",
    "socket": "/data/server.sock",
    "started": "2026-01-01T10:00:00Z",
    "engine": {"name": "local", "devices": 8, "nodes": 1, "notes": ["devices are virtual"]},
    "loop": {"cycles": 5, "decide_ms": 1.25},
    "counts": {"running": 2, "failed": 0},
}
SNAPSHOT: Item = {
    "version": "gpumax/v1",
    "now": "2026-01-01T12:00:00Z",
    "nodes": [
        {"name": "n1", "cpu": 96, "memory": "1Ti", "devices": {"count": 8, "model": "H100", "memory": "80Gi"}}
    ],
    "queues": [{"name": "team-a", "quota": {"gpu": 4}}],
    "workloads": [
        {
            "name": "train",
            "queue": "team-a",
            "submitted": "2026-01-01T11:00:00Z",
            "started": "2026-01-01T11:00:00Z",
            "request": {"gpu": 2},
            "tasks": [
                {
                    "name": "train-0",
                    "state": "running",
                    "node": "n1",
                    "devices": [{"index": 0, "milli": 1000}, {"index": 1, "milli": 1000}],
                }
            ],
        }
    ],
}
DECISION: Item = {"version": "gpumax/v1", "places": [], "evictions": [], "holds": [], "shares": []}

LISTS = {
    "ps": ("GET /workloads", workload("a")),
    "events": (
        "GET /events",
        {
            "seq": 5,
            "at": "2026-01-01T10:00:00Z",
            "kind": "Started",
            "workload": "a",
            "task": "a-0",
            "message": "on n1",
        },
    ),
    "nodes": ("GET /nodes", NODE),
    "gpu list": ("GET /gpus", GPU),
}
DOCUMENTS = {
    "show a": ("GET /workloads/a", {**workload("a"), "tasks": [task()]}),
    "why a": (
        "GET /workloads/a/why",
        {"workload": "a", "state": "pending", "sentences": ["It waits."], "hold": HELD},
    ),
    "status": ("GET /status", STATUS),
    "board": ("GET /board", {"snapshot": SNAPSHOT, "decision": DECISION}),
}


@pytest.mark.parametrize("command", [*LISTS, *DOCUMENTS])
def test_formats_for_programs(cli: Cli, api: FakeApi, command: str) -> None:
    """-o json and -o yaml give the API's answer as it is, on stdout alone."""
    route, document = DOCUMENTS.get(command) or LISTS[command]
    if command in LISTS:
        document = {"items": [document], "next": None}
    api.on(route, ok(document))
    assert cli(*command.split(), "-o", "json") == (0, json.dumps(document, indent=2) + "\n", "")
    assert yaml.safe_load(cli(*command.split(), "-o", "yaml").out) == document


@pytest.mark.parametrize("command", LISTS)
def test_tables(cli: Cli, api: FakeApi, command: str) -> None:
    """A table has titles in capitals and a row an item; wide has more columns, never fewer."""
    route, item = LISTS[command]
    api.on(route, page(item, item))
    result = cli(*command.split())
    lines = result.out.splitlines()
    assert (result.code, result.err, len(lines)) == (0, "", 3)
    assert lines[0] == lines[0].upper()
    assert lines[1] == lines[2]
    assert set(lines[0].split()) <= set(cli(*command.split(), "-o", "wide").out.splitlines()[0].split())


@pytest.mark.parametrize("command", LISTS)
def test_nothing_to_list(cli: Cli, api: FakeApi, command: str) -> None:
    """An empty list is a sentence for people, and no line of data."""
    api.on(LISTS[command][0], page())
    result = cli(*command.split())
    assert (result.code, result.out) == (0, "")
    assert result.err.startswith("no ")


def test_ps_shows_why(cli: Cli, api: FakeApi) -> None:
    """The row of a workload that waits ends with its hold; what is unset is a dash."""
    api.on(
        "GET /workloads", page(workload("big", state="pending", gpu=16, started=None, nodes=[], hold=HELD))
    )
    row = cli("ps").out.splitlines()[1]
    assert row.split()[:4] == ["big", "team-a", "pending", "16"]
    assert row.endswith("NoRoom: needs 4 GPUs on one node; n1 has 2 free")
    assert " - " in cli("ps", "-o", "wide").out.splitlines()[1]


def test_ps_shows_when_it_starts(cli: Cli, api: FakeApi) -> None:
    """A moment that has come is less than a minute away; one far ahead is told in hours and minutes."""
    far = (datetime.now(UTC) + timedelta(hours=2, minutes=29, seconds=30)).isoformat()
    for moment, words in (("2026-01-01T10:00:01Z", "within a minute"), (far, "in about 2h30m")):
        held = {**HELD, "forecast": moment}
        api.on("GET /workloads", page(workload("big", state="pending", started=None, nodes=[], hold=held)))
        assert f"NoRoom, starts {words}: needs 4 GPUs" in cli("ps").out


def test_ps_asks_for_what_is_wanted(cli: Cli, api: FakeApi) -> None:
    """Unfinished work by default; --state, --all, --project and --limit reach the server."""
    api.on("GET /workloads", page(workload("a")))
    cli("ps")
    cli("ps", "-a", "-p", "team-b")
    cli("ps", "--state", "failed", "--state", "stopped", "--limit", "3")
    asked = [request.query for request in api.seen]
    assert asked[0]["state"] == "pending,running,suspended"
    assert "state" not in asked[1]
    assert asked[1]["project"] == "team-b"
    assert (asked[2]["state"], asked[2]["limit"]) == ("failed,stopped", "3")


def test_ps_reads_all_pages(cli: Cli, api: FakeApi) -> None:
    """A list of several pages is one list; --limit ends it where it was asked to."""
    api.on("GET /workloads", page(workload("a"), after="c1"), page(workload("b"), after=None))
    assert cli("ps", "-q").out == "a\nb\n"
    assert api.seen[1].query["after"] == "c1"
    api.on("GET /workloads", page(workload("a"), after="c1"), page(workload("b"), after="c2"))
    assert cli("ps", "-q", "--limit", "2").out == "a\nb\n"


def test_control_characters_do_nothing(cli: Cli, api: FakeApi) -> None:
    """What another user wrote can't move our cursor or colour our screen."""
    evil = "x\x1b[2J\r\n\x07y"
    api.on("GET /workloads", page(workload("a", state="pending", reason=evil)))
    api.on("GET /workloads/a", ok({**workload("a", reason=evil), "tasks": []}))
    api.on("GET /workloads/a/why", ok({"workload": "a", "state": "pending", "sentences": [evil]}))
    for command in (["ps"], ["show", "a"], ["why", "a"]):
        assert all(char.isprintable() or char == "\n" for char in cli(*command).out)


def test_show(cli: Cli, api: FakeApi) -> None:
    """Everything about one workload: fields, then a row a task with its GPUs, its exit and why it left."""
    rows = [
        task(0, state="failed", exit_code=3, reason="exit code 3"),
        task(1, devices=[{"index": 4, "milli": 500}], cause="reclaim", **{"for": "other"}),
    ]
    spec = {"run": ["python", "train.py", "a b"]}
    api.on(
        "GET /workloads/train",
        ok({**workload(evictions=2, wish="stop"), "tasks": rows, "spec": spec, "checkpoint_dir": "/ckpt"}),
    )
    out = cli("show", "train").out
    assert "python train.py 'a b'" in out
    assert "1, 2 evictions" in out
    assert "running (to stop)" in out
    assert "/ckpt" in out
    lines = out.splitlines()
    assert lines[-2].split()[:4] == ["0", "failed", "n1", "0,1"]
    assert "exit code 3" in lines[-2]
    assert "4:0.5" in lines[-1]
    assert "evicted for other (reclaim)" in lines[-1]


def test_why(cli: Cli, api: FakeApi) -> None:
    """The sentences of the server, one a line."""
    api.on("GET /workloads/a/why", ok({"workload": "a", "state": "pending", "sentences": ["One.", "Two."]}))
    assert cli("why", "a").out == "a: pending\nOne.\nTwo.\n"


def test_status(cli: Cli, api: FakeApi) -> None:
    """What serves, on what, and how much work it has; states without work aren't told."""
    api.on("GET /status", ok(STATUS))
    out = cli("status").out
    assert "8 GPUs on 1 node (local engine)" in out
    assert "devices are virtual" in out
    assert "2 running" in out
    assert "failed" not in out
    assert "decide ms 1.25" in out
    assert "warning" not in out


def test_status_says_what_decisions_warn_of(cli: Cli, api: FakeApi) -> None:
    """One line a warning."""
    api.on(
        "GET /status", ok(STATUS | {"warnings": ["quotas exceed what there is", "n1 gives more than it has"]})
    )
    lines = [line.split(maxsplit=1) for line in cli("status").out.splitlines()]
    assert [words for key, words in lines if key == "warning:"] == [
        "quotas exceed what there is", "n1 gives more than it has",
    ]  # fmt: skip


def test_board(cli: Cli, api: FakeApi) -> None:
    """The picture fits the terminal's width and has no colours where nobody looks."""
    api.on("GET /board", ok({"snapshot": SNAPSHOT, "decision": DECISION}))
    out = cli("board").out
    assert "aa......" in out
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 100


def test_nodes(cli: Cli, api: FakeApi) -> None:
    """What is free of what there is; memory in units that people read."""
    api.on("GET /nodes", page(NODE))
    row = cli("nodes").out.splitlines()[1]
    assert "[########  ]" in row
    assert "2 of 8" in row
    assert "1022Gi of 1Ti" in row
    assert "k=v:NoSchedule" in cli("nodes", "-o", "wide").out


def test_tasks_of_finished_work(cli: Cli, api: FakeApi) -> None:
    """Once it has ended, those are counted that have done their work."""
    tasks = {"running": 0, "done": 199, "total": 200}
    api.on("GET /workloads", page(workload("a", state="failed", ended="2026-01-01T10:00:02Z", tasks=tasks)))
    assert " 199/200 " in cli("ps", "-a").out


@pytest.mark.parametrize(
    ("preemptible", "said"),
    [(True, "60\n"), (False, "60, non-preemptible\n"), ("semi", "60, semi-preemptible\n")],
)
def test_whether_it_may_be_evicted_is_shown_beside_the_priority(
    cli: Cli, api: FakeApi, preemptible: Preemptible, said: str
) -> None:
    """What is usual is not said."""
    api.on("GET /workloads/a", ok({**workload("a", priority=60, preemptible=preemptible), "tasks": []}))
    assert f"priority:   {said}" in cli("show", "a").out


def test_setup_is_shown_beside_the_command(cli: Cli, api: FakeApi) -> None:
    """Both run in every task."""
    api.on(
        "GET /workloads/a", ok({**workload("a"), "tasks": [], "spec": {"setup": "make it", "run": "use it"}})
    )
    out = cli("show", "a").out
    assert "setup:      make it\n" in out
    assert "command:    use it\n" in out


def test_nodes_with_unhealthy_gpus(cli: Cli, api: FakeApi) -> None:
    """They are told beside the node's state."""
    api.on("GET /nodes", page({**NODE, "unhealthy": 2}))
    assert "ready, 2 unhealthy  " in cli("nodes").out


def test_nodes_without_gpus(cli: Cli, api: FakeApi) -> None:
    """A node that has none of something shows a dash for it."""
    api.on("GET /nodes", page({**NODE, "gpu": {"total": 0, "free": 0}}))
    assert cli("nodes").out.splitlines()[1].split()[2:4] == ["-", "-"]


def test_gpus(cli: Cli, api: FakeApi) -> None:
    """A bar of what is held, and the holders with their part where it isn't the whole."""
    api.on(
        "GET /gpus",
        page(
            GPU,
            {**GPU, "index": 1, "used": 0, "holders": [], "healthy": False},
            {**GPU, "index": 2, "gone": True, "healthy": False},
        ),
    )
    first, second, third = cli("gpu", "list").out.splitlines()[1:]
    assert "H100 (virtual)" in first
    assert "[#####     ]  50%  a 0.5" in first
    assert "unhealthy" in second
    assert " gone " in third
    assert cli("gpu").out == cli("gpu", "list").out
    assert cli("gpu", "list", "-q").out == "n1/0\nn1/1\nn1/2\n"


SHARED: Item = {
    "bytes": 16 << 30, "used": 12 << 30, "state": "busy", "holder": "train-1", "serial": False,
    "residents": [
        {"group": "train-1", "workload": "train", "mode": "fair", "share": 0.5, "guaranteed": 8 << 30, "limit": 8 << 30, "swap": False,
         "resident": 8 << 30, "swapped": 0, "pinned": 0, "processes": [7], "works": True, "waits": None},
        {"group": "serve", "workload": "", "mode": "strict", "share": 0.25, "guaranteed": 4 << 30, "limit": 10 << 30, "swap": True,
         "resident": 4 << 30, "swapped": 3 << 29, "pinned": 0, "processes": [8], "works": False, "waits": "its turn: train has it"},
    ],
    "unfenced": [],
}  # fmt: skip


def test_a_shared_gpu_is_a_picture(cli: Cli, api: FakeApi) -> None:
    """A letter for each resident, dots for what is free, a line for each who has a part."""
    api.on("GET /gpus", page({**GPU, "shared": SHARED}))
    _, _, _, head, first, second = cli("gpu", "list").out.splitlines()
    assert head == f"n1/0 H100  [{'a' * 24}{'b' * 12}{'.' * 12}]  4Gi free of 16Gi, 1.5Gi swapped"
    assert first == f"  a {'train':20}  50% fair     8Gi guaranteed; 8Gi here; works"
    assert second == (
        f"  b {'serve':20}  25% strict   4Gi guaranteed, up to 10Gi; 4Gi here, 1.5Gi swapped; waits: its turn: train has it"
    )


def test_whoever_got_around_the_layer_is_told_loudly(cli: Cli, api: FakeApi) -> None:
    """In the bar, and in words, whatever its name has in it."""
    unfenced = {"pid": 99, "bytes": 2 << 30, "why": "it has declared nothing", "command": "mi\x1b[1mner"}
    api.on("GET /gpus", page({**GPU, "shared": {**SHARED, "unfenced": [unfenced]}}))
    lines = cli("gpu", "list").out.splitlines()
    assert f"{'b' * 12}{'!' * 6}{'.' * 6}]  2Gi free" in lines[3]
    assert lines[-1] == "  ! UNFENCED: process 99 (mi [1mner) uses 2Gi: it has declared nothing"


def test_json_of_a_shared_gpu_is_what_the_server_said(cli: Cli, api: FakeApi) -> None:
    api.on("GET /gpus", page({**GPU, "shared": SHARED}))
    assert json.loads(cli("gpu", "list", "-o", "json").out)["items"][0]["shared"] == SHARED


def test_a_little_memory_is_seen_all_the_same(cli: Cli, api: FakeApi) -> None:
    small = [{**each, "resident": 1 << 20} for each in SHARED["residents"]]
    api.on("GET /gpus", page({**GPU, "shared": {**SHARED, "used": 2 << 20, "residents": small}}))
    assert f"[ab{'.' * 46}]" in cli("gpu", "list").out


def test_events_of_one(cli: Cli, api: FakeApi) -> None:
    """Events of one workload: asked of the server, and of the stream passed over where they are another's."""
    event = LISTS["events"][1]
    api.on("GET /events", ok({"items": [event], "next": 5}))
    api.on(
        "GET /watch",
        events(
            f"id: 6\ndata: {json.dumps({**event, 'seq': 6, 'workload': 'b'})}",
            f": nothing happened\n\nid: 7\ndata: {json.dumps({**event, 'seq': 7, 'message': 'later'})}",
        ),
        # The server ends the watch for good; so does the command.
        ok({"error": {"message": "enough", "faults": []}}, 409),
    )
    result = cli("events", "a", "-w", "-o", "json")
    assert result.code == 3
    assert [json.loads(line)["seq"] for line in result.out.splitlines()] == [5, 7]
    assert api.asked("GET /events")[0].query["workload"] == "a"
    assert [request.headers.get("Last-Event-ID") for request in api.asked("GET /watch")] == [None, "7"]


def test_watch_draws_again(cli: Cli, api: FakeApi) -> None:
    """ps -w prints the list, and again when something happens, until the server ends the watch for good."""
    api.on("GET /events", ok({"items": [], "next": 9}))
    api.on("GET /workloads", page(workload("a")), page(workload("b")))
    api.on("GET /watch", events("id: 10\ndata: {}"), ok({"error": {"message": "enough", "faults": []}}, 409))
    result = cli("ps", "-q", "-w")
    assert result.code == 3
    assert result.out.split()[:2] == ["a", "b"]
    assert api.asked("GET /watch")[0].query == {"after": "9"}
