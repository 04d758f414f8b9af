"""Submit, look, act: what the API promises of workloads."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from msgspec.structs import replace

from gpumax.apps.server.evicting import Evictor
from gpumax.broker.control import Seen
from gpumax.broker.status import DeviceStatus, Unfenced
from gpumax.engines.local.tree import MARK
from server.harness import Served, machine, served

RUN = {"run": ["sleep", "1"], "resources": {"gpu": 1}}


@pytest.fixture
def there() -> Iterator[Served]:
    """One node of eight GPUs, and the queue `default`."""
    with served() as made:
        yield made


def test_a_submit_is_answered_with_the_real_places(there: Served) -> None:
    """The answer waits for the cycle that saw it: it names node and GPU."""
    (item,) = there.submit({"name": "a", **RUN})
    assert (item["name"], item["created"], item["state"], item["hold"]) == ("a", True, "running", None)
    assert item["places"] == [
        {"task": "a-0", "node": "n1", "devices": [{"index": 0, "milli": 1000}], "after": []}
    ]


def test_work_that_can_never_run_is_accepted_and_held(there: Served) -> None:
    """More GPUs than any node has: on record, and the answer says why it waits."""
    (item,) = there.submit({"name": "a", "run": "x", "resources": {"gpu": 9}})
    assert item["state"] == "pending"
    assert item["hold"]["code"] == "NoNodeMatches"
    assert there.get("/workloads/a")["hold"] == item["hold"]


def test_yaml_of_several_documents_is_taken_as_one(there: Served) -> None:
    """Queues and workloads of one file, in YAML, all at once; queues come first in the answer."""
    body = b"name: a\nproject: team\nrun: x\n---\nkind: queue\nname: team\nquota: {gpu: 4}\n"
    assert [(item["kind"], item["name"], item["created"]) for item in there.submit(body)] == [
        ("queue", "team", True), ("workload", "a", True),
    ]  # fmt: skip
    (again,) = there.ask("POST", "/workloads", body=b"kind: queue\nname: team\nquota: {gpu: 4}\n").body[
        "items"
    ]
    assert not again["created"]


def test_all_faults_come_at_once_and_nothing_is_recorded(there: Served) -> None:
    """Each with its place, its line, what was found and what was wanted."""
    body = b"name: a\nrun: x\nproject: nobody\nresources: {gpu: -1}\n---\nname: b\nrun: x\n"
    answer = there.ask("POST", "/workloads", body=body)
    assert answer.status == 422
    assert [(fault["path"], fault["line"]) for fault in answer.body["error"]["faults"]] == [
        ("project", 3), ("resources.gpu", 4),
    ]  # fmt: skip
    assert there.get("/workloads")["items"] == []


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"a: [", b"{", b"- 1", b"null"])
def test_what_is_no_file_is_refused_in_words(there: Served, body: bytes) -> None:
    """Empty, binary, broken: 422 with a fault, never an internal error."""
    answer = there.ask("POST", "/workloads", body=body)
    assert answer.status == 422
    assert answer.body["error"]["faults"]


def test_a_body_beyond_16_mib_is_refused(there: Served) -> None:
    """413, in words."""
    answer = there.ask("POST", "/workloads", body=b" " * ((16 << 20) + 1))
    assert answer.status == 413
    assert "16 MiB" in answer.body["error"]["message"]


def test_a_relative_base_is_refused(there: Served) -> None:
    """Relative paths of a file have to start somewhere."""
    assert there.ask("POST", "/workloads", body=RUN, base="here").status == 422


def test_workdir_starts_from_base(there: Served) -> None:
    """A file's relative directory is relative to where the file is."""
    there.submit({"name": "a", "workdir": "sub", **RUN}, base="/home/me")
    assert there.get("/workloads/a")["spec"]["workdir"] == "/home/me/sub"


