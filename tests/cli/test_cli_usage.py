"""What the command line promises whatever the command: codes, errors in a line or two, guesses."""

from __future__ import annotations

import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

import click
import pytest

from cli.conftest import Cli, Result
from cli.fake_api import BREAK, FakeApi, error, ok, page, workload
from gpumax.apps.cli import main
from gpumax.apps.cli.client import Door, ServerApi, find_door, refusal
from gpumax.apps.cli.lazy import SECTIONS
from gpumax.errors import Broken, Unreachable

COMMANDS = [name for section in SECTIONS.values() for name in section]


def words(error_text: str) -> str:
    """The text of an error, which must be of one or two lines and tell that it is ours."""
    lines = error_text.splitlines()
    assert 1 <= len(lines) <= 2
    assert all(line.startswith("gpumax: ") for line in lines)
    assert "Traceback" not in error_text
    return error_text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(cli: Cli, name: str) -> None:
    """Each command of the table exists and describes itself, and none of its lines is wider than a terminal."""
    result = cli(name, "--help")
    assert result.code == 0
    assert result.out.startswith(f"Usage: gpumax {name}")
    assert max(map(len, result.out.splitlines())) <= 110


def test_help_names_every_command(cli: Cli) -> None:
    """The first page tells of all commands, with and without being asked for."""
    result = cli("--help")
    assert result.code == 0
    assert all(f"\n  {name} " in result.out for name in COMMANDS)
    assert cli() == cli("help") == result
    assert cli("help", "ps") == cli("ps", "--help")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["squeue"], "`gpumax ps`"),
        (["baord"], "`gpumax board`"),
        (["queue", "create"], "`gpumax queue set`"),
        (["gpu", "lst"], "`gpumax gpu list`"),
        (["run", "--num-nodes", "2", "x"], "`--tasks`"),
        (["ps", "--al"], "`--all`"),
        (["zzz"], "`gpumax --help`"),
        (["ps", "--zzz"], "`gpumax ps --help`"),
    ],
)
def test_guesses(cli: Cli, typed: list[str], meant: str) -> None:
    """A word that is close to one of ours, or another tool's, is answered with ours; any other with the help."""
    result = cli(*typed)
    assert result.code == 2
    assert meant in words(result.err)
    assert result.out == ""


@pytest.mark.parametrize(
    "typed",
    [
        ["ps", "extra"],
        ["ps", "-o", "xml"],
        ["ps", "--state", "happy"],
        ["ps", "--limit", "0"],
        ["logs"],
        ["logs", "a", "--task", "x"],
        ["stop"],
        ["run"],
        ["apply"],
        ["apply", "a", "-f", "b"],
        ["run", "--tasks", "many", "--", "true"],
        ["run", "--env", "1=2", "--", "true"],
        ["run", "--env", "NOT_SET_ANYWHERE_42", "--", "true"],
        ["run", "--gpu", "2", "--gpu-memory", "1Gi", "--", "true"],
        ["run", "--devices", "2", "--", "true"],
        ["queue", "set", "q", "--quota", "gpus=3"],
        ["completion", "tcsh"],
        ["schema", "nonsense"],
        ["schema"],
        ["--server", "http://", "ps"],
        ["--server", "ftp://host", "ps"],
        ["--server", "http://host:99999", "ps"],
        ["show", ""],
        ["show", "a/../b"],
        ["queue", "set", ".."],
    ],
)
def test_wrong_usage_is_two(cli: Cli, api: FakeApi, typed: list[str]) -> None:
    """Wrong usage ends with code 2 and a line, and asks nothing of the server that changes something."""
    result = cli(*typed)
    assert result.code == 2
    words(result.err)
    assert result.out == ""
    assert all(request.method == "GET" for request in api.seen)


def test_no_server_is_four(cli: Cli, data: Path) -> None:
    """Without a server each command that needs one says how to start it."""
    for command in (
        ["ps"],
        ["run", "--", "true"],
        ["status"],
        ["board"],
        ["down"],
        ["queue"],
        ["logs", "-f", "x"],
    ):
        result = cli(*command)
        assert result.code == 4
        assert "`gpumax up`" in words(result.err)


def test_stale_socket_is_four(cli: Cli, api: FakeApi) -> None:
    """A server that was killed leaves its files; that is as good as none."""
    api.close()
    result = cli("ps")
    assert result.code == 4
    assert "`gpumax up`" in words(result.err)


