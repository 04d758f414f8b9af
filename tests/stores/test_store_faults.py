"""What can be wrong with a database's file or its disk is said in one sentence, and nothing is half written."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from gpumax.errors import Conflict, GpumaxError, StoreFailed
from gpumax.model.records import Changes, Event
from gpumax.ports.store import Store
from gpumax.stores.sql import SqlStore
from store_samples import names, queue, record_of, spec, submit, tasks_of
from stores.small_disk import make_read_only, small_disk

FULL = "the disk is full; nothing was written; free some space and try again"


def _refusal(path: Path) -> str:
    """Why the file can't be opened."""
    with pytest.raises(StoreFailed) as caught:
        SqlStore(path, patience_s=0.0)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def _fill(store: Store, message: str, most: int = 10_000) -> list[str]:
    """Submit until there is no room; the names of what was accepted."""
    accepted: list[str] = []
    why = ""
    for number in range(most):
        try:
            submit(store, spec(f"w{number}", tasks=40), key=f"k{number}", digest="d")
        except StoreFailed as error:
            why = str(error)
            break
        accepted.append(f"w{number}")
    assert why.endswith(message)
    return accepted


def _holds(store: Store, accepted: list[str]) -> None:
    """Exactly these, each with all its tasks, its event and its key."""
    assert names(store.live()) == accepted
    assert all(len(tasks) == 40 for _, tasks in store.live().workloads)
    assert [told.workload for told in store.events(limit=20_000)] == accepted
    assert sum(store.counts().values()) == len(accepted)
    number = len(accepted)
    submit(store, spec(f"w{number}", tasks=40), key=f"k{number}", digest="another")
    assert names(store.live()) == [*accepted, f"w{number}"]