def test_the_same_key_again_repeats_nothing(there: Served) -> None:
    """200 and the same workload; another body under the key is a conflict."""
    key = {"Idempotency-Key": "k1"}
    first = there.ask("POST", "/workloads", body=RUN, headers=key)
    there.clock.advance(1000)
    again = there.ask("POST", "/workloads", body=RUN, headers=key)
    assert (first.status, again.status) == (201, 200)
    assert first.body["items"][0]["created"]
    assert not again.body["items"][0]["created"]
    assert again.body["items"][0]["name"] == first.body["items"][0]["name"]
    assert len(there.get("/workloads")["items"]) == 1
    other = there.ask("POST", "/workloads", body={**RUN, "retries": {"max": 1}}, headers=key)
    assert other.status == 409


def test_a_written_name_in_use_is_a_conflict(there: Served) -> None:
    """409 with the name; the workload that has it is left alone."""
    there.submit({"name": "a", **RUN})
    answer = there.ask("POST", "/workloads", body={"name": "a", **RUN})
    assert answer.status == 409
    assert answer.body["error"]["message"].startswith("a: ")
    assert there.ask("POST", "/workloads", body={"name": "a", **RUN}, dry_run=1).status == 409


def test_made_names_never_collide(there: Served) -> None:
    """From the command or the file; with a number where they are taken."""
    names = [there.submit({"run": ["python", "train.py"]})[0]["name"] for _ in range(3)]
    assert names == ["train", "train-2", "train-3"]
    body = [{"run": "x"}, {"run": "x"}, {"name": "sweep", "run": "x"}]
    assert [item["name"] for item in there.submit(body, source="dir/sweep.yaml")] == [
        "sweep-2",
        "sweep-3",
        "sweep",
    ]


def test_submits_at_the_same_time_get_names_of_their_own(there: Served) -> None:
    """Whoever is second when a name is made gets the next one, not a conflict."""
    with ThreadPoolExecutor(8) as pool:
        items = pool.map(lambda _: there.submit({"run": ["python", "train.py"]})[0], range(16))
        names = {item["name"] for item in items}
    assert names == {"train", *(f"train-{number}" for number in range(2, 17))}


def test_a_dry_run_changes_nothing(there: Served) -> None:
    """It tells places and who would be evicted."""
    there.submit([
        {"kind": "queue", "name": "owner", "quota": {"gpu": 8}},
        {"name": "guest", "run": "x", "resources": {"gpu": 8}},
    ])  # fmt: skip
    before = there.get("/events")["items"]
    answer = there.ask("POST", "/workloads", body={"name": "mine", "project": "owner", **RUN}, dry_run=1)
    assert answer.status == 200
    (item,) = answer.body["items"]
    assert item["evictions"] == [{"task": "guest-0", "cause": "reclaim", "for": "mine"}]
    assert item["places"][0]["after"] == ["guest-0"]
    assert there.ask("GET", "/workloads/mine").status == 404
    assert there.get("/events")["items"] == before


def test_a_submit_that_evicts_says_whom(there: Served) -> None:
    """The owner's submit is answered with its place and the tasks that make room."""
    there.submit([
        {"kind": "queue", "name": "owner", "quota": {"gpu": 8}},
        {"name": "guest", "run": "x", "resources": {"gpu": 8}},
    ])  # fmt: skip
    there.engine.stops = False
    (item,) = there.submit({"name": "mine", "project": "owner", **RUN})
    assert item["evictions"] == [{"task": "guest-0", "cause": "reclaim", "for": "mine"}]
    assert item["state"] == "pending"
    there.engine.exit("guest-0", 143)
    there.eventually(lambda: there.get("/workloads/mine")["state"] == "running", "the owner's work runs")
    task = there.get("/workloads/guest")["tasks"][0]
    assert (task["cause"], task["for"]) == ("reclaim", "mine")


