"""doctor: what it finds on a machine that is well, and on one that isn't."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from pathlib import Path
from typing import NamedTuple

import pytest

from cli.conftest import Cli
from cli.fake_api import FakeApi, ok
from gpumax import __version__
from gpumax.apps.cli import checks, checks_data
from gpumax.apps.cli.options import Where


def found(cli: Cli) -> dict[str, list[dict[str, str]]]:
    """The checks of a run with -o json, by name."""
    by_name: dict[str, list[dict[str, str]]] = {}
    for item in json.loads(cli("doctor", "-o", "json").out)["items"]:
        by_name.setdefault(item["check"], []).append(item)
    return by_name


def test_well_without_a_server(cli: Cli, data: Path) -> None:
    """Nothing has to run for it, it changes nothing, and a fresh machine fails in nothing."""
    result = cli("doctor")
    assert (result.code, result.err) == (0, "")
    assert "not running; `gpumax up` starts it" in result.out
    assert list(data.iterdir()) == []


def test_every_line_has_a_state_and_a_wish_where_something_is_amiss(cli: Cli) -> None:
    """What is not ok says what to do."""
    items = [item for rows in found(cli).values() for item in rows]
    assert {item["state"] for item in items} <= {"ok", "warn", "fail"}
    assert all(item["wish"] for item in items if item["state"] != "ok")
    assert all(item["found"] for item in items)


def test_directory_that_is_not_there_yet(cli: Cli, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that `up` would make is well."""
    monkeypatch.setenv("GPUMAX_DATA", str(data / "a" / "b"))
    assert found(cli)["data"][0]["state"] == "ok"


def test_directory_open_to_others(cli: Cli, data: Path) -> None:
    """Secrets and logs live in it; others must not read them."""
    data.chmod(0o755)
    assert (found(cli)["data"][0]["state"], found(cli)["data"][0]["wish"]) == ("warn", f"chmod 700 {data}")


