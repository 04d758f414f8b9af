"""Queues, nodes, GPUs, board and status."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from gpumax.formats.board import draw_board
from gpumax.formats.decision import load_decision
from gpumax.formats.snapshot import load_snapshot
from gpumax.model.node import Node, Taint
from server.harness import Served, machine, served


@pytest.fixture
def there() -> Iterator[Served]:
    """One node of eight GPUs, and the queue `default`."""
    with served() as made:
        yield made


def test_the_queue_default_is_there_from_the_first_start(there: Served) -> None:
    """No quota, no limit: `gpumax run` works at once."""
    (queue,) = there.get("/queues")["items"]
    assert (queue["name"], queue["parent"], queue["quota"], queue["limit"]) == (
        "default", None, {"gpu": 0, "cpu": 0, "memory": "0Mi"}, dict.fromkeys(("gpu", "cpu", "memory"), "unlimited"),
    )  # fmt: skip


def test_a_queue_is_made_changed_and_deleted(there: Served) -> None:
    """PUT replaces it as a whole; GET shows it with its shares; DELETE forgets it."""
    made = there.ask("PUT", "/queues/team", body={"quota": {"gpu": 4, "memory": "64Gi"}, "priority": 7})
    assert made.status == 200
    assert (made.body["quota"]["gpu"], made.body["quota"]["memory"], made.body["priority"]) == (4, "64Gi", 7)
    assert {row["resource"] for row in made.body["shares"]} == {"gpu", "cpu", "memory"}
    again = there.ask("PUT", "/queues/team", body=b"reclaim_min_runtime: 10m\n")
    assert (again.body["quota"]["gpu"], again.body["reclaim_min_runtime"]) == (0, "10m")
    assert there.get("/queues/team") == again.body
    assert there.ask("DELETE", "/queues/team").status == 200
    assert there.ask("GET", "/queues/team").status == 404


def test_work_that_has_held_much_is_told_so(there: Served) -> None:
    """The queue shows its steps; `why` tells what was held, and what followed from that."""
    there.submit([
        {"kind": "queue", "name": "new"},
        {"kind": "queue", "name": "team", "demote": [1.5, 10], "fresh": "new"},
        {"name": "a", "project": "team", "run": "x", "resources": {"gpu": 1}},
    ])  # fmt: skip
    queue = there.get("/queues/team")
    assert (queue["demote"], queue["fresh"]) == ([1.5, 10], "new")
    there.eventually(lambda: there.get("/workloads/a")["state"] == "running", "it runs")
    fresh = "It has held 0 GPU hours, so it is fresh, and counts in queue new."
    assert fresh in there.get("/workloads/a/why")["sentences"]
    there.clock.advance(2 * 3_600_000)
    told = "It has held 2 GPU hours, so its priority is 49 instead of 50."
    there.eventually(lambda: told in there.get("/workloads/a/why")["sentences"], "it is told")


def test_what_a_queue_holds_and_wants(there: Served) -> None:
    """Shares, allocated and demand of the last decision; workloads that wait and run."""
    there.submit([{"kind": "queue", "name": "team", "quota": {"gpu": 4}}])
    there.submit({"name": "a", "project": "team", "run": "x", "resources": {"gpu": 3}})
    there.submit({"name": "b", "project": "team", "run": "x", "resources": {"gpu": 9}})
    there.eventually(lambda: there.get("/queues/team")["shares"][0]["allocated"] == 3, "it is counted")
    queue = there.get("/queues/team")
    assert queue["shares"][0] == {"resource": "gpu", "quota": 4, "share": 8, "allocated": 3, "demand": 12}
    assert (queue["waiting"], queue["running"]) == (1, 1)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"quota": {"gpu": -1}}, "quota.gpu"), ({"qouta": {}}, "qouta"), ({"parent": "nobody"}, "parent"), ({"parent": "team"}, "parent"),
        ({"fresh": "nobody"}, "fresh"), ({"demote": [10, 1]}, "demote"),
        ([], ""), (b"a: [", ""), (b"", ""), ({"name": "other"}, ""), (b"quota: {}\n---\nquota: {}\n", ""),
    ],
)  # fmt: skip
def test_a_bad_queue_is_refused_with_its_faults(there: Served, body: object, path: str) -> None:
    """422 with the field; a queue can't be its own parent."""
    answer = there.ask("PUT", "/queues/team", body=body)
    assert answer.status == 422
    assert answer.body["error"]["faults"][0]["path"] == path
    assert there.ask("GET", "/queues/team").status == 404


