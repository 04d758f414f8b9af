"""The server as a process: its directory, its sockets, its end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gpumax.apps.cli.stream import messages
from gpumax.apps.server import doors, home
from gpumax.errors import Conflict, GpumaxError, Refused

PATIENCE_S = 60.0


class Host:
    """A data directory, and the servers that were started on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.environment: dict[str, str] = {}
        self.servers: list[subprocess.Popen[str]] = []

    def start(self, *options: str) -> subprocess.Popen[str]:
        """`gpumax up`, not waited for."""
        keep = {name: value for name, value in os.environ.items() if not name.startswith("GPUMAX")}
        server = subprocess.Popen(
            [sys.executable, "-m", "gpumax.apps.cli.main", "up", "--data", str(self.data), "--devices", "2xH100:80Gi", *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**keep, **self.environment},
        )  # fmt: skip
        self.servers.append(server)
        return server

    def up(self, *options: str) -> subprocess.Popen[str]:
        """`gpumax up`, once it answers."""
        server = self.start(*options)

        def ready() -> bool:
            assert server.poll() is None, server.communicate()
            return self.told().get("pid") == server.pid

        eventually(ready, "the server answers")
        return server

    def refused(self, *options: str) -> tuple[int, str]:
        """`gpumax up` that gives up: its exit code and what it said, in a line or two."""
        server = self.start(*options)
        out, said = server.communicate(timeout=PATIENCE_S)
        assert out == ""
        assert "Traceback" not in said
        assert 1 <= len(said.splitlines()) <= 2, said
        return server.returncode, said

    def told(self) -> dict[str, Any]:
        """server.json, empty while there is none."""
        try:
            told: dict[str, Any] = json.loads((self.data / "server.json").read_text())
        except FileNotFoundError:
            return {}
        return told

    def client(self) -> httpx.Client:
        """A caller over the Unix socket."""
        transport = httpx.HTTPTransport(uds=self.told()["socket"])
        return httpx.Client(transport=transport, base_url="http://here/api/v1", timeout=PATIENCE_S)

    def end(self, server: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> str:
        """End a server; what it said on stderr."""
        server.send_signal(number)
        return server.communicate(timeout=PATIENCE_S)[1]


def eventually(true: Callable[[], bool], what: str) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.fixture
def host() -> Iterator[Host]:
    """A directory of its own with a short path; nothing of it runs afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="gm-", dir="/tmp"))
    made = Host(folder)
    yield made
    for server in made.servers:
        if server.poll() is None:
            server.kill()
        server.communicate()
    shutil.rmtree(folder, ignore_errors=True)


def mode(path: Path | str) -> int:
    """The permissions of a file."""
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_server_comes_and_goes(host: Host) -> None:
    """Private files while it is there; on SIGTERM it ends at once, also with open streams, and takes back what it announced."""
    server = host.up()
    told = host.told()
    assert told == {"pid": server.pid, "socket": str(host.data / "gpumax.sock")}
    assert (mode(host.data), mode(told["socket"]), mode(host.data / "server.json")) == (0o700, 0o600, 0o600)
    with host.client() as client:
        assert client.post("/workloads", json={"name": "a", "run": "sleep 1000"}).status_code == 201
        with (
            client.stream("GET", "/watch", params={"after": 0}) as watch,
            client.stream("GET", "/workloads/a/tasks/0/log", params={"follow": 1}) as log,
        ):
            events = messages(line.encode() + b"\n" for line in watch.iter_lines())
            assert json.loads(next(events).data)["kind"] == "QueueSet"
            said = host.end(server)
            list(events)
            assert list(log.iter_lines()) == []
    assert server.returncode == 0
    assert "Traceback" not in said
    assert not (host.data / "server.json").exists()
    assert not Path(told["socket"]).exists()
    again = host.up()
    with host.client() as client:
        # The task has run on without a server.
        item = client.get("/workloads/a").json()
        assert (item["state"], item["runs"]) == ("running", 1)
        client.post("/workloads/a/stop")
        eventually(lambda: client.get("/workloads/a").json()["state"] == "stopped", "it stops")
    host.end(again, signal.SIGINT)
    assert again.returncode == 0


def test_a_task_runs_and_its_log_is_followed(host: Host) -> None:
    """From submit to the last line of its log."""
    host.up()
    with host.client() as client:
        body = {
            "run": "echo rank $RANK; echo gpus $CUDA_VISIBLE_DEVICES",
            "resources": {"gpu": 2},
            "name": "a",
        }
        (item,) = client.post("/workloads", json=body, params={"base": str(host.folder)}).json()["items"]
        assert [device["index"] for device in item["places"][0]["devices"]] == [0, 1]
        with client.stream("GET", "/workloads/a/tasks/0/log", params={"follow": 1}) as log:
            told = list(messages(line.encode() + b"\n" for line in log.iter_lines()))
        assert "".join(json.loads(m.data) for m in told[:-1]) == "rank 0\ngpus 0,1\n"
        assert json.loads(told[-1].data) == {"state": "succeeded"}


def test_one_directory_has_one_server(host: Host) -> None:
    """A second `up` names the first one's pid and leaves it alone; after kill -9 the next one takes its place."""
    first = host.up()
    code, said = host.refused()
    assert code == 3
    assert f"pid {first.pid}" in said
    with host.client() as client:
        assert client.get("/healthz").json() == {"ok": True}
    host.end(first, signal.SIGKILL)
    assert (host.data / "gpumax.sock").exists()
    second = host.up()
    with host.client() as client:
        assert client.get("/status").json()["pid"] == second.pid


def test_tcp_is_behind_a_token(host: Host) -> None:
    """Made once, kept private, never printed; the address is in server.json."""
    server = host.up("--listen", "127.0.0.1:0")
    url = host.told()["url"]
    token = (host.data / "token").read_text().strip()
    assert mode(host.data / "token") == 0o600
    assert len(token) >= 43
    assert httpx.get(f"{url}/api/v1/status").status_code == 401
    answer = httpx.get(f"{url}/api/v1/status", headers={"Authorization": f"Bearer {token}"})
    assert answer.json()["url"] == url
    assert token not in host.end(server)
    port = url.rpartition(":")[2]
    again = host.up("--listen", f"127.0.0.1:{port}")
    assert (host.data / "token").read_text().strip() == token
    host.end(again)


def test_what_is_in_the_way_is_said_and_nothing_runs(host: Host) -> None:
    """A port in use, devices that are none: a line, and no server half started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = host.refused("--listen", f"127.0.0.1:{port}")
    assert code == 1
    assert f"port {port}" in said
    code, said = host.refused("--devices", "8xH100:many")
    assert code == 2
    assert "8xH100:many" in said
    assert host.told() == {}
    assert not (host.data / "gpumax.sock").exists()


def test_a_directory_with_a_long_path_gets_its_socket_elsewhere(host: Host) -> None:
    """A Unix socket's path is short; server.json says where it is."""
    host.data = host.folder / ("d" * 120)
    runtime = host.folder / "run"
    runtime.mkdir(mode=0o700)
    host.environment = {"XDG_RUNTIME_DIR": str(runtime)}
    server = host.up()
    assert host.told()["socket"].startswith(f"{runtime}/gpumax/")
    with host.client() as client:
        assert client.get("/status").json()["pid"] == server.pid


def test_another_server_s_short_socket_is_another_one(host: Host) -> None:
    """Directories with long paths don't share a socket."""
    paths = set()
    for name in ("a", "b"):
        data = host.folder / (name * 120)
        data.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_RUNTIME_DIR", str(host.folder))
            paths.add(doors.socket_path(data))
    assert len(paths) == 2
    assert max(len(os.fsencode(path)) for path in paths) <= doors.LONGEST_SOCKET


@pytest.mark.parametrize("runtime", ["", "relative", "/missing/directory", "/tmp/" + "r" * 120])
def test_a_runtime_directory_that_is_of_no_use_is_passed_over(
    host: Host, runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unset, not there, or too long itself."""
    data = host.folder / ("d" * 120)
    data.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    assert doors.socket_path(data).parent == Path(f"/tmp/gpumax-{os.geteuid()}")


def test_a_short_path_that_others_may_change_is_not_used(host: Host) -> None:
    """Whoever may write there could take the socket's place."""
    data = host.folder / ("d" * 120)
    data.mkdir()
    (host.folder / "gpumax").mkdir(mode=0o777)
    (host.folder / "gpumax").chmod(0o777)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(host.folder))
        with pytest.raises(Refused, match="not yours alone"):
            doors.socket_path(data)


def test_a_directory_with_other_things_in_it_is_not_closed_to_others(tmp_path: Path) -> None:
    """Somebody's home, or /tmp, keeps its mode; an empty one and one of ours become private."""
    tmp_path.chmod(0o755)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(Refused, match=r"thesis\.tex"):
        home.prepare(tmp_path)
    assert mode(tmp_path) == 0o755
    for name, holds in (("empty", ""), ("ours", "gpumax.db")):
        data = tmp_path / name
        data.mkdir(mode=0o755)
        if holds:
            (data / holds).touch()
        home.prepare(data)
        assert mode(data) == 0o700
    home.prepare(tmp_path / "new" / "deep")
    assert mode(tmp_path / "new" / "deep") == 0o700


def test_a_file_in_place_of_the_directory_is_named(tmp_path: Path) -> None:
    """In a sentence."""
    (tmp_path / "data").touch()
    with pytest.raises(GpumaxError, match=r"can't use the data directory .*: file exists"):
        home.prepare(tmp_path / "data")


def test_the_lock_goes_with_its_holder(tmp_path: Path) -> None:
    """Held twice it is a conflict that names the holder; let go, it is free."""
    with home.locked(tmp_path), pytest.raises(Conflict, match=f"pid {os.getpid()}"), home.locked(tmp_path):
        pass
    with home.locked(tmp_path):
        pass


def test_a_token_that_is_none_is_refused(tmp_path: Path) -> None:
    """An empty file would open the server to everybody who sends nothing."""
    (tmp_path / "token").write_text("\n")
    with pytest.raises(Refused, match="token"):
        home.token_of(tmp_path)
    (tmp_path / "token").unlink()
    made = home.token_of(tmp_path)
    assert home.token_of(tmp_path) == made


@pytest.mark.parametrize(
    ("listen", "host_and_port"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("[::1]:8080", ("::1", 8080)),
        (":80", ("0.0.0.0", 80)),
        ("h:0", ("h", 0)),
    ],
)
def test_addresses_are_read(listen: str, host_and_port: tuple[str, int]) -> None:
    """HOST:PORT, [V6]:PORT, or :PORT for every address."""
    assert doors.read_address(listen) == host_and_port


@pytest.mark.parametrize("listen", ["", "80", "h:", "h:x", "h:65536", "h:-1", "http://h:80", "h:٣"])
def test_what_is_no_address_is_refused(listen: str) -> None:
    """With an example of one."""
    with pytest.raises(Refused, match=r"127\.0\.0\.1:8080"):
        doors.read_address(listen)


@pytest.mark.parametrize("options", [["--name", "a b"], ["--listen", "foo"], ["--devices", "8xH"]])
@pytest.mark.parametrize("more", [[], ["--detach"]])
def test_wrong_options_leave_nothing_behind(tmp_path: Path, options: list[str], more: list[str]) -> None:
    """What is wrong whatever the directory is found before it is made."""
    data = tmp_path / "data"
    words = [sys.executable, "-m", "gpumax.apps.cli.main", "up", "--data", str(data), *options, *more]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("gpumax: ")
    assert not data.exists()


def test_an_address_that_others_reach_comes_with_a_warning() -> None:
    """The token travels as it is."""
    assert (
        doors.notes_on(None)
        == doors.notes_on("http://127.0.0.1:80")
        == doors.notes_on("http://[::1]:80")
        == ()
    )
    assert "TLS" in doors.notes_on("http://gpu-box:80")[0]