@pytest.mark.parametrize("stops", [False, True])
def test_a_submit_that_evicts_for_a_limit_says_whom(there: Served, stops: bool) -> None:
    """Where GPUs are free and a limit is full somebody goes, too, however quickly: it is told, also of work that has started."""
    child = {"kind": "queue", "parent": "p", "quota": {"gpu": 4}}
    there.submit([
        {"kind": "queue", "name": "p", "limit": {"gpu": 6}},
        {**child, "name": "c1"},
        {**child, "name": "c2"},
        *({"name": f"w{number}", "project": "c1", **RUN} for number in range(6)),
    ])  # fmt: skip
    there.engine.stops = stops
    (item,) = there.submit({"name": "hi", "project": "c2", **RUN})
    assert item["places"]
    assert item["evictions"] == [{"task": "w5-0", "cause": "reclaim", "for": "hi"}]


def test_a_file_that_is_applied_again_changes_nothing(there: Served) -> None:
    """What is there just as it says stays, running or done; what is new of it is made; what is there otherwise is told, and nothing is made."""
    first, second = {"name": "a", **RUN}, {"name": "b", **RUN}
    there.submit([first], source="work.yaml")
    before = there.get("/workloads/a")
    there.clock.advance(1000)
    answer = there.ask("POST", "/workloads", body=[first], source="work.yaml")
    assert answer.status == 200
    assert [(item["name"], item["created"], item["state"]) for item in answer.body["items"]] == [
        ("a", False, "running")
    ]
    planned = there.ask("POST", "/workloads", body=[second, first], source="work.yaml", dry_run=1).body[
        "items"
    ]
    assert [(item["name"], item["state"]) for item in planned] == [("b", "pending"), ("a", "running")]
    more = there.submit([second, first], source="work.yaml")
    assert [(item["name"], item["created"]) for item in more] == [("b", True), ("a", False)]
    assert there.get("/workloads/a")["id"] == before["id"]
    changed = [{"name": "c", **RUN}, {**first, "run": "false", "env": {"X": "1"}}]
    for dry_run in (0, 1):
        refused = there.ask("POST", "/workloads", body=changed, source="work.yaml", dry_run=dry_run)
        assert refused.status == 409
        assert "run, env of it can't change" in refused.body["error"]["message"]
    assert [item["name"] for item in there.get("/workloads")["items"]] == ["b", "a"]
    there.engine.exit("a-0", 0)
    there.eventually(lambda: there.get("/workloads/a")["state"] == "succeeded", "it is done")
    (done,) = there.ask("POST", "/workloads", body=[first], source="work.yaml").body["items"]
    assert (done["created"], done["state"]) == (False, "succeeded")


def test_what_is_being_deleted_is_not_applied_again(there: Served) -> None:
    """It would go; whoever wants it waits until it has gone."""
    there.engine.stops = False
    there.submit([{"name": "a", **RUN}], source="work.yaml")
    there.ask("DELETE", "/workloads/a")
    refused = there.ask("POST", "/workloads", body=[{"name": "a", **RUN}], source="work.yaml")
    assert refused.status == 409
    assert "being deleted" in refused.body["error"]["message"]


def test_evictions_for_another_of_the_name_are_not_told(there: Served) -> None:
    """Whom a deleted workload drove away, a new one of its name has nothing to do with."""
    there.submit([
        {"kind": "queue", "name": "owner", "quota": {"gpu": 8}},
        {"name": "guest", "run": "x", "resources": {"gpu": 8}},
    ])  # fmt: skip
    there.submit({"name": "mine", "project": "owner", "run": "x", "resources": {"gpu": 8}})
    there.eventually(lambda: there.get("/workloads/mine")["state"] == "running", "the owner's work runs")
    there.submit({"name": "last", "project": "owner", "run": "x", "resources": {"gpu": 8}})
    there.ask("DELETE", "/workloads/mine")
    there.eventually(lambda: there.get("/workloads/last")["state"] == "running", "the next one runs")
    (item,) = there.submit({"name": "mine", "project": "owner", **RUN})
    assert item["evictions"] == []