@pytest.mark.parametrize("told", ["", "{", "[]", '{"pid": 1}', "\xff"])
def test_damaged_server_json(cli: Cli, data: Path, told: str) -> None:
    """A damaged server.json is called what it is."""
    (data / "server.json").write_bytes(told.encode("latin-1"))
    result = cli("ps")
    assert result.code == 4
    assert "server.json" in words(result.err)


def test_no_server_at_address(cli: Cli) -> None:
    """An address at which nothing listens is named."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    result = cli("--server", address, "ps")
    assert result.code == 4
    assert address in words(result.err)


@pytest.mark.parametrize(("status", "code"), [(400, 2), (404, 2), (413, 2), (409, 3), (403, 3), (500, 1)])
def test_refusals(cli: Cli, api: FakeApi, status: int, code: int) -> None:
    """The server's message is what the user reads; the status chooses the code."""
    api.on("POST /workloads/a/stop", error(status, "no, because of the moon"))
    result = cli("stop", "a")
    assert result.code == code
    assert "no, because of the moon" in words(result.err)


def test_missing_token_is_named(cli: Cli, api: FakeApi) -> None:
    """Who isn't let in reads which variable opens the door."""
    api.on("GET /status", error(401, "a token is needed"))
    result = cli("status")
    assert result.code == 3
    assert "GPUMAX_TOKEN" in words(result.err)


def test_all_faults_are_told(cli: Cli, api: FakeApi, tmp_path: Path) -> None:
    """Every fault of a file has a line with the file's name, its line, what was found and what was wanted."""
    file = tmp_path / "w.yaml"
    file.write_text("name: 1\ntasks: -1\n")
    rows = [
        {"path": "name", "line": 1, "found": "1", "wanted": "text"},
        {"path": "tasks", "line": 2, "found": "-1", "wanted": "1 or more"},
    ]
    api.on("POST /workloads", error(422, "2 faults", rows))
    result = cli("apply", "-f", str(file))
    assert result.code == 2
    assert result.err.splitlines() == [
        f"gpumax: {file}: line 1: name: found 1; wanted text",
        f"gpumax: {file}: line 2: tasks: found -1; wanted 1 or more",
    ]


def test_many_faults_are_counted(cli: Cli, api: FakeApi, tmp_path: Path) -> None:
    """A file that is wrong everywhere doesn't fill the screen."""
    file = tmp_path / "w.yaml"
    file.write_text("x")
    rows = [{"path": f"a[{n}]", "line": n, "found": "x", "wanted": "y"} for n in range(1000)]
    api.on("POST /workloads", error(422, "faults", rows))
    lines = cli("apply", "-f", str(file)).err.splitlines()
    assert len(lines) == main.MOST_FAULTS + 1
    assert lines[-1] == f"gpumax: and {1000 - main.MOST_FAULTS} more"


def test_faults_of_run_name_options(cli: Cli, api: FakeApi) -> None:
    """A fault in what `run` sends is told at the option that wrote it."""
    rows = [
        {"path": "resources.gpu", "line": None, "found": "1.5", "wanted": "a whole number"},
        {"path": 'env["A"]', "line": None, "found": "x", "wanted": "y"},
        {"path": "checkpoint.path", "line": None, "found": "x", "wanted": "y"},
    ]
    api.on("POST /workloads", error(422, "faults", rows))
    result = cli("run", "--gpu", "1.5", "--", "true")
    assert result.code == 2
    assert result.err.splitlines() == [
        "gpumax: --gpu: found 1.5; wanted a whole number",
        "gpumax: --env: found x; wanted y",
        "gpumax: --checkpoint: found x; wanted y",
    ]


@pytest.mark.parametrize(
    ("typed", "place"),
    [
        (["--", "echo", "\udcff\udcfe"], "argument 2 of the command: found '\\\\xff\\\\xfe'"),
        (["--env", "A=\udcff", "--", "true"], "--env: found bytes"),
        (["--checkpoint", "\udcff", "--", "true"], "--checkpoint"),
    ],
)
def test_bytes_that_are_no_text(cli: Cli, api: FakeApi, typed: list[str], place: str) -> None:
    """They are named where they were written; a variable's value isn't repeated."""
    result = cli("run", *typed)
    assert result.code == 2
    assert place.replace("\\\\", "\\") in words(result.err)
    assert api.seen == []


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'{"error": 3}', b'{"error": {}}', b"\xff"])
def test_errors_of_strangers(body: bytes) -> None:
    """An error answer that isn't ours is told by its status."""
    assert "502" in str(refusal(502, body))


def test_strange_answer(cli: Cli, api: FakeApi) -> None:
    """A server that isn't gpumax is suspected."""
    api.on("GET /status", ok([1, 2]))
    result = cli("status")
    assert result.code == 1
    assert "is it gpumax?" in words(result.err)


