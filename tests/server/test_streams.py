"""Events and logs: lists, streams, and how a reader picks a stream up again."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from gpumax.apps.server import sse
from server.harness import Served, served


@pytest.fixture
def there() -> Iterator[Served]:
    """One node of eight GPUs, and the queue `default`."""
    with served() as made:
        yield made


def test_events_are_read_from_a_seq_on(there: Served) -> None:
    """Oldest first; `next` is where the rest begins, and stays where it is when there is no rest."""
    there.submit({"name": "a", "run": "x"})
    everything = there.get("/events", limit=1000)
    first = there.get("/events", limit=2)
    rest = there.get("/events", after=first["next"])
    assert first["items"] + rest["items"] == everything["items"]
    assert there.get("/events", after=everything["next"]) == {"items": [], "next": everything["next"]}


def test_the_newest_events_of_one_workload(there: Served) -> None:
    """newest: the last ones, still oldest first; workload: of this one only."""
    there.submit([{"name": "a", "run": "x"}, {"name": "b", "run": "x"}])
    (last,) = there.get("/events", newest=1, limit=1)["items"]
    assert last == there.get("/events", limit=1000)["items"][-1]
    of_a = there.get("/events", workload="a")["items"]
    assert {event["workload"] for event in of_a} == {"a"}
    assert of_a[0]["kind"] == "Submitted"


def test_a_watch_tells_what_happens_from_a_seq_on(there: Served) -> None:
    """What was before the seq is not told; what comes is told as it is committed, with its seq as id."""
    after = there.get("/events", newest=1)["next"]
    with there.stream("/watch", after=after) as stream:
        there.submit({"name": "a", "run": "x"})
        message = next(stream)
        event = json.loads(message.data)
        assert (event["kind"], event["workload"], event["seq"]) == ("Submitted", "a", after + 1)
        assert message.id == str(after + 1)
        kinds = [json.loads(next(stream).data)["kind"] for _ in range(2)]
        assert kinds == ["Placed", "Started"]


def test_a_watch_is_picked_up_where_it_broke_off(there: Served) -> None:
    """Last-Event-ID wins over `after`: nothing is told twice and nothing is left out."""
    there.submit({"name": "a", "run": "x"})
    there.eventually(lambda: there.get("/workloads/a")["state"] == "running", "it runs")
    there.site.settle()
    events = there.get("/events", limit=1000)["items"]
    with there.stream("/watch", after=0) as stream:
        first = next(stream)
    assert first.id == str(events[0]["seq"])
    with there.stream("/watch", after=0, last=first.id) as stream:
        assert [json.loads(next(stream).data) for _ in events[1:]] == events[1:]


@pytest.mark.parametrize("last", ["", "x", "-1", "9" * 40])
def test_an_id_that_no_stream_gave_does_no_harm(there: Served, last: str) -> None:
    """The stream is there all the same."""
    for path in ("/watch?after=0", "/workloads/a/tasks/0/log?follow=1"):
        there.ask("POST", "/workloads", body={"name": "a", "run": "x"})
        with there.client.stream("GET", f"/api/v1{path}", headers={"Last-Event-ID": last}) as response:
            assert response.status_code in (200, 422)


def test_a_watch_of_one_workload_passes_others_over(there: Served) -> None:
    """Only its events come."""
    with there.stream("/watch", after=0, workload="b") as stream:
        there.submit([{"name": "a", "run": "x"}, {"name": "b", "run": "x"}])
        assert json.loads(next(stream).data)["workload"] == "b"


def test_a_log_that_is_not_there_yet_is_empty(there: Served) -> None:
    """A task that waits has printed nothing; a task that doesn't exist is 404."""
    there.submit({"name": "a", "run": "x"})
    answer = there.ask("GET", "/workloads/a/tasks/0/log")
    assert (answer.status, answer.body) == (200, b"")
    assert there.ask("GET", "/workloads/a/tasks/1/log").status == 404


@pytest.mark.parametrize(
    ("text", "lines", "wanted"),
    [
        (b"", 5, b""), (b"a\nb\nc\n", 0, b""), (b"a\nb\nc\n", 1, b"c\n"), (b"a\nb\nc\n", 2, b"b\nc\n"), (b"a\nb\nc\n", 3, b"a\nb\nc\n"),
        (b"a\nb\nc\n", 99, b"a\nb\nc\n"), (b"a\nb\nc", 1, b"c"), (b"\n\n\n", 2, b"\n\n"), (b"x" * 200_000, 1, b"x" * 200_000),
        (b"head\n" + b"y" * 70_000 + b"\nend\n", 2, b"y" * 70_000 + b"\nend\n"), (b"\xff\xfe\n\x00\n", 1, b"\x00\n"),
    ],
)  # fmt: skip
def test_the_last_lines_of_a_log(there: Served, text: bytes, lines: int, wanted: bytes) -> None:
    """Exactly so many, byte by byte, whatever is in them."""
    there.submit({"name": "a", "run": "x"})
    there.write_log("a", text)
    assert there.ask("GET", "/workloads/a/tasks/0/log", tail=lines).body == wanted
    assert there.ask("GET", "/workloads/a/tasks/0/log").body == text


