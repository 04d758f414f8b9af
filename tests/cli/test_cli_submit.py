"""run, apply, plan: what is sent, and what is told of the answer."""

from __future__ import annotations

import json
import os
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from cli.conftest import Cli
from cli.fake_api import HELD, FakeApi, Item, ok

PLACED: Item = {
    "kind": "workload",
    "name": "a",
    "created": True,
    "state": "pending",
    "hold": None,
    "places": [
        {
            "task": "a-0",
            "node": "n1",
            "devices": [{"index": 0, "milli": 1000}, {"index": 1, "milli": 1000}],
            "after": [],
        },
        {"task": "a-1", "node": "n2", "devices": [{"index": 4, "milli": 250}], "after": ["old-0"]},
    ],
    "evictions": [{"task": "old-0", "cause": "reclaim", "for": "a"}],
}
WAITS: Item = {**PLACED, "name": "big", "hold": HELD, "places": [], "evictions": []}
QUEUE: Item = {"kind": "queue", "name": "q", "created": True}


def accept(api: FakeApi, *items: Item) -> None:
    """Answer a submit with these."""
    api.on("POST /workloads", ok({"items": list(items)}, 201))


def test_run_sends_what_was_asked_for(cli: Cli, api: FakeApi) -> None:
    """Every option of `run` is a field of the workload file; what wasn't said isn't sent."""
    accept(api, PLACED)
    cli(
        *(
            "run",
            "--gpu",
            "H100:2",
            "--cpu",
            "8",
            "--memory",
            "64Gi",
            "--tasks",
            "2-4",
            "-p",
            "team-a",
            "-n",
            "a",
        ),
        *(
            "--priority",
            "75",
            "-e",
            "X=1=2",
            "--secret",
            "HF_TOKEN",
            "--workdir",
            "/w",
            "--max-duration",
            "12h",
        ),
        *(
            "--grace",
            "30s",
            "--retries",
            "3",
            "--checkpoint",
            "ckpt",
            "--",
            "python",
            "train.py",
            "--gpu",
            "7",
        ),
    )
    (request,) = api.seen
    assert request.document == {
        "name": "a",
        "project": "team-a",
        "priority": 75,
        "tasks": {"min": 2, "max": 4},
        "resources": {"gpu": "H100:2", "cpu": 8, "memory": "64Gi"},
        "workdir": "/w",
        "env": {"X": "1=2"},
        "secrets": ["HF_TOKEN"],
        "run": ["python", "train.py", "--gpu", "7"],
        "max_duration": "12h",
        "grace": "30s",
        "retries": {"max": 3},
        "checkpoint": {"path": "ckpt"},
    }
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Idempotency-Key"]


@pytest.mark.parametrize("arguments", [["--", "python", "t.py", "-x"], ["python", "t.py", "-x"]])
def test_run_without_dashes(cli: Cli, api: FakeApi, arguments: list[str]) -> None:
    """The command's own options stay its own, with `--` before it and without."""
    accept(api, PLACED)
    cli("run", "--gpus", "2", *arguments)
    assert api.seen[0].document["run"] == ["python", "t.py", "-x"]
    assert api.seen[0].document["resources"] == {"gpu": 2}
    assert api.seen[0].document["workdir"] == os.getcwd()


def test_run_takes_a_line_for_the_shell(cli: Cli, api: FakeApi) -> None:
    """One argument with spaces in it goes to a shell."""
    accept(api, PLACED)
    cli("run", "--", "cd x && python t.py")
    assert api.seen[0].document["run"] == "cd x && python t.py"


def test_run_parts_of_gpus(cli: Cli, api: FakeApi) -> None:
    """Parts of GPUs, by number or by memory, of a model and of several devices."""
    accept(api, PLACED)
    cli("run", "--gpu", "0.5", "--devices", "2", "--", "true")
    cli("run", "--gpu-memory", "20Gi", "--", "true")
    cli("run", "--gpu", "H100", "--gpu-memory", "20Gi", "--", "true")
    assert [request.document["resources"] for request in api.seen] == [
        {"gpu": 0.5, "devices": 2},
        {"gpu": {"memory": "20Gi"}},
        {"gpu": {"model": "H100", "memory": "20Gi"}},
    ]