def test_doubtful_settings_are_told(there: Served) -> None:
    """A limit below what the queues in it are guaranteed, or below the own quota, and a weight of 0: taken, and told."""
    there.submit([
        {"kind": "queue", "name": "p", "limit": {"gpu": 6}},
        {"kind": "queue", "name": "c1", "parent": "p", "quota": {"gpu": 4}},
        {"kind": "queue", "name": "c2", "parent": "p", "quota": {"gpu": 4}},
    ])  # fmt: skip
    told = "the limit of p, gpu=6, is below the quotas of the queues in it (c1, c2), 8 together: not all of them can be served"
    assert there.get("/queues/p")["doubts"] == there.get("/queues/c1")["doubts"] == [told]
    assert there.ask("PUT", "/queues/p", body={"limit": {"gpu": 8}}).body["doubts"] == []
    own = there.ask(
        "PUT", "/queues/own", body={"quota": {"gpu": 4}, "limit": {"gpu": 2}, "weight": {"gpu": 0}}
    ).body
    assert own["doubts"] == [
        "the limit of own, gpu=2, is below its own quota, 4",
        "its gpu weight is 0: it never gets gpu beyond its quota, however much is idle",
    ]


def test_names_of_queues_follow_the_rule_of_workloads(there: Served) -> None:
    """One rule for all names that people make."""
    for name in ("Team", "a_b", "a.b", "-a"):
        answer = there.ask("PUT", f"/queues/{name}", body={})
        assert answer.status == 422
        assert "lower-case" in answer.body["error"]["faults"][0]["wanted"]


def test_a_queue_with_work_or_children_stays(there: Served) -> None:
    """409 that says what is in it."""
    there.submit([{"kind": "queue", "name": "top"}, {"kind": "queue", "name": "team", "parent": "top"}])
    there.submit({"name": "a", "project": "team", "run": "x"})
    for name, word in (("top", "team"), ("team", "a")):
        answer = there.ask("DELETE", f"/queues/{name}")
        assert answer.status == 409
        assert word in answer.body["error"]["message"]


def test_unhealthy_gpus_are_there_and_not_free(there: Served) -> None:
    """Board, nodes and GPUs count the same devices, also those that are held and fail."""
    node = machine(gpus=4)
    there.engine.nodes = (node,)
    there.submit({"name": "a", "run": "x", "resources": {"gpu": 4}})
    failing = tuple(replace(device, healthy=device.index < 2) for device in node.devices)
    there.engine.nodes = (replace(node, devices=failing),)
    there.site.settle()
    (row,) = there.get("/nodes")["items"]
    assert (row["gpu"], row["unhealthy"]) == ({"total": 4, "free": 0}, 2)
    assert [gpu["healthy"] for gpu in there.get("/gpus")["items"]] == [True, True, False, False]
    board = there.get("/board")
    drawn = draw_board(load_snapshot(board["snapshot"]), load_decision(board["decision"]))
    assert drawn.startswith("1 node, 4 of 4 GPUs held, 2 unhealthy")


def test_nodes_tell_what_is_free(there: Served) -> None:
    """Less what tasks hold, from the moment that they hold it."""
    there.submit({"name": "a", "run": "x", "resources": {"gpu": 1.0, "cpu": 4, "memory": "12Gi"}})
    there.submit({"name": "b", "run": "x", "resources": {"gpu": 0.25}})
    (node,) = there.get("/nodes")["items"]
    assert (node["gpu"], node["cpu"], node["memory"], node["tasks"]) == (
        {"total": 8, "free": 6.75}, {"total": 64, "free": 60}, {"total": "512Gi", "free": "500Gi"}, 2,
    )  # fmt: skip


def test_nodes_tell_their_state_and_come_in_natural_order() -> None:
    """ready, not ready, cordoned; n2 before n10; a GPU that fails is not free."""
    first = machine("n2", gpus=2)
    failing = replace(first, devices=(replace(first.devices[0], healthy=False), first.devices[1]))
    nodes = [
        replace(machine("n10"), ready=False),
        replace(machine("n3"), cordoned=True, labels={"zone": "a"}, taints=(Taint("k", "v"),)),
        failing,
    ]
    with served(nodes) as there:
        items = there.get("/nodes")["items"]
        assert [(item["name"], item["state"]) for item in items] == [
            ("n2", "ready"), ("n3", "cordoned"), ("n10", "not ready"),
        ]  # fmt: skip
        assert items[0]["gpu"] == {"total": 2, "free": 1}
        assert items[1]["labels"] == {"zone": "a"}
        assert items[1]["taints"] == [{"key": "k", "value": "v", "effect": "NoSchedule"}]
        assert [gpu["healthy"] for gpu in there.get("/gpus")["items"][:2]] == [False, True]


