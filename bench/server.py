"""A server of its own for the figures that need one: in a temporary directory, with eight virtual GPUs."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

GPUMAX: Final = (sys.executable, "-m", "gpumax.apps.cli.main")
DEVICES: Final = "8xH100:80Gi"


class Server:
    """One that runs: its data directory and its process."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.pid: int = json.loads((data / "server.json").read_text())["pid"]
        self._socket = str(data / "gpumax.sock")

    def post(self, path: str, document: Any) -> Any:
        """The answer to a document; RuntimeError for any but a good one."""
        connection = _Connection(self._socket)
        connection.request(
            "POST", f"/api/v1{path}", json.dumps(document), {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        if answer.status >= 300:
            raise RuntimeError(f"{path}: {answer.status} {body.decode()}")
        return json.loads(body)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        """To the Unix socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self._path)


def gpumax(*words: str, data: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line; its output is kept."""
    environment = {**os.environ, **({"GPUMAX_DATA": str(data)} if data else {})}
    return subprocess.run(command(*words), env=environment, check=True, capture_output=True, text=True)


def command(*words: str) -> list[str]:
    """The command line as people call it where it is installed, else as a module."""
    script = Path(sys.executable).with_name("gpumax")
    return [str(script), *words] if script.exists() else [*GPUMAX, *words]


@contextmanager
def running() -> Iterator[Server]:
    """A server that is up; down and gone in the end."""
    data = Path(tempfile.mkdtemp(prefix="gpumax-bench-", dir="/tmp"))
    try:
        gpumax("up", "--detach", "--devices", DEVICES, data=data)
        yield Server(data)
    finally:
        subprocess.run(
            command("down", "--tasks"),
            env={**os.environ, "GPUMAX_DATA": str(data)},
            check=False,
            capture_output=True,
        )
        shutil.rmtree(data, ignore_errors=True)