@contextmanager
def _most_pages(pages: int) -> Iterator[None]:
    """Databases that are opened meanwhile can't grow beyond so many pages of 4 KiB."""

    def cap(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    event.listen(Engine, "connect", cap)
    try:
        yield
    finally:
        event.remove(Engine, "connect", cap)


class TestFull:
    def test_what_does_not_fit_is_refused_whole(self, tmp_path: Path) -> None:
        """In a database that can't grow, what was accepted stays, what wasn't leaves no trace, and reading goes on."""
        path = tmp_path / "gpumax.db"
        with _most_pages(150), closing(SqlStore(path)) as store:
            accepted = _fill(store, FULL)
            assert len(accepted) > 3
            assert names(store.live()) == accepted
            before = store.events(newest=True)
            with pytest.raises(StoreFailed, match=FULL):
                store.commit(Changes(events=(Event(1, "Started", "x" * 200_000),)))
            assert store.events(newest=True) == before
            assert store.find(f"w{len(accepted)}") is None
        with closing(SqlStore(path)) as store:
            _holds(store, accepted)

    def test_room_that_is_made_is_used(self, tmp_path: Path) -> None:
        """On a full disk nothing that was accepted is lost; when there is space again, the same store goes on."""
        with small_disk(tmp_path / "small", 1024) as disk:
            ballast = disk / "ballast"
            ballast.write_bytes(bytes(300 * 1024))
            with closing(SqlStore(disk / "gpumax.db")) as store:
                accepted = _fill(store, FULL)
                assert len(accepted) > 3
                assert names(store.live()) == accepted
                ballast.unlink()
                submit(store, spec(f"w{len(accepted)}", tasks=40))
                accepted.append(f"w{len(accepted)}")
                assert names(store.live()) == accepted
            with closing(SqlStore(disk / "gpumax.db")) as store:
                assert names(store.live()) == accepted
                assert all(len(tasks) == 40 for _, tasks in store.live().workloads)

    def test_a_full_disk_at_the_first_start(self, tmp_path: Path) -> None:
        """A file that could not be made whole is no hindrance once there is space."""
        path = tmp_path / "gpumax.db"
        with _most_pages(3):
            assert _refusal(path) == FULL
        with closing(SqlStore(path)) as store:
            _holds(store, [])

    def test_no_space_for_a_file(self, tmp_path: Path) -> None:
        """A disk without a free block refuses in the same words."""
        with small_disk(tmp_path / "small", 64) as disk:
            with pytest.raises(OSError, match="space"):
                (disk / "ballast").write_bytes(bytes(65 * 1024))
            assert _refusal(disk / "gpumax.db") == FULL


class TestNotToBeUsed:
    def test_a_read_only_directory(self, tmp_path: Path) -> None:
        """Neither a new file nor an old one can be used where nothing may be written."""
        where = tmp_path / "data"
        if os.geteuid() == 0:  # whom modes don't bind
            with small_disk(where, 1024) as disk:
                self._refused(disk, lambda: make_read_only(disk))
        else:
            where.mkdir()
            self._refused(where, lambda: where.chmod(0o500))
            where.chmod(0o700)

    def _refused(self, where: Path, lock: Callable[[], None]) -> None:
        SqlStore(where / "gpumax.db").close()
        lock()
        words = "writable for this user, or use another data directory"
        assert words in _refusal(where / "other.db")
        assert words in _refusal(where / "gpumax.db")
        assert sorted(entry.name for entry in where.iterdir()) == ["gpumax.db"]

    def test_no_such_directory(self, tmp_path: Path) -> None:
        """A place that isn't there is named."""
        assert "No such file or directory" in _refusal(tmp_path / "none" / "gpumax.db")

    def test_a_directory_in_its_place(self, tmp_path: Path) -> None:
        """A directory is no database."""
        (tmp_path / "gpumax.db").mkdir()
        assert "Is a directory" in _refusal(tmp_path / "gpumax.db")

    def test_a_pipe_in_its_place(self, tmp_path: Path) -> None:
        """A pipe is no database, and nobody waits for its other end."""
        os.mkfifo(tmp_path / "gpumax.db")
        assert "is not a file" in _refusal(tmp_path / "gpumax.db")

    @pytest.mark.parametrize("content", [b"hello", b"version: gpumax/v1\n" * 1000, bytes(range(256)) * 64])
    def test_something_else_in_its_place(self, tmp_path: Path, content: bytes) -> None:
        """A file that isn't a database is refused and left as it is."""
        path = tmp_path / "gpumax.db"
        path.write_bytes(content)
        assert "is not a database; move it away" in _refusal(path)
        assert path.read_bytes() == content

    def test_a_database_of_something_else(self, tmp_path: Path) -> None:
        """Another program's tables are not touched."""
        path = tmp_path / "gpumax.db"
        with closing(sqlite3.connect(path)) as file, file:
            file.execute("CREATE TABLE workloads (id)")
        assert "is a database of something else" in _refusal(path)
        with closing(sqlite3.connect(path)) as file:
            assert file.execute("SELECT name FROM sqlite_master").fetchall() == [("workloads",)]

    def test_a_damaged_database(self, tmp_path: Path) -> None:
        """Overwritten pages are noticed and said, at the start or when they are read."""
        path = tmp_path / "gpumax.db"
        with closing(SqlStore(path)) as store:
            submit(store, *(spec(f"w{number}", tasks=9) for number in range(50)))
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\x05" * (size - 4096))
        assert "damaged" in _refusal(path)

    def test_in_use_by_another_process(self, tmp_path: Path) -> None:
        """While one process has it open, another is told so; when that one is gone, however it went, it is free."""
        path = tmp_path / "gpumax.db"
        program = "import sys, pathlib, gpumax.stores.sql as s; x = s.SqlStore(pathlib.Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
        with subprocess.Popen(
            [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"open\n"
            assert _refusal(path) == "another process uses it; end that one first"
            other.kill()
            other.wait()
        SqlStore(path, patience_s=0.0).close()

    def test_read_by_another_program(self, tmp_path: Path) -> None:
        """A program that reads it keeps it from being opened for that time only."""
        path = tmp_path / "gpumax.db"
        SqlStore(path).close()
        with closing(sqlite3.connect(path)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM queues").fetchall()
            assert "another process uses it" in _refusal(path)
        SqlStore(path, patience_s=0.0).close()


def test_a_file_that_was_taken_away(tmp_path: Path) -> None:
    """Nothing is accepted that the next start would not find; once the file is back, all goes on."""
    path, away = tmp_path / "gpumax.db", tmp_path / "away.db"
    with closing(SqlStore(path)) as store:
        submit(store, spec("a"))
        for another_in_its_place in (False, True):
            path.rename(away)
            if another_in_its_place:
                path.touch()
            with pytest.raises(StoreFailed, match="moved or deleted while in use"):
                submit(store, spec("b"))
            away.rename(path)
        submit(store, spec("b"))
        assert names(store.live()) == ["a", "b"]


def test_its_files_are_for_their_owner_only(tmp_path: Path) -> None:
    """A new file and its log have mode 0600 whatever the umask; a file with a wider mode is narrowed."""
    path = tmp_path / "gpumax.db"
    before = os.umask(0)
    try:
        with closing(SqlStore(path)) as store:
            submit(store, spec("a"))
            modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"gpumax.db": 0o600, "gpumax.db-wal": 0o600}
    path.chmod(0o644)
    SqlStore(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_commit_waits_for_the_disk(tmp_path: Path) -> None:
    """The database is told to sync at every commit: what was accepted survives a power cut."""
    with closing(SqlStore(tmp_path / "gpumax.db")) as store, store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    """After close, nothing is answered from memory, and the file isn't opened again."""
    store = SqlStore(tmp_path / "gpumax.db")
    store.close()
    for act in (store.live, store.queues, store.counts, lambda: submit(store, spec("a"))):
        with pytest.raises(StoreFailed, match="is closed"):
            act()


def test_text_that_no_database_takes_is_kept_readable(tmp_path: Path) -> None:
    """Half a character, out of a file name that isn't UTF-8, never stops the loop from writing."""
    with closing(SqlStore(tmp_path / "gpumax.db")) as store:
        submit(store, spec("a"))
        task = tasks_of(store, "a")[0]
        odd = "no such file: \udcff"
        store.commit(
            Changes(
                (record_of(store, "a"),),
                (type(task)(task.workload_id, 0, "a-0", "", reason=odd),),
                (Event(1, "Refused", odd + "\0", "a"),),
            )
        )
        assert store.events(newest=True, limit=1)[0].message == "no such file: \\udcff\\x00"
    with closing(SqlStore(tmp_path / "gpumax.db")) as store:
        assert tasks_of(store, "a")[0].reason == "no such file: \\udcff"


def test_a_refusal_is_not_a_failure(tmp_path: Path) -> None:
    """What a person may not do is refused without the database being blamed."""
    with closing(SqlStore(tmp_path / "gpumax.db")) as store:
        store.set_queue(queue("red"), now_ms=1)
        submit(store, spec("a"))
        before = store.live()
        with pytest.raises(Conflict):
            submit(store, spec("a"))
        assert store.live() is before
        assert not issubclass(Conflict, StoreFailed)
        assert issubclass(StoreFailed, GpumaxError)