def test_gpus_tell_who_holds_them(there: Served) -> None:
    """How much of each is used, and by which tasks."""
    there.submit({"name": "a", "run": "x", "tasks": 2, "resources": {"gpu": 0.5}})
    gpus = there.get("/gpus")["items"]
    assert [gpu["used"] for gpu in gpus] == [1.0, *[0.0] * 7]
    assert gpus[0]["holders"] == [
        {"workload": "a", "task": "a-0", "milli": 500}, {"workload": "a", "task": "a-1", "milli": 500},
    ]  # fmt: skip
    assert (gpus[0]["model"], gpus[0]["memory"], gpus[0]["virtual"]) == ("H100", "80Gi", True)


def test_the_board_reads_back(there: Served) -> None:
    """Snapshot and decision load as the documents that they are."""
    there.submit(
        [
            {"name": "a", "run": "x", "resources": {"gpu": 2}},
            {"name": "b", "run": "x", "resources": {"gpu": 9}},
        ]
    )
    board = there.get("/board")
    snapshot, decision = load_snapshot(board["snapshot"]), load_decision(board["decision"])
    assert [workload.name for workload in snapshot.workloads] == ["a", "b"]
    assert [hold.workload for hold in decision.holds] == ["b"]


def test_the_status_counts_and_notes(there: Served) -> None:
    """Workloads by state, the engine with its notes, the loop's numbers."""
    there.submit([{"name": "a", "run": "x"}, {"name": "b", "run": "x", "resources": {"gpu": 9}}])
    status = there.get("/status")
    assert (status["counts"]["running"], status["counts"]["pending"], status["counts"]["failed"]) == (1, 1, 0)
    assert status["engine"] == {"name": "fake", "devices": 8, "nodes": 1, "notes": ["a note"]}
    assert status["trouble"] == []
    assert status["loop"]["cycles"] >= 1
    assert status["started"] == "2026-01-01T00:00:00Z"


def test_the_status_says_what_the_last_decision_warns_of(there: Served) -> None:
    """Two queues that want all of their quota, which is more than there is; it is an event, too."""
    assert there.get("/status")["warnings"] == []
    for name in ("one", "two"):
        there.submit([{"kind": "queue", "name": name, "quota": {"gpu": 8}}])
        there.submit({"name": name, "project": name, "run": "x", "resources": {"gpu": 8}})
    there.eventually(lambda: there.get("/status")["warnings"], "it is said")
    (warning,) = there.get("/status")["warnings"]
    assert warning.startswith("quotas of gpu in the cluster exceed what there is (16 of 8)")
    assert [row["message"] for row in there.get("/events")["items"] if row["kind"] == "Warned"] == [warning]


def test_a_cluster_of_no_nodes_is_no_error() -> None:
    """Every list is there, and empty."""
    nothing: list[Node] = []
    with served(nothing) as there:
        assert there.get("/nodes")["items"] == there.get("/gpus")["items"] == []
        assert there.submit({"name": "a", "run": "x"})[0]["hold"]["code"] == "NoNodeMatches"
        assert there.get("/status")["engine"]["devices"] == 0


def test_what_a_task_holds_and_is_not_there_any_more_is_gone(there: Served) -> None:
    """It is shown with its holder, as gone, and counted nowhere."""
    there.submit({"name": "w", "run": "x", "resources": {"gpu": 4}})
    there.eventually(lambda: there.get("/workloads/w")["state"] == "running", "it runs")
    there.engine.nodes = (machine(gpus=2),)
    there.eventually(lambda: there.get("/status")["engine"]["devices"] == 2, "they are not counted")
    rows = there.get("/gpus")["items"]
    assert [(row["gone"], row["model"], row["memory"], row["virtual"]) for row in rows] == [
        *[(False, "H100", "80Gi", True)] * 2, *[(True, "", "", False)] * 2,
    ]  # fmt: skip
    assert [row["holders"][0]["workload"] for row in rows] == ["w"] * 4
    assert there.get("/nodes")["items"][0]["gpu"] == {"total": 2, "free": 0}
    there.engine.nodes = (machine("other", gpus=2),)
    there.eventually(lambda: there.get("/status")["engine"]["nodes"] == 1, "the node is not counted")