def test_a_followed_log_comes_as_it_is_written_and_ends(there: Served) -> None:
    """Pieces as they come, then `end` when the workload is finished and all was sent."""
    there.submit({"name": "a", "run": "x"})
    with there.stream("/workloads/a/tasks/0/log", follow=1) as stream:
        there.write_log("a", b"one\n")
        assert json.loads(next(stream).data) == "one\n"
        there.write_log("a", b"two\n")
        assert json.loads(next(stream).data) == "two\n"
        there.write_log("a", b"last words")
        there.engine.exit("a-0")
        messages = list(stream)
    assert "".join(json.loads(message.data) for message in messages[:-1]) == "last words"
    assert messages[-1].event == "end"
    assert json.loads(messages[-1].data) == {"state": "succeeded"}


def test_a_character_in_two_pieces_arrives_whole(there: Served) -> None:
    """UTF-8 is put together over pieces; what is no UTF-8 is shown as such."""
    there.submit({"name": "a", "run": "x"})
    snowman = "☃".encode()
    with there.stream("/workloads/a/tasks/0/log", follow=1) as stream:
        there.write_log("a", b"x" + snowman[:1])
        assert json.loads((first := next(stream)).data) == "x"
        assert first.id == "1"
        there.write_log("a", snowman[1:] + b"\xff")
        there.engine.exit("a-0")
        assert "".join(json.loads(m.data) for m in stream if m.event == "message") == "☃\ufffd"


def test_a_followed_log_is_picked_up_at_its_byte(there: Served) -> None:
    """Ids are byte offsets; with Last-Event-ID the rest comes, whatever `tail` says."""
    there.submit({"name": "a", "run": "x"})
    there.write_log("a", "zwölf\n".encode())
    with there.stream("/workloads/a/tasks/0/log", follow=1) as stream:
        first = next(stream)
    assert first.id == "7"
    there.write_log("a", b"more\n")
    there.engine.exit("a-0")
    with there.stream("/workloads/a/tasks/0/log", follow=1, tail=0, last=first.id) as stream:
        assert [json.loads(m.data) for m in stream if m.event == "message"] == ["more\n"]


def test_the_log_of_finished_work_is_followed_to_its_end_at_once(there: Served) -> None:
    """All of it, or its last lines, then `end`."""
    there.submit({"name": "a", "run": "x"})
    there.write_log("a", b"a\nb\nc\n")
    there.engine.exit("a-0", 1)
    there.eventually(lambda: there.get("/workloads/a")["state"] == "failed", "it failed")
    with there.stream("/workloads/a/tasks/0/log", follow=1, tail=1) as stream:
        messages = list(stream)
    assert [(m.event, json.loads(m.data)) for m in messages] == [
        ("message", "c\n"), ("end", {"state": "failed"}),
    ]  # fmt: skip


def test_a_long_log_comes_whole(there: Served) -> None:
    """Larger than any one piece."""
    there.submit({"name": "a", "run": "x"})
    text = "".join(f"line {number} ☃\n" for number in range(20_000))
    there.write_log("a", text.encode())
    there.engine.exit("a-0")
    with there.stream("/workloads/a/tasks/0/log", follow=1) as stream:
        assert "".join(json.loads(m.data) for m in stream if m.event == "message") == text


def test_following_deleted_work_ends(there: Served) -> None:
    """Nobody waits for a log that is gone."""
    there.submit({"name": "a", "run": "x"})
    with there.stream("/workloads/a/tasks/0/log", follow=1) as stream:
        there.ask("DELETE", "/workloads/a")
        assert [message.event for message in stream] == ["end"]


def test_a_stream_that_has_nothing_to_tell_says_so(there: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comment now and then, so that a reader can tell silence from a dead connection; also while others are told of."""
    monkeypatch.setattr(sse, "KEEP_ALIVE_S", 0.05)
    there.submit({"name": "a", "run": "x"})
    for path in ("/watch?after=99", "/watch?after=99&workload=b", "/workloads/a/tasks/0/log?follow=1"):
        with there.client.stream("GET", f"/api/v1{path}") as response:
            lines = (line for line in response.iter_lines() if line)
            assert [next(lines) for _ in range(3)] == [": still here"] * 3


def test_streams_end_when_the_server_ends(there: Served) -> None:
    """A watch and a followed log don't keep the server from ending."""
    there.submit({"name": "a", "run": "x"})
    with there.stream("/watch", after=0) as watch, there.stream("/workloads/a/tasks/0/log", follow=1) as log:
        next(watch)
        there.site.feed.close()
        list(watch)
        assert list(log) == []