def test_lost_connection_is_tried_again(cli: Cli, api: FakeApi) -> None:
    """A request whose connection breaks is sent again, with the same idempotency key."""
    api.on(
        "POST /workloads",
        BREAK,
        BREAK,
        ok({"items": [{"kind": "workload", "name": "a", "created": True}]}, 201),
    )
    assert cli("run", "-q", "--", "true").out == "a\n"
    keys = {request.headers["Idempotency-Key"] for request in api.asked("POST /workloads")}
    assert len(api.asked("POST /workloads")) == 3
    assert len(keys) == 1


def test_lost_delete_that_was_done(cli: Cli, api: FakeApi) -> None:
    """A delete whose answer is lost has been done when the name is gone afterwards."""
    api.on("DELETE /workloads/a", BREAK, error(404, "there is no workload a"))
    assert cli("delete", "-y", "a").code == 0


def test_connection_that_stays_lost_is_four(cli: Cli, api: FakeApi) -> None:
    """A server that only breaks connections can't be reached."""
    api.on("GET /status", BREAK)
    result = cli("status")
    assert result.code == 4
    assert "broke the connection" in words(result.err)
    api.on("GET /workloads/a", ok({**workload("a"), "tasks": [{"index": 0, "name": "a-0"}]}))
    api.on("GET /workloads/a/tasks/0/log", BREAK)
    assert cli("logs", "a").code == 4


def test_silent_server_is_four(data: Path) -> None:
    """A server that takes the connection and says nothing is not waited for beyond the time."""
    path = data / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        api = ServerApi(lambda: Door("here", path=str(path)), timeout_s=0.05, retry_s=())
        with pytest.raises(Unreachable, match="does not answer"):
            api.get("/status")