def test_lists_come_in_pages_newest_first(there: Served) -> None:
    """`next` leads through all of them, null at the end."""
    for number in range(5):
        there.submit({"name": f"w{number}", "run": "x"})
    seen, after = [], ""
    while True:
        page = there.get("/workloads", limit=2, after=after)
        assert len(page["items"]) <= 2
        seen += [item["name"] for item in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert seen == ["w4", "w3", "w2", "w1", "w0"]


def test_lists_are_narrowed_by_state_and_project(there: Served) -> None:
    """Several states with commas between; a word that is no state is a fault."""
    there.submit(
        [
            {"kind": "queue", "name": "team"},
            {"name": "a", **RUN},
            {"name": "b", "project": "team", "run": "x"},
        ]
    )
    there.submit({"name": "c", "run": "x", "resources": {"gpu": 9}})
    assert [item["name"] for item in there.get("/workloads", state="running,failed")["items"]] == ["b", "a"]
    assert [item["name"] for item in there.get("/workloads", state="pending")["items"]] == ["c"]
    assert [item["name"] for item in there.get("/workloads", project="team")["items"]] == ["b"]
    answer = there.ask("GET", "/workloads", state="runing")
    assert answer.status == 422
    assert "running" in answer.body["error"]["faults"][0]["wanted"]


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 501}, {"limit": "x"}, {"after": "no cursor"}])
def test_bad_parameters_are_faults(there: Served, query: dict[str, Any]) -> None:
    """422, each with what was found and what was wanted."""
    answer = there.ask("GET", "/workloads", **query)
    assert answer.status == 422
    assert answer.body["error"]["faults"][0]["found"]


def test_a_workload_tells_what_it_holds_and_held(there: Served) -> None:
    """GPUs held now, nodes, running tasks, and GPU time so far."""
    there.submit({"name": "a", "run": "x", "tasks": 2, "resources": {"gpu": 0.5}})
    there.eventually(lambda: there.get("/workloads")["items"][0]["tasks"]["running"] == 2, "both run")
    there.clock.advance(10_000)
    (item,) = there.get("/workloads")["items"]
    assert (item["gpu"], item["nodes"], item["tasks"]) == (1, ["n1"], {"running": 2, "done": 0, "total": 2})
    assert item["device_seconds"] == 10
    tasks = there.get("/workloads/a")["tasks"]
    assert [(task["index"], task["state"], task["node"]) for task in tasks] == [
        (0, "running", "n1"),
        (1, "running", "n1"),
    ]


def test_gpus_of_waiting_work_are_what_it_asks_for(there: Served) -> None:
    """Over all tasks; a request by memory counts as its part of the smallest GPU."""
    there.submit({"name": "a", "run": "x", "tasks": 3, "resources": {"gpu": 9}})
    there.submit({"name": "b", "run": "x", "tasks": 20, "resources": {"gpu_memory": "20Gi"}})
    there.submit({"name": "c", "run": "x", "tasks": 20, "resources": {"gpu_memory": "60Gi"}})
    gpus = {item["name"]: item["gpu"] for item in there.get("/workloads")["items"]}
    assert gpus == {"a": 27, "b": 5, "c": 15}


@pytest.mark.parametrize(("action", "state"), [("stop", "stopped"), ("suspend", "suspended")])
def test_waiting_work_is_put_away_before_the_answer(there: Served, action: str, state: str) -> None:
    """Where nothing has to end first, the answer already tells the new state."""
    there.submit({"name": "a", "run": "x", "resources": {"gpu": 9}})
    answer = there.ask("POST", f"/workloads/a/{action}")
    assert (answer.status, answer.body["state"]) == (200, state)


def test_running_work_is_stopped_suspended_and_resumed(there: Served) -> None:
    """The state follows the wish when its tasks have ended."""
    there.submit({"name": "a", **RUN})
    there.ask("POST", "/workloads/a/suspend")
    there.eventually(lambda: there.get("/workloads/a")["state"] == "suspended", "it is suspended")
    there.ask("POST", "/workloads/a/resume")
    there.eventually(lambda: there.get("/workloads/a")["state"] == "running", "it runs again")
    there.ask("POST", "/workloads/a/stop")
    there.eventually(lambda: there.get("/workloads/a")["state"] == "stopped", "it is stopped")
    assert there.ask("POST", "/workloads/a/resume").status == 409