def test_run_passes_a_variable_on(cli: Cli, api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """--env KEY without a value takes the one of here; the value of a wrong one is never printed."""
    accept(api, PLACED)
    monkeypatch.setenv("MINE", "here")
    cli("run", "--env", "MINE", "--", "true")
    assert api.seen[0].document["env"] == {"MINE": "here"}
    assert "hunter2" not in cli("run", "--env", "bad-key=hunter2", "--", "true").err


def test_run_tells_the_answer(cli: Cli, api: FakeApi) -> None:
    """Where it starts, and who makes way, on stderr; nothing on stdout, which is for data."""
    accept(api, PLACED)
    result = cli("run", "--", "true")
    assert (result.code, result.out) == (0, "")
    assert result.err == (
        "a: starts on n1 (GPU 0, 1), n2 (GPU 4: 25%) once old-0 has left\n  evicts old-0 (reclaim)\n"
    )


def test_run_says_at_once_that_it_waits(cli: Cli, api: FakeApi) -> None:
    """Work that can't run now, or never, is told with the reason as soon as it is submitted."""
    accept(api, WAITS)
    result = cli("run", "--", "true")
    assert result.code == 0
    assert result.err == "big: waits: NoRoom: needs 4 GPUs on one node; n1 has 2 free\n"


def test_repeated_submit_says_so(cli: Cli, api: FakeApi) -> None:
    """A submit that was accepted before isn't told as a new one."""
    accept(api, {**PLACED, "created": False, "places": [], "evictions": [], "state": "running"})
    assert cli("run", "--", "true").err == "a (submitted before): running\n"


def test_answers_for_programs(cli: Cli, api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """run, apply and plan give the API's answer with -o json, and names with -q; `-` is standard input."""
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"run: x")))
    accept(api, PLACED, WAITS)
    document = {"items": [PLACED, WAITS]}
    for command in (
        ["run", "-o", "json", "--", "true"],
        ["plan", "-o", "json", "-f", "-"],
        ["apply", "-o", "json", "-"],
    ):
        result = cli(*command)
        assert json.loads(result.out) == document
        assert result.err == ""
    assert cli("run", "-q", "--", "true").out == "a\nbig\n"
    assert cli("apply", "-q", "-f", "-").out == "a\nbig\n"


def test_dry_run_and_plan_change_nothing(cli: Cli, api: FakeApi, tmp_path: Path) -> None:
    """What would happen is asked for, and told on stdout in the same words whichever way."""
    accept(api, PLACED, WAITS, QUEUE)
    file = tmp_path / "w.yaml"
    file.write_text("run: x\n")
    planned = cli("plan", "-f", str(file))
    assert planned.out.splitlines() == [
        "a would start on n1 (GPU 0, 1), n2 (GPU 4: 25%) once old-0 has left",
        "  would evict old-0 (reclaim)",
        "big would wait: NoRoom: needs 4 GPUs on one node; n1 has 2 free",
        "queue q would be made",
    ]
    assert planned.err == "1 of 2 workloads would start, 1 task would be evicted; nothing has been changed\n"
    assert cli("apply", "--dry-run", str(file)).out == planned.out
    assert cli("run", "--dry-run", "--", "true").out == planned.out
    assert {request.query["dry_run"] for request in api.seen} == {"1"}


def test_a_plan_tells_what_is_there_already(cli: Cli, api: FakeApi, tmp_path: Path) -> None:
    """Work that a file names again, and that runs, neither starts nor waits."""
    accept(api, {**PLACED, "evictions": [], "state": "running"}, QUEUE)
    file = tmp_path / "w.yaml"
    file.write_text("run: x\n")
    planned = cli("plan", "-f", str(file))
    assert planned.out == "a is there already (running), and would stay as it is\nqueue q would be made\n"
    assert planned.err == "nothing has been changed\n"


