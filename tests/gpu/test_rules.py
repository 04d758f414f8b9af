"""What an administrator says of those who don't answer, don't keep to their parts or rest reaches the broker, from whichever command."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gpumax.apps.cli.commands.agent import agent
from gpumax.apps.cli.commands.gpu_run import run
from gpumax.apps.gpu import process
from gpumax.apps.gpu.rules import Rules
from gpumax.broker.__main__ import command
from gpumax.broker.node.pages import Owner
from gpumax.broker.node.roster import Member
from gpumax.errors import Refused


@pytest.mark.parametrize(
    ("rules", "stuck", "unfenced", "cold"),
    [
        (Rules(), "wait", "report", 600),
        (Rules(ends_stuck=True), "end", "report", 600),
        (Rules(takes_off=True, cold_s=0), "wait", "checkpoint", 0),
        (Rules(cold_s=7.5), "wait", "report", 7.5),
    ],
)
def test_a_broker_begins_by_the_rules(
    rules: Rules, stuck: str, unfenced: str, cold: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawned: list[list[str]] = []

    def spawn(_path: str, words: list[str], *_: Any, **__: Any) -> int:
        spawned.append(words)
        return os.getpid()

    monkeypatch.setattr(os, "posix_spawn", spawn)
    process.start(tmp_path, (), idle_s=5, rules=rules)
    [words] = spawned
    read = command.make_context("broker", words[words.index("gpumax.broker") + 1 :]).params
    assert (read["stuck"], read["unfenced"], read["cold"]) == (stuck, unfenced, cold)


def test_gpu_run_and_the_agent_say_them(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Rules] = []

    def shared(*words: Any) -> dict[str, str]:
        given.append(words[-1])
        raise Refused("not today")

    def serve(wishes: Any) -> None:
        given.append(wishes.rules)

    monkeypatch.setattr("gpumax.apps.cli.commands.gpu_run.shared", shared)
    monkeypatch.setattr("gpumax.apps.agent.main.serve", serve)
    here = CliRunner()
    here.invoke(run, ["--gpu", "0.5", "--stuck", "end", "--cold", "3", "true"])
    here.invoke(run, ["--gpu", "0.5", "true"])
    here.invoke(
        agent, ["--node-name", "n", "--stuck", "end", "--checkpoint-unfenced"], catch_exceptions=False
    )
    assert given == [Rules(ends_stuck=True, cold_s=3), Rules(), Rules(ends_stuck=True, takes_off=True)]


def test_without_a_broker_there_is_nobody_to_keep_them() -> None:
    said = CliRunner().invoke(run, ["--gpu-memory", "1Gi", "--stuck", "end", "true"])
    assert said.exit_code == 2
    assert "--stuck and --cold are for a broker that is started" in said.output
    said = CliRunner().invoke(run, ["--gpu", "0.5", "--cold", "nan", "true"])
    assert "nan is no number of seconds" in said.output


def test_one_that_we_may_not_end_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        member = Member(Owner(1, "a", other.pid, 0, ()), None, os.pidfd_open(other.pid))  # type: ignore[arg-type]

        def refuse(*_: int) -> None:
            raise PermissionError

        with monkeypatch.context() as patched:
            patched.setattr(signal, "pidfd_send_signal", refuse)
            assert f"`kill -9 {other.pid}` ends it" in member.end()
            assert member.end() == ""
        assert member.end() == ""
        assert other.wait(60) == -signal.SIGKILL
        os.close(member.pidfd)