def test_a_deleted_name_is_free_at_once(there: Served) -> None:
    """Once nothing runs, delete and submit again need no pause between them."""
    there.submit({"name": "a", "run": "x", "resources": {"gpu": 9}})
    answer = there.ask("DELETE", "/workloads/a")
    assert (answer.status, answer.body["name"]) == (200, "a")
    assert there.ask("GET", "/workloads/a").status == 404
    assert there.submit({"name": "a", **RUN})[0]["created"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/workloads/no"), ("GET", "/workloads/no/why"), ("GET", "/workloads/no/tasks/0/log"), ("POST", "/workloads/no/stop"),
        ("POST", "/workloads/no/suspend"), ("POST", "/workloads/no/resume"), ("DELETE", "/workloads/no"),
        ("GET", "/queues/no"), ("DELETE", "/queues/no"), ("GET", "/workloads/..%2f..%2fetc/tasks/0/log"), ("GET", "/workloads/%00"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_404(there: Served, method: str, path: str) -> None:
    """In the one shape of errors, naming what was asked for."""
    answer = there.ask(method, path)
    assert answer.status == 404
    assert answer.body["error"]["message"]
    assert answer.body["error"]["faults"] == []


def test_events_of_what_was_never_there_are_404(there: Served) -> None:
    """As everything else of it is; those of deleted work are kept."""
    answer = there.ask("GET", "/events", workload="no")
    assert (answer.status, answer.body["error"]["message"]) == (404, "no workload named 'no'")
    there.submit({"name": "a", **RUN})
    there.ask("DELETE", "/workloads/a")
    there.eventually(lambda: there.ask("GET", "/workloads/a").status == 404, "it is gone")
    assert there.get("/events", workload="a")["items"]
    assert there.get("/events", workload="a", after=1 << 40)["items"] == []


def test_why_explains_work_in_every_state(there: Served) -> None:
    """Running, waiting, suspended, failed, done, stopped: always a sentence at least."""
    there.submit({"name": "runs", **RUN})
    there.submit({"name": "waits", "run": "x", "resources": {"gpu": 9}})
    there.submit({"name": "failed", "run": "x"})
    there.submit({"name": "done", "run": "x"})
    there.submit({"name": "put-away", "run": "x", "resources": {"gpu": 9}})
    there.ask("POST", "/workloads/put-away/suspend")
    there.engine.exit("failed-0", 3)
    there.engine.exit("done-0")
    there.eventually(lambda: there.get("/workloads/done")["state"] == "succeeded", "it is done")
    there.eventually(lambda: there.get("/workloads/failed")["state"] == "failed", "it failed")
    told = {
        name: there.get(f"/workloads/{name}/why") for name in ("runs", "waits", "failed", "done", "put-away")
    }
    assert {name: why["state"] for name, why in told.items()} == {
        "runs": "running", "waits": "held", "failed": "failed", "done": "succeeded", "put-away": "suspended",
    }  # fmt: skip
    assert told["waits"]["hold"]["code"] == "NoNodeMatches"
    assert told["waits"]["queue"][0]["resource"] == "gpu"
    assert "exit code 3" in told["failed"]["sentences"][0]
    assert "gpumax resume put-away" in told["put-away"]["sentences"][0]
    assert all(why["sentences"] for why in told.values())


def test_a_start_that_the_machine_refuses_is_told_at_once(there: Served) -> None:
    """The answer to the submit, the list and `why` carry the engine's words; it is tried again."""
    there.engine.refuse = "no such directory: /nope"
    (item,) = there.submit({"name": "a", "run": "x", "workdir": "/nope"})
    assert item["state"] == "pending"
    assert "no such directory: /nope" in item["reason"]
    assert there.get("/workloads")["items"][0]["reason"] == item["reason"]
    assert any(
        "no such directory: /nope" in sentence for sentence in there.get("/workloads/a/why")["sentences"]
    )


def test_why_tells_of_tasks_on_their_way_out(there: Served) -> None:
    """For whom they go, while they still have their grace."""
    there.submit(
        [{"kind": "queue", "name": "owner", "quota": {"gpu": 8}}, {"name": "guest", **RUN, "tasks": 8}]
    )
    there.engine.stops = False
    there.submit({"name": "mine", "project": "owner", "run": "x", "resources": {"gpu": 8}})
    there.site.settle()
    told = there.get("/workloads/guest/why")
    assert told["sentences"] == ["8 of its tasks are on the way out: evicted for mine (reclaim)."]
    there.ask("POST", "/workloads/mine/stop")


def test_why_tells_what_running_work_went_through(there: Served) -> None:
    """How often it was evicted, and last for whom, though its tasks run again and know nothing of it."""
    there.submit([
        {"kind": "queue", "name": "owner", "quota": {"gpu": 8}},
        {"name": "guest", "run": "x", "resources": {"gpu": 8}},
    ])  # fmt: skip
    for name in ("first", "second"):
        there.submit({"name": name, "project": "owner", "run": "x", "resources": {"gpu": 8}})
        there.eventually(lambda name=name: there.get(f"/workloads/{name}")["state"] == "running", "its turn")  # type: ignore[misc]
        there.ask("POST", f"/workloads/{name}/stop")
        there.eventually(lambda: there.get("/workloads/guest")["state"] == "running", "it runs again")
    told = there.get("/workloads/guest/why")["sentences"]
    assert told == [
        "It has just begun to run.",
        "It was evicted 2 times, the last time just now for second (reclaim).",
    ]
    there.clock.advance(4 * 60_000)
    there.eventually(
        lambda: (
            there.get("/workloads/guest/why")["sentences"]
            == [
                "It has run for 4m.",
                "It was evicted 2 times, the last time 4m ago for second (reclaim).",
            ]
        ),
        "time passes",
    )


def test_why_tells_of_work_that_waits_again_when_it_was_evicted_and_for_whom(there: Served) -> None:
    """And what it waits for now, first."""
    there.submit([
        {"kind": "queue", "name": "owner", "quota": {"gpu": 8}},
        {"name": "guest", "run": "x", "resources": {"gpu": 8}},
    ])  # fmt: skip
    there.submit({"name": "mine", "project": "owner", "run": "x", "resources": {"gpu": 8}})
    there.eventually(lambda: there.get("/workloads/mine")["state"] == "running", "its turn")
    there.clock.advance(90_000)
    waits, *rest = there.get("/workloads/guest/why")["sentences"]
    assert waits.startswith("It waits (NoRoom): ")
    assert "It was evicted 1m30s ago for mine (reclaim)." in rest
    there.ask("POST", "/workloads/guest/suspend")
    there.eventually(lambda: there.get("/workloads/guest")["state"] == "suspended", "it is put aside")
    assert there.get("/workloads/guest/why")["sentences"] == [
        "It is suspended until `gpumax resume guest`.",
        "It was evicted 1m30s ago for mine (reclaim).",
    ]


def test_why_tells_who_was_taken_off_its_gpu_for_getting_around_its_part(there: Served) -> None:
    """Once it has gone, too, and when somebody has resumed it."""
    there.submit({"name": "wild", "run": "x", "resources": {"gpu": 0.5}})
    there.eventually(lambda: there.get("/workloads/wild")["state"] == "running", "it runs")
    found = there.site.store.find("wild")
    assert found is not None
    attempt = found[1][0].attempt or ""
    with subprocess.Popen(["sleep", "60"], env={**os.environ, MARK: attempt}) as process:
        it = Unfenced(process.pid, 3 << 20, "it has declared nothing")
        evictor = Evictor(there.site.store, there.clock, there.site.loop.wake)
        evictor.look(Seen(1, (DeviceStatus("GPU-1", "A100", 40 << 30, 0, "idle", (it,)),), ()))
        process.kill()
    there.eventually(lambda: there.get("/workloads/wild")["state"] == "suspended", "it has gone")
    there.clock.advance(60_000)
    words = f"its process {process.pid} uses 3 MiB of GPU-1, and it has declared nothing"
    assert there.get("/workloads/wild/why")["sentences"] == [
        "It is suspended until `gpumax resume wild`.", f"It was evicted 1m ago (unfenced): {words}.",
    ]  # fmt: skip
    there.ask("POST", "/workloads/wild/resume")
    there.eventually(lambda: there.get("/workloads/wild")["state"] == "running", "it runs again")
    assert f"It was evicted 1m ago (unfenced): {words}." in there.get("/workloads/wild/why")["sentences"]


def test_a_machine_without_gpus_holds_gpu_work_and_runs_the_rest() -> None:
    """No GPU here is no error."""
    with served([machine(gpus=0)]) as there:
        assert there.submit({"name": "a", **RUN})[0]["hold"]["code"] == "NoNodeMatches"
        assert there.submit({"name": "b", "run": "x"})[0]["places"][0]["node"] == "n1"


def test_work_that_pauses_before_a_retry_says_why_and_for_how_long(there: Served) -> None:
    """As its reason, and as a sentence."""
    there.submit({"name": "w", "run": "x", "retries": {"max": 3}})
    there.eventually(lambda: there.get("/workloads/w")["state"] == "running", "it runs")
    there.engine.exit("w-0", 1)
    there.eventually(lambda: there.get("/workloads/w")["state"] == "pending", "it failed")
    reason = "w-0: exit code 1; starts again after 1s, retry 1 of 3"
    assert there.get("/workloads/w")["reason"] == reason
    assert f"Its last run failed: {reason}." in there.get("/workloads/w/why")["sentences"]


def test_work_that_can_not_start_says_so_at_once(there: Served) -> None:
    """A plan says it before, a submit with its answer, `why` afterwards."""
    there.engine.object = "there is no secret X"
    body = {"name": "w", "run": "x"}
    planned = there.ask("POST", "/workloads", body=body, dry_run=1).body["items"][0]
    (made,) = there.submit(body)
    for fate in (planned, made):
        assert (fate["reason"], fate["places"], fate["hold"]) == ("there is no secret X", [], None)
    assert any(
        "can't start: there is no secret X" in line for line in there.get("/workloads/w/why")["sentences"]
    )


def test_a_gpu_that_fails_takes_nothing_new_and_its_work_is_told_so_once(there: Served) -> None:
    """What runs there runs on; it is whole again when the driver says so."""
    there.engine.nodes = (machine(gpus=2),)
    there.submit({"name": "a", "run": "x", "resources": {"gpu": 1}})
    there.eventually(lambda: there.get("/workloads/a")["state"] == "running", "it runs")
    whole = there.engine.nodes[0]
    ill = tuple(replace(device, healthy=device.index != 0) for device in whole.devices)
    there.engine.nodes = (replace(whole, devices=ill),)
    words = "GPU 0 of n1, which a-0 holds, is unhealthy: it takes no new work"
    there.eventually(lambda: f"{words}." in there.get("/workloads/a/why")["sentences"], "it is seen")
    assert [row["healthy"] for row in there.get("/gpus")["items"]] == [False, True]
    for name in ("b", "c"):
        there.submit({"name": name, "run": "x", "resources": {"gpu": 1}})
    states = {name: there.get(f"/workloads/{name}")["state"] for name in "abc"}
    assert states == {"a": "running", "b": "running", "c": "pending"}
    assert "Unhealthy, so without new work: GPU 0 of n1." in there.get("/workloads/c/why")["sentences"]
    told = [row["message"] for row in there.get("/events", workload="a")["items"] if row["kind"] == "Warned"]
    assert told == [words]
    there.ask("POST", "/workloads/a/stop")
    there.eventually(lambda: there.get("/workloads/a")["state"] == "stopped", "it has gone")
    assert there.get("/workloads/c")["state"] == "pending"
    there.engine.nodes = (whole,)
    there.eventually(lambda: there.get("/workloads/c")["state"] == "running", "it has its place")
