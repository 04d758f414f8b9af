"""up and down, as far as a command can go without a server of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.conftest import Cli
from cli.fake_api import FakeApi, ok, page, workload
from gpumax.apps.cli.commands import system
from gpumax.apps.gpu.rules import Rules
from gpumax.errors import Refused

Process = subprocess.Popen[bytes]


@pytest.fixture
def server(api: FakeApi) -> Iterator[Process]:
    """A process that the status calls the server's."""
    # It tells when it is there, so that it is not ended before it could say how.
    command = [sys.executable, "-c", "import signal; print(flush=True); signal.pause()"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        api.on("GET /status", ok({"pid": process.pid, "counts": {"running": 1}}))
        yield process
        process.kill()


def test_down_ends_the_server(cli: Cli, server: Process) -> None:
    """The process gets SIGTERM and is waited for; that tasks run on is told where there are some."""
    result = cli("down")
    assert (result.code, result.err) == (0, "gpumax is down; tasks that were running run on\n")
    assert server.wait(60) == -15


def test_down_with_its_tasks(cli: Cli, api: FakeApi, server: Process) -> None:
    """--tasks suspends all unfinished work and waits for it before the server goes."""
    api.on("GET /workloads", page(workload("a"), workload("b")), page(workload("b")), page())
    for name in "ab":
        api.on(f"POST /workloads/{name}/suspend", ok({}))
    result = cli("down", "--tasks")
    assert result.code == 0
    assert result.err.startswith("suspended a, b; ")
    assert result.err.endswith("gpumax is down\n")
    assert server.wait(60) == -15
    assert len(api.asked("GET /workloads")) == 3


def test_down_is_for_this_machine(cli: Cli, api: FakeApi) -> None:
    """A server elsewhere is not stopped from here."""
    result = cli("--server", "http://127.0.0.1:1", "down")
    assert result.code == 2
    assert "this machine only" in result.err


def test_down_of_a_server_that_has_just_gone(cli: Cli, api: FakeApi) -> None:
    """A server that ends by itself meanwhile is down, too."""
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait(60)
    api.on("GET /status", ok({"pid": gone.pid}))
    assert cli("down") == (0, "", "gpumax is down\n")


def test_up_passes_its_options_on(cli: Cli, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for on the command line is what the server is started with; its refusal is the command's."""
    given: list[object] = []

    def serve(directory: Path, **options: object) -> None:
        given.extend((directory, options))
        raise Refused("not today")

    monkeypatch.setattr("gpumax.apps.server.main.serve", serve)
    result = cli(
        "up",
        "--devices",
        "8xH100:80Gi",
        "--listen",
        ":8080",
        "--name",
        "n1",
        "--evict-unfenced",
        "--checkpoint-unfenced",
        "--stuck",
        "end",
        "--cold",
        "0",
    )
    assert (result.code, result.err) == (2, "gpumax: not today\n")
    assert given == [
        data,
        {
            "devices": "8xH100:80Gi",
            "listen": ":8080",
            "name": "n1",
            "evict_unfenced": True,
            "rules": Rules(ends_stuck=True, takes_off=True, cold_s=0),
        },
    ]


def test_detached_server_that_does_not_start(cli: Cli, data: Path) -> None:
    """What a server in the background died of is told here, with its code."""
    result = cli("up", "-d", "--devices", "nonsense!")
    assert result.code == 2
    assert "nonsense!" in result.err
    assert len(result.err.splitlines()) == 1


def test_last_words(data: Path) -> None:
    """Of what a server wrote since its start, our own lines count, else the last one; silence is told as such."""
    log = data / "server.log"
    log.write_bytes(b"gpumax: of an earlier start\n")
    begun = log.stat().st_size
    assert "without a word" in system._last_words(log, begun)
    with log.open("ab") as file:
        file.write(b"Traceback\n\xff\nKeyError: 1\n")
    assert system._last_words(log, begun) == "KeyError: 1"
    with log.open("ab") as file:
        file.write(b"gpumax: the disk is full\n")
    assert system._last_words(log, begun) == "the disk is full"