def test_directory_that_is_a_file(cli: Cli, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in its place fails, and so does the command."""
    (data / "file").touch()
    for place in ("file", "file/below"):
        monkeypatch.setenv("GPUMAX_DATA", str(data / place))
        result = cli("doctor")
        assert result.code == 1
        assert result.err == "gpumax: to be mended first: data\n"


def test_directory_of_another(cli: Cli, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's directory fails; their name is told."""
    monkeypatch.setattr(os, "geteuid", lambda: data.stat().st_uid + 1)
    assert "belongs to" in found(cli)["data"][0]["found"]
    assert found(cli)["data"][0]["state"] == "fail"


def test_read_only_directory(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that can't be written fails."""
    monkeypatch.setattr(os, "access", lambda *_arguments: False)
    assert next(checks_data.directory(data)).state == "fail"


def test_directory_that_may_not_be_entered(cli: Cli, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing may be looked at, that is what is told, once."""

    def deny(self: Path, **_how: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    (data / "gpumax.db").touch()
    where = Where(data_option=str(data))
    monkeypatch.setattr(Path, "stat", deny)
    rows = [check for check in checks.checks(where) if check.name in ("data", "disk", "socket", "database")]
    assert [(check.name, check.state) for check in rows] == [("data", "fail")]
    assert "permission denied" in rows[0].found


class Disk(NamedTuple):
    """What statvfs says."""

    f_bavail: int
    f_frsize: int = 1 << 20
    f_favail: int = 1
    f_files: int = 1


@pytest.mark.parametrize(
    ("disk", "state"),
    [(Disk(10), "fail"), (Disk(500), "warn"), (Disk(9999), "ok"), (Disk(9999, f_favail=0), "fail")],
)
def test_disk(data: Path, monkeypatch: pytest.MonkeyPatch, disk: Disk, state: str) -> None:
    """Little room warns, none fails; a disk without free inodes is full, too."""
    monkeypatch.setattr(os, "statvfs", lambda _path: disk)
    assert checks_data.disk(data).state == state


def test_network_disk(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home on NFS is no place for the database."""
    monkeypatch.setattr(checks_data, "_file_system", lambda _path: "nfs4")
    rows = {check.name: check for check in checks_data.directory(data)}
    assert rows["filesystem"].state == "warn"


def test_database(data: Path) -> None:
    """A whole database is well; a damaged one fails; neither gets files beside it."""
    assert list(checks_data.database(data)) == []
    path = data / "gpumax.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    assert [check.state for check in checks_data.database(data)] == ["ok"]
    path.write_bytes(b"no database" * 1000)
    assert [check.state for check in checks_data.database(data)] == ["fail"]
    assert list(data.iterdir()) == [path]


def test_database_in_use(data: Path) -> None:
    """While a server has it to itself, it is well, and reading it disturbs nobody."""
    connection = sqlite3.connect(data / "gpumax.db")
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t (x)")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO t VALUES (1)")
    assert [check.state for check in checks_data.database(data)] == ["ok"]
    connection.execute("COMMIT")
    connection.close()


def test_clock_that_went_back(data: Path) -> None:
    """Files of the future mean that the clock is wrong."""
    (data / "server.json").touch()
    assert checks.clock(data).state == "ok"
    os.utime(data / "server.json", (2**32, 2**32))
    assert checks.clock(data).state == "warn"


def test_server_of_this_version(cli: Cli, api: FakeApi) -> None:
    """A server that answers is well; its notes are passed on; an open socket fails."""
    api.on("GET /status", ok({"pid": 7, "version": __version__, "engine": {"notes": ["no cgroup"]}}))
    api.socket.chmod(0o600)
    rows = found(cli)
    assert (rows["server"][0]["state"], rows["socket"][0]["state"]) == ("ok", "ok")
    assert rows["engine"][0]["found"] == "no cgroup"
    api.socket.chmod(0o666)
    result = cli("doctor")
    assert result.code == 1
    assert f"chmod 600 {api.socket}" in result.out


def test_server_of_another_version(cli: Cli, api: FakeApi) -> None:
    """After an update the old server still runs; that is worth a line."""
    api.on("GET /status", ok({"pid": 7, "version": "0.0.1"}))
    assert found(cli)["server"][0]["state"] == "warn"


def test_server_that_is_gone(cli: Cli, data: Path, api: FakeApi) -> None:
    """A server that was killed is only to be started again, whoever has its process id by now."""
    api.close()
    (data / "lock").write_text(f"{os.getpid()}\n")
    rows = found(cli)["server"][0]
    assert (rows["state"], "`gpumax up`" in rows["wish"]) == ("warn", True)
    assert "kill" not in rows["wish"]


def test_server_that_does_not_answer(cli: Cli, data: Path, api: FakeApi) -> None:
    """One that holds its directory and doesn't answer fails; the holder of the lock is named, not who is in server.json."""
    api.close()
    (data / "lock").write_text("4321\n")
    with (data / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for told in ('{"pid": 77, "socket": "s"}', "garbage"):
            (data / "server.json").write_text(told)
            rows = found(cli)["server"][0]
            assert rows["state"] == "fail"
            assert "kill -9 4321" in rows["wish"]
        (data / "server.json").unlink()
        assert found(cli)["server"][0]["state"] == "fail"


def test_trouble_of_the_loop(cli: Cli, api: FakeApi) -> None:
    """What keeps the server from its work fails, however well it answers."""
    api.on("GET /status", ok({"pid": 7, "version": __version__, "trouble": ["the journal can't be written"]}))
    api.socket.chmod(0o600)
    result = cli("doctor")
    assert result.code == 1
    assert "fail  loop        the journal can't be written" in result.out


def test_what_decisions_warn_of(cli: Cli, api: FakeApi) -> None:
    """It is said with a hint, and is no failure."""
    api.on("GET /status", ok({"pid": 7, "version": __version__, "warnings": ["quotas exceed what there is"]}))
    api.socket.chmod(0o600)
    result = cli("doctor")
    assert "warn  cluster     quotas exceed what there is" in result.out
    assert "fail  cluster" not in result.out


def test_server_elsewhere(data: Path) -> None:
    """With --server this machine's directory is not looked at."""
    names = [check.name for check in checks.checks(Where(server_option="http://127.0.0.1:1"))]
    assert names == ["python", "clock", "server"]