def test_apply_sends_the_file_as_it_is(cli: Cli, api: FakeApi, tmp_path: Path) -> None:
    """The bytes of the file, with its name and directory, so that the server tells faults and paths right."""
    accept(api, PLACED, QUEUE)
    file = tmp_path / "w.yaml"
    file.write_bytes(b"run: \xff\n")
    result = cli("apply", "-f", str(file), "-p", "team-b")
    assert result.err.splitlines()[-1] == "queue q: made"
    (request,) = api.seen
    assert request.body == b"run: \xff\n"
    assert request.query == {"dry_run": "0", "base": str(tmp_path), "project": "team-b", "source": str(file)}
    assert request.headers["Content-Type"] == "application/yaml"


@pytest.mark.parametrize("command", ["apply", "plan"])
def test_a_second_file_is_not_taken_for_the_first(
    cli: Cli, api: FakeApi, tmp_path: Path, command: str
) -> None:
    """Of two files neither is submitted alone: both are named, and nothing is sent."""
    accept(api, PLACED)
    files = [str(tmp_path / name) for name in ("a.yaml", "b.yaml")]
    for file in files:
        Path(file).write_text("run: x\n")
    result = cli(command, "-f", files[0], "-f", files[1])
    assert result.code == 2
    assert (
        f"wanted one file, as `gpumax {command} -f train.yaml`; found {files[0]} and {files[1]}" in result.err
    )
    assert api.seen == []


@pytest.mark.parametrize("command", ["apply", "plan"])
def test_files_that_can_not_be_read(cli: Cli, api: FakeApi, tmp_path: Path, command: str) -> None:
    """A directory, a missing file, a huge one: a line with the name, what was found and what was wanted; nothing is sent."""
    huge = tmp_path / "huge.yaml"
    with huge.open("wb") as file:
        file.truncate(100 << 20)
    for path, found in (
        (tmp_path, "a directory"),
        (tmp_path / "none", "no such file"),
        (huge / "below", "can't be read (Not a directory)"),
        (huge, "more than 16 MiB"),
    ):
        result = cli(command, "-f", str(path))
        assert result.code == 2
        assert result.err.startswith(f"gpumax: {path}: found ")
        assert found in result.err
        assert len(result.err.splitlines()) == 1
    assert cli(command, "-f", "a\0b").code == 2
    assert api.seen == []


def test_unreadable_file(cli: Cli, api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be read is called that."""

    def deny(*_arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    result = cli("apply", "-f", "secret.yaml")
    assert result.code == 2
    assert (
        "secret.yaml: found a file that can't be read (Permission denied); wanted a readable file"
        in result.err
    )


def test_a_file_is_no_command(cli: Cli, api: FakeApi, tmp_path: Path) -> None:
    """`run job.yaml` is a slip; the right verb is named."""
    file = tmp_path / "job.yaml"
    file.write_text("run: x\n")
    result = cli("run", str(file))
    assert result.code == 2
    assert f"`gpumax apply -f {file}`" in result.err
    assert api.seen == []


def test_nothing_in_a_file(cli: Cli, api: FakeApi, tmp_path: Path) -> None:
    """An answer without items is an error, not silence."""
    accept(api)
    file = tmp_path / "w.yaml"
    file.write_text("x")
    assert cli("apply", "-f", str(file)).code == 2


@pytest.mark.parametrize(("words", "told"), [((), True), (("--dry-run",), False)])
def test_who_interrupts_a_submit_is_told_how_to_find_out(
    words: tuple[str, ...], told: bool, cli: Cli, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C before the answer came: it may have been submitted. Where nothing would have been made, nothing is said."""

    def interrupted(*_: object, **_more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gpumax.apps.cli.client.ServerApi.send", interrupted)
    done = cli("run", *words, "--", "true")
    assert done.code == 130
    assert ("`gpumax ps` shows whether it was submitted" in done.err) is told
