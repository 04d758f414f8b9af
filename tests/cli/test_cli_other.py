"""schema, completion, version: for real."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from cli.conftest import Cli
from cli.fake_api import FakeApi, page, queue, workload
from gpumax import __version__
from gpumax.apps.cli import main
from gpumax.apps.cli.output import document
from gpumax.formats.schema import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_schemas(cli: Cli, name: str) -> None:
    """Every format has a schema, in JSON and in YAML."""
    result = cli("schema", name)
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out)["$schema"].endswith("2020-12/schema")
    assert yaml.safe_load(cli("schema", name, "-o", "yaml").out) == json.loads(result.out)


def test_version(cli: Cli) -> None:
    """The version, as text and as data."""
    assert cli("version").out == f"gpumax {__version__}\n"
    assert cli("--version").out == cli("version").out
    assert json.loads(cli("version", "-o", "json").out) == {"version": __version__}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(cli: Cli, tmp_path: Path, shell: str) -> None:
    """The script is for that shell, and the shell, where it is there, can read it."""
    result = cli("completion", shell)
    assert result.code == 0
    assert "_GPUMAX_COMPLETE" in result.out
    program = shutil.which(shell)
    if program:
        script = tmp_path / "script"
        script.write_text(result.out)
        assert subprocess.run([program, "-n", str(script)], check=False, capture_output=True).returncode == 0


def complete(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], line: str) -> list[str]:
    """What bash would offer at the end of a line."""
    parts = line.split(" ")
    monkeypatch.setenv("_GPUMAX_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(parts) - 1))
    assert main.main() == 0
    return [row.partition(",")[2] for row in capfd.readouterr().out.split()]


def test_completions(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Commands, options, names of workloads and queues; no server, no names, and no noise."""
    api.on("GET /workloads", page(workload("train-a"), workload("other")))
    api.on("GET /queues", page(queue("team-a")))
    assert complete(monkeypatch, capfd, "gpumax sta") == ["status"]
    assert complete(monkeypatch, capfd, "gpumax ps --lim") == ["--limit"]
    assert complete(monkeypatch, capfd, "gpumax logs tr") == ["train-a"]
    assert complete(monkeypatch, capfd, "gpumax queue show te") == ["team-a"]
    assert complete(monkeypatch, capfd, "gpumax schema work") == ["workload"]
    api.close()
    assert complete(monkeypatch, capfd, "gpumax logs tr") == []


def test_text_that_looks_like_a_number_is_quoted_in_yaml() -> None:
    """What is printed as YAML reads back as it was: a name like 08 stays text for every reader."""
    assert document({"08": 1, "1e3": "007", "plain": "x"}, "yaml") == "'08': 1\n'1e3': '007'\nplain: x"