def test_slow_server_is_told_of(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for a server reads so once, and the answer is still waited for."""
    monkeypatch.setattr("gpumax.apps.cli.client.NOTICE_S", 0.0)
    path, told = data / "s", Queue[str]()
    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor() as pool:
        listener.bind(str(path))
        listener.listen()
        api = ServerApi(lambda: Door("here", path=str(path)), retry_s=(), notice=told.put)
        answer = pool.submit(api.get, "/status")
        line, _ = listener.accept()
        assert "waiting for the server (here)" in told.get(timeout=60)
        with line:
            line.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
            assert answer.result(timeout=60) == {}
    assert told.empty()


def test_options_win_over_environment(cli: Cli, api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """--data names the server even where the environment names another."""
    monkeypatch.setenv("GPUMAX_SERVER", "http://127.0.0.1:1")
    monkeypatch.setenv("GPUMAX_DATA", "/nowhere")
    api.on("GET /workloads", page(workload("a")))
    assert cli("ps", "-q", "--data", str(api.data)).out == "a\n"
    assert cli("--data", str(api.data), "ps", "-q").out == "a\n"


def test_token_goes_to_its_own_server_only(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token of the data directory is told to the address in its server.json, and to nobody else; GPUMAX_TOKEN to all."""
    (data / "token").write_text("from-file\n")
    assert find_door(data, "host:8080").token == ""
    (data / "server.json").write_text(json.dumps({"pid": 1, "socket": "s", "url": "http://host:8080"}))
    assert find_door(data, "host:8080").token == "from-file"
    assert find_door(data, "http://HOST:8080/").token == "from-file"
    for other in ("host:8081", "other:8080", "https://host:8080", "http://host"):
        assert find_door(data, other).token == ""
    monkeypatch.setenv("GPUMAX_TOKEN", "from-variable")
    assert find_door(data, "https://host/base/") == Door(
        "https://host/base/", host="host", port=443, tls=True, token="from-variable", base="/base"
    )


@pytest.mark.parametrize("token", ["a\nb", "a b", "\xe9\u0394", "a\x7f"])
def test_token_that_is_none(cli: Cli, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    """What can't be a token is refused in words that don't repeat it."""
    monkeypatch.setenv("GPUMAX_TOKEN", token)
    result = cli("--server", "http://127.0.0.1:1", "ps")
    assert result.code == 2
    assert "GPUMAX_TOKEN" in words(result.err)
    assert token not in result.err


@pytest.mark.parametrize(
    ("door", "exposed"),
    [
        (Door("", host="host", port=80, token="t"), True),
        (Door("", host="host", port=80), False),
        (Door("", host="host", port=443, tls=True, token="t"), False),
        (Door("", host="127.0.0.1", port=80, token="t"), False),
        (Door("", host="localhost", port=80, token="t"), False),
        (Door("", path="/socket", token="t"), False),
    ],
)
def test_token_in_clear(door: Door, exposed: bool) -> None:
    """Plain HTTP to another machine shows the token to whoever listens on the way."""
    assert door.exposed is exposed


def test_token_in_clear_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends a token in clear to another machine reads so, before anything else."""
    monkeypatch.setenv("GPUMAX_TOKEN", "secret")
    err = cli("--server", "http://host.invalid:1", "ps").err
    assert "not encrypted" in err.splitlines()[0]
    assert "secret" not in err


def test_our_own_mistakes_are_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody expected is one line, too, and says how to see more."""
    code, lines = main.describe(ZeroDivisionError("division\nby zero"))
    assert code == 1
    assert len(lines) == 1
    assert "GPUMAX_DEBUG" in lines[0]
    assert main.describe(Broken("rule 5"))[1] == ["rule 5"]
    assert main.describe(PermissionError(13, "Permission denied", "/x"))[1][0].startswith(
        "permission denied (/x)"
    )


def test_debug_prints_the_traceback(cli: Cli, api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """GPUMAX_DEBUG is the way to a traceback."""
    monkeypatch.setenv("GPUMAX_DEBUG", "1")
    api.on("GET /status", error(500, "our fault"))
    result = cli("status")
    assert result.code == 1
    assert "Traceback" in result.err


def test_names_are_one_segment(cli: Cli, api: FakeApi) -> None:
    """Whatever a name is made of, and be it no text, it stays one segment of the path."""
    cli("show", "a?b=c#d %")
    cli("show", os.fsdecode(b"\xff"))
    assert [request.path for request in api.seen] == ["/workloads/a%3Fb%3Dc%23d%20%25", "/workloads/%FF"]


def test_interrupt_is_130(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends quietly with the code that shells know."""

    def interrupt(_context: click.Context) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main.cli, "invoke", interrupt)
    assert cli("version") == (130, "", "")


def test_json_of_server_is_passed_on(cli: Cli, api: FakeApi) -> None:
    """-o json prints what the API answered, so that scripts depend on one document only."""
    api.on("GET /workloads", page(workload("a", extra={"ü": [1, None]})))
    found = json.loads(cli("ps", "-o", "json").out)
    assert found["items"][0]["extra"] == {"ü": [1, None]}


def kubeconfig(data: Path) -> None:
    """A cluster where nobody answers."""
    (data / "kubeconfig").write_text(
        json.dumps(
            {
                "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
                "contexts": [{"name": "lab", "context": {"cluster": "c", "user": ""}}],
                "current-context": "lab",
            }
        )
    )


def test_who_has_a_cluster_is_told_how_to_ask_it(cli: Cli, data: Path) -> None:
    """Where no server answers here, but there is a context; without one nothing is said of clusters."""
    assert "kubernetes" not in cli("ps").err
    kubeconfig(data)
    answer = cli("ps")
    assert answer.code == 4
    assert "`--engine kubernetes` for the cluster of your context lab" in answer.err


@pytest.mark.parametrize("how", ["option", "environment"])
def test_the_engine_is_chosen(cli: Cli, data: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the option or the environment; what is no engine is told with those that are."""
    kubeconfig(data)

    def asked(engine: str) -> Result:
        if how == "option":
            return cli("ps", "--engine", engine)
        monkeypatch.setenv("GPUMAX_ENGINE", engine)
        return cli("ps")

    gone = asked("kubernetes:lab")
    assert gone.code == 4
    assert "cluster lab, namespace default" in gone.err
    assert "no answer from http://127.0.0.1:1" in gone.err
    unknown = asked("slurm")
    assert unknown.code == 2
    assert "slurm: wanted local, kubernetes, or kubernetes:CONTEXT" in unknown.err
    assert "contexts: found 'other'; wanted one of lab" in asked("kubernetes:other").err


@pytest.mark.parametrize("name", ["../../x", "Foo Bar", "ünï", "n" * 64])
def test_what_is_no_name_of_a_namespace_is_told(
    cli: Cli, data: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anybody is asked: it would become a part of a path."""
    kubeconfig(data)
    monkeypatch.setenv("GPUMAX_NAMESPACE", name)
    refused = cli("ps", "--engine", "kubernetes:lab")
    assert refused.code == 2
    assert "can't be the name of a namespace" in refused.err


def test_what_only_a_cluster_can_is_refused_here(cli: Cli) -> None:
    """With what would do it."""
    answer = cli("exec", "train", "--", "true")
    assert answer.code == 2
    assert "--engine kubernetes" in answer.err
