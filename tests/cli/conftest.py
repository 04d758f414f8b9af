"""A fake server, and the command line run in this process."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from cli.fake_api import FakeApi
from gpumax.apps.cli import main


class Result(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty data directory, which commands use; its path is short enough for a Unix socket."""
    for name in ("SERVER", "TOKEN", "PROJECT", "DEBUG", "COMPLETE", "ENGINE", "NAMESPACE"):
        monkeypatch.delenv(f"GPUMAX_{name}", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    monkeypatch.setenv("GPUMAX_DATA", str(directory))
    monkeypatch.setenv("KUBECONFIG", str(directory / "kubeconfig"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def api(data: Path) -> Iterator[FakeApi]:
    """A server of that directory."""
    server = FakeApi(data)
    yield server
    server.close()


@pytest.fixture
def cli(data: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run one command line. Requests that are sent again are sent again at once."""
    monkeypatch.setattr("gpumax.apps.cli.client.RETRY_S", (0.0, 0.0))

    def run(*arguments: str) -> Result:
        capfd.readouterr()
        code = main.run(arguments)
        return Result(code, *capfd.readouterr())

    return run
