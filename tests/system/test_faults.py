"""Bad luck with disks, directories, sockets and ports: said plainly, nothing lost."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from system.harness import Machine, eventually, machine


@contextmanager
def _tmpfs(path: Path, options: str) -> Iterator[None]:
    """A small file system of its own; skips where this machine doesn't allow to mount one."""
    path.mkdir(exist_ok=True)
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system takes root")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(path)], check=False).returncode:
        pytest.skip("this machine does not let a test mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=False)


def _up(there: Machine, *options: str) -> subprocess.CompletedProcess[str]:
    """`gpumax up` that is expected to give up."""
    return there.cli("up", "--devices", "1xH100:80Gi", *options)


def _plain(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode in (1, 2, 3), done
    assert "Traceback" not in done.stderr
    assert 1 <= len(done.stderr.strip().splitlines()) <= 2, done.stderr


def test_a_second_up_on_the_same_directory_says_who_has_it() -> None:
    """It names the server that runs, and leaves it alone."""
    with machine() as there:
        done = _up(there)
        _plain(done)
        assert there.server is not None
        assert str(there.server.pid) in done.stderr
        assert there.answers()


def test_a_stale_socket_is_no_hindrance() -> None:
    """After kill -9 the socket's file is still there; the next `up` takes its place."""
    with machine() as there:
        there.kill()
        assert there.cli("ps").returncode == 4
        there.up()
        assert there.answers()


def test_a_port_in_use_is_named() -> None:
    """`up --listen` on a taken port ends with a line that names it; nothing runs on."""
    with machine(start=False) as there, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = _up(there, "--listen", f"127.0.0.1:{port}")
        _plain(done)
        assert str(port) in done.stderr
        there.up()
        assert there.answers()


def test_a_read_only_directory_is_named() -> None:
    """`up` on a directory that can't be written says which, and what to do."""
    with machine(start=False) as there, _tmpfs(there.data, "ro,size=1m"):
        done = _up(there)
        _plain(done)
        assert str(there.data) in done.stderr


def test_a_full_disk_refuses_what_it_can_not_keep_and_loses_nothing() -> None:
    """With no room left a submit is refused in words; what was accepted is there when there is room again."""
    with machine(start=False) as there, _tmpfs(there.data, "size=24m"):
        there.up()
        there.must("run", "-n", "kept", "--", "sleep", "1000")
        filler = there.data / "filler"
        with filler.open("wb") as file:
            try:
                while True:
                    file.write(b"x" * 65536)
                    file.flush()
            except OSError:
                pass
        refused = None
        for number in range(50):
            done = there.cli(
                "run", "-n", f"w{number}", "--env", "LARGE=" + "x" * 50_000, "--", "sleep", "1000"
            )
            if done.returncode:
                refused = done
                break
        assert refused is not None, "the disk was full"
        assert "Traceback" not in refused.stderr
        assert "space" in refused.stderr or "full" in refused.stderr
        assert there.answers()
        filler.unlink()
        there.must("run", "-n", "later", "--", "sleep", "1000")
        assert {"kept", "later"} <= there.items().keys()
        there.kill()
        there.up()
        assert {"kept", "later"} <= there.items().keys()
        there.must("stop", *there.items())
        eventually(lambda: {i["state"] for i in there.items().values()} == {"stopped"}, "all is stopped")
