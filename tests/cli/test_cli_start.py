"""How the program starts and ends as a process: what it imports, where it writes, what it does without a terminal."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.fake_api import HELD, Answer, FakeApi, events, ok, page, queue, text, workload
from cli.test_cli_look import DECISION, SNAPSHOT

HEAVY = (
    "numpy", "msgspec", "yaml", "sqlalchemy", "alembic", "sqlite3", "fastapi", "starlette", "pydantic", "uvicorn", "httpx",
    "anyio", "asyncio", "rich", "psutil", "pynvml", "pkg_resources", "importlib.metadata", "subprocess",
    "gpumax.policy", "gpumax.formats", "gpumax.loop", "gpumax.stores", "gpumax.engines", "gpumax.apps.server",
)  # fmt: skip
"""Modules that a short command can do without; one of them costs as much as the rest of the start."""

PROGRAM = [sys.executable, "-m", "gpumax.apps.cli.main"]

COUNT = """
import sys
from gpumax.apps.cli import main
code = main.run(sys.argv[1:])
print(*(name for name in sys.modules), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize(
    "command", [["--help"], ["version"], ["ps"], ["ps", "-o", "json"], ["run", "--", "true"], ["queue"]]
)
def test_start_is_light(api: FakeApi, command: list[str]) -> None:
    """A short command imports nothing heavy, so that it starts in a blink."""
    api.on("GET /workloads", page(workload("a"), workload("b", state="pending", hold=HELD)))
    api.on("POST /workloads", ok({"items": [{"kind": "workload", "name": "a", "created": True}]}, 201))
    api.on("GET /queues", page(queue("q")))
    done = subprocess.run([sys.executable, "-c", COUNT, *command], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.splitlines()[-1].split())
    assert "click" in loaded
    assert sorted(loaded & set(HEAVY)) == []


def lines(said: str = "") -> Iterator[bytes]:
    """More lines than a pipe holds, each within `said`, which is part of a stream."""
    return (said.replace("LINE", f"{'x' * 99}\\n").encode() or b"x" * 99 + b"\n" for _ in range(9999))


@pytest.mark.parametrize(
    "command", [["ps"], ["logs", "a"], ["logs", "-f", "a"], ["run", "-q", "-f", "--", "true"]]
)
def test_reader_that_goes_away(api: FakeApi, command: list[str]) -> None:
    """`gpumax ps | head` ends in silence, with the code that shells know; so does all else that prints much."""
    api.on("GET /workloads", page(*(workload(f"w{n}") for n in range(5000))))
    api.on("GET /workloads/a", ok({**workload("a"), "tasks": [{"index": 0, "name": "a-0"}]}))
    api.on("POST /workloads", ok({"items": [{"kind": "workload", "name": "a", "created": True}]}, 201))
    api.on(
        "GET /workloads/a/tasks/0/log",
        lambda request: (
            Answer(200, lines('data: "LINE"\n\n'), "text/event-stream")
            if "follow" in request.query
            else Answer(200, lines(), "text/plain")
        ),
    )
    # Without buffers Python does not notice that a write was cut short.
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    with subprocess.Popen(
        [*PROGRAM, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=buffered
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.read(10)
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(60) == 128 + 13


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk(api: FakeApi) -> None:
    """Output that can't be written is an error in a line, not a success."""
    api.on("GET /workloads", page(workload("a")))
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*PROGRAM, "ps"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(b"gpumax: no space left on device")
    assert done.stderr.count(b"\n") == 1


def test_output_that_is_closed(api: FakeApi) -> None:
    """Without stdout and stdin a command still does its work."""
    api.on("POST /workloads/a/stop", ok({}))
    api.on("GET /workloads", page(workload("a")))
    for command in ("stop -q a", "ps -a", "ps -w -o json --help"):
        line = f'exec "$0" -m gpumax.apps.cli.main {command} <&- >&-'
        done = subprocess.run(["/bin/sh", "-c", line, sys.executable], capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
    assert len(api.asked("POST /workloads/a/stop")) == 1


def test_interrupt_while_it_starts(tmp_path: Path) -> None:
    """Ctrl-C while the program is still being imported ends it without a traceback."""
    (tmp_path / "click.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nraise AssertionError('still here')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "gpumax.apps.cli.entry", "ps"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.stderr == b""
    assert done.returncode == -signal.SIGINT


def test_letters_that_the_terminal_does_not_have(api: FakeApi) -> None:
    """A locale that lacks letters costs these, not the output."""
    api.on("GET /workloads", page(workload("Ωß")))
    western = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([*PROGRAM, "ps", "-q"], capture_output=True, env=western, check=False)
    assert (done.returncode, done.stdout) == (0, b"\\u03a9\xdf\n")


def on_terminal(command: list[str], until: str = "", **environment: str) -> str:
    """What a command writes to a terminal of 80 x 24. until: what it has written when Ctrl-C ends it."""
    near, far = pty.openpty()
    termios.tcsetwinsize(far, (24, 80))
    given = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    ended = 0
    with subprocess.Popen(
        [*PROGRAM, *command],
        stdin=far,
        stdout=far,
        stderr=far,
        env={**given, "TERM": "xterm", "COLUMNS": "80", **environment},
    ) as child:
        os.close(far)
        pieces = []
        while True:
            try:
                piece = os.read(near, 4096)
            except OSError:
                break  # Linux says EIO when the last writer has gone
            if not piece:
                break
            pieces.append(piece)
            if until and until in b"".join(pieces).decode():
                child.send_signal(signal.SIGINT)
                until = ""
                ended = 130
        os.close(near)
        assert child.wait(60) == ended
    return b"".join(pieces).decode()


@pytest.mark.parametrize("command", ["ps", "board", "doctor"])
def test_colours(api: FakeApi, command: str) -> None:
    """A terminal gets colours; NO_COLOR, a dumb terminal, a pipe and a file get none."""
    api.on("GET /workloads", page(workload("a")))
    api.on("GET /board", ok({"snapshot": SNAPSHOT, "decision": DECISION}))
    api.on("GET /status", ok({"version": "0"}))
    api.socket.chmod(0o600)
    assert "\x1b[" in on_terminal([command])
    assert "\x1b[" not in on_terminal([command], NO_COLOR="1")
    assert "\x1b[" not in on_terminal([command], TERM="dumb")
    assert b"\x1b[" not in subprocess.run([*PROGRAM, command], capture_output=True, check=True).stdout


def test_tables_fit_a_narrow_terminal(api: FakeApi) -> None:
    """Where not even the other columns have room, lines end at the edge all the same, and none is broken."""
    long = workload("a-name-that-takes-most-of-the-line", state="pending", hold=HELD)
    api.on("GET /workloads", page(long, workload("b")))
    for columns in ("40", "52", "65", "71"):
        lines = on_terminal(["ps"], NO_COLOR="1", COLUMNS=columns).splitlines()
        assert len(lines) == 3
        assert max(map(len, lines)) <= int(columns)
        assert lines[1].startswith("a-name-that-takes-most-of-the-line")


def test_tables_fit_the_terminal(api: FakeApi) -> None:
    """On a terminal the reason is cut at the edge; -o wide and a pipe get all of it."""
    api.on(
        "GET /workloads", page(workload("a", state="pending", hold={"code": "NoRoom", "message": "x" * 500}))
    )
    lines = on_terminal(["ps"], NO_COLOR="1").splitlines()
    assert max(map(len, lines)) == 80
    assert lines[1].endswith("...")
    assert "x" * 500 in on_terminal(["ps", "-o", "wide"])
    assert b"x" * 500 in subprocess.run([*PROGRAM, "ps"], capture_output=True, check=True).stdout


@pytest.mark.parametrize("command", [["logs", "a"], ["logs", "-f", "a"]])
def test_a_log_does_the_terminal_no_harm(api: FakeApi, command: list[str]) -> None:
    """Nothing that a task prints moves the cursor, clears the screen or sets the title; its colours stay; a pipe gets every byte."""
    log = "\x1b[31mred\x1b[0m\tx\x1b[2J\x1b]0;pwn\x07\x9b1A\x08\x1bc 1%\r2%\r\n"
    api.on("GET /workloads/a", ok({**workload("a"), "tasks": [{"index": 0, "name": "a-0"}]}))
    api.on(
        "GET /workloads/a/tasks/0/log",
        lambda request: (
            events(f"data: {json.dumps(log)}", "event: end\ndata: ")
            if "follow" in request.query
            else text(*(bytes([byte]) for byte in log.encode()))
        ),
    )
    shown = on_terminal(command).replace("\r\n", "\n")
    assert shown == "\x1b[31mred\x1b[0m\tx1A 1%\n2%\n\x1b[0m"
    piped = subprocess.run([*PROGRAM, *command], capture_output=True, check=True).stdout
    assert piped == log.encode()


def test_delete_asks_on_a_terminal(api: FakeApi) -> None:
    """A person is asked before running work is deleted; no answer is a no."""
    api.on("GET /workloads/a", ok(workload("a")))
    near, far = pty.openpty()
    with subprocess.Popen([*PROGRAM, "delete", "a"], stdin=far, stderr=subprocess.PIPE) as child:
        os.write(near, b"n\n")
        assert child.stderr is not None
        assert b"a is still running; delete?" in child.stderr.read()
        assert child.wait(60) == 130
    os.close(near)
    os.close(far)
    assert not api.asked("DELETE /workloads/a")


def test_watch_gives_the_terminal_back(api: FakeApi) -> None:
    """A watched picture fits the terminal; after Ctrl-C the terminal is as it was, with the last picture on it."""
    api.on("GET /events", ok({"items": [], "next": 1}))
    api.on(
        "GET /watch",
        lambda _request: Answer(200, iter(lambda: b": still here\n\n", b""), "text/event-stream"),
    )
    api.on("GET /workloads", page(*(workload(f"w{number}") for number in range(50))))
    text = on_terminal(["ps", "-w"], until="more lines", NO_COLOR="1")
    begun, _, ended = text.partition("\x1b[?1049l")
    assert begun.index("\x1b[?1049h") < begun.index("w0 ")
    assert "w20 " in begun
    assert "w21 " not in begun
    assert "... 29 more lines" in begun
    assert "w49 " in ended
    assert "\x1b" not in ended
