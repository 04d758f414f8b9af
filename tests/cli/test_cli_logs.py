"""logs, logs -f, and run --follow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest

from cli.conftest import Cli
from cli.fake_api import BREAK, Answer, FakeApi, Item, error, events, ok, task, text, workload
from gpumax.apps.cli.stream import Message, follow, messages
from gpumax.apps.cli.tail import arrange
from gpumax.errors import Unreachable

END = "event: end\ndata: "


def said(offset: int, piece: str) -> str:
    """A piece of a log, as the stream sends it."""
    return f"id: {offset}\ndata: {json.dumps(piece)}"


def has(api: FakeApi, *tasks: Item, **more: Any) -> None:
    """The server has a workload `train` with these tasks."""
    api.on("GET /workloads/train", ok({**workload(**more), "tasks": list(tasks) or [task()]}))


def test_log_is_copied_byte_by_byte(api: FakeApi, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """One task's log is what the task wrote, whatever the bytes."""
    from gpumax.apps.cli import main

    has(api)
    api.on("GET /workloads/train/tasks/0/log", text(b"a\n", b"\xff\x00b"))
    assert main.run(["logs", "train", "--tail", "5"]) == 0
    assert capfdbinary.readouterr().out == b"a\n\xff\x00b"
    assert api.asked("GET /workloads/train/tasks/0/log")[0].query == {"tail": "5"}


def test_logs_of_several_tasks_have_names(cli: Cli, api: FakeApi) -> None:
    """Lines of several tasks tell whose they are; of one that is asked for they don't."""
    has(api, task(0, "t-0"), task(1, "t-1"))
    api.on("GET /workloads/train/tasks/0/log", text(b"a\nb"))
    api.on("GET /workloads/train/tasks/1/log", text(b"c\n"))
    assert cli("logs", "train").out == "[t-0] a\n[t-0] b\n[t-1] c\n"
    assert cli("logs", "train", "--task", "1").out == "c\n"
    wrong = cli("logs", "train", "--task", "2")
    assert wrong.code == 2
    assert "0 to 1" in wrong.err


def test_follow_ends_with_the_workload(cli: Cli, api: FakeApi) -> None:
    """logs -f prints pieces as they come, until the workload is finished."""
    has(api)
    api.on("GET /workloads/train/tasks/0/log", events(said(2, "a\n"), said(4, "b\n"), END))
    assert cli("logs", "-f", "train", "-n", "3") == (0, "a\nb\n", "")
    assert api.asked("GET /workloads/train/tasks/0/log")[0].query == {"follow": "1", "tail": "3"}


def test_follow_goes_on_where_it_was_cut(cli: Cli, api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that restarts in the middle costs a notice; no piece is lost or printed twice."""
    monkeypatch.setattr("gpumax.apps.cli.stream.RETRY_S", 0.0)
    has(api)
    api.on("GET /workloads/train/tasks/0/log", events(said(2, "a\n")), BREAK, events(said(4, "b\n"), END))
    result = cli("logs", "-f", "train")
    assert result.out == "a\nb\n"
    assert "connection to the server lost" in result.err
    asked = api.asked("GET /workloads/train/tasks/0/log")
    assert [request.headers.get("Last-Event-ID") for request in asked] == [None, "2", "2"]


def test_follow_of_what_is_not_there(cli: Cli, api: FakeApi) -> None:
    """An unknown name is an error at once."""
    api.on("GET /workloads/nope", error(404, "there is no workload nope"))
    assert cli("logs", "-f", "nope") == (2, "", "gpumax: there is no workload nope\n")


def test_patience_ends(api: FakeApi) -> None:
    """A server that is gone for too long ends the watch with an error that says so."""
    from gpumax.apps.cli.client import ServerApi, find_door

    api.on("GET /watch", events("id: 1\ndata: {}"), BREAK)
    client = ServerApi(lambda: find_door(api.data))
    with pytest.raises(Unreachable, match="gone"):
        list(follow(client, "/watch", {}, patience_s=0.0))


def test_messages_of_a_stream() -> None:
    """Events are read as the standard says: several data lines, comments, names, ids that stay."""
    lines = [
        b": hello\n",
        b"\n",
        b"id: 7\n",
        b"data: a\r\n",
        b"data:b\n",
        b"\n",
        b"event: end\n",
        b"data\n",
        b"\n",
        b"data: cut",
    ]
    assert list(messages(lines)) == [Message("message", "a\nb", "7"), Message("end", "", "7")]


def test_lines_of_several_tasks_stay_whole() -> None:
    """Pieces that end in the middle of a line wait for the rest; the last one needs no line end."""
    pieces = [(0, "a"), (1, "x\ny"), (0, "b\nc"), (0, None), (1, None)]
    assert "".join(arrange(pieces, {0: "[0] ", 1: "[1] "})) == "[1] x\n[0] ab\n[0] c\n[1] y\n"
    assert list(arrange([], {})) == []


def submit(api: FakeApi) -> None:
    """The server accepts `train`, and doesn't tell what happens to it."""
    api.on("POST /workloads", ok({"items": [{"kind": "workload", "name": "train", "created": True}]}, 201))
    api.on("GET /events", ok({"items": [], "next": 3}))
    api.on("GET /watch", error(409, "nothing to see"))


def test_run_follow_of_work_that_succeeds(cli: Cli, api: FakeApi) -> None:
    """run -f prints the log and ends with 0."""
    submit(api)
    has(api, state="succeeded")
    api.on("GET /workloads/train/tasks/0/log", events(said(2, "a\n"), END))
    result = cli("run", "-f", "--", "true")
    assert (result.code, result.out) == (0, "a\n")


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"state": "failed", "reason": "task 0: exit code 3"}, "train failed: task 0: exit code 3"),
        ({"state": "failed"}, "train failed: exit code 3"),
        ({"state": "stopped", "reason": "stopped by a person"}, "train stopped: stopped by a person"),
    ],
)
def test_run_follow_of_work_that_fails(cli: Cli, api: FakeApi, how: Item, told: str) -> None:
    """run -f ends with 1 and the reason where the work did not succeed."""
    submit(api)
    has(api, task(state="failed", exit_code=3), **how)
    api.on("GET /workloads/train/tasks/0/log", events(END))
    result = cli("run", "-f", "--", "false")
    assert result.code == 1
    assert result.err.splitlines()[-1] == f"gpumax: {told}"


def test_interrupt_lets_go(api: FakeApi) -> None:
    """Ctrl-C during run -f ends the command with 130, says that the workload goes on and how to stop it; no traceback."""
    released = Event()

    def forever() -> Iterator[bytes]:
        yield f"{said(2, 'begun')}\n\n".encode()
        released.wait(60)

    submit(api)
    has(api)
    api.on("GET /workloads/train/tasks/0/log", Answer(200, forever(), "text/event-stream"))
    command = [sys.executable, "-m", "gpumax.apps.cli.main", "run", "-f", "--", "sleep", "9"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ) as child:
        assert child.stdout is not None
        assert child.stdout.read(5) == b"begun"
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    released.set()
    assert child.returncode == 130
    assert b"train goes on" in err
    assert b"`gpumax stop train`" in err
    assert b"Traceback" not in err
