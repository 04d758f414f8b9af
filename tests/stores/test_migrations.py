"""Tables of every version become this version's; what a newer version wrote is left alone."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine

from gpumax.errors import StoreFailed
from gpumax.stores import migrations
from gpumax.stores.sql import SqlStore
from gpumax.stores.tables import REVISION, metadata
from store_samples import names, queue, spec, submit


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "gpumax.stores:migrations")
    return config


REVISIONS = [step.revision for step in ScriptDirectory.from_config(_config()).walk_revisions()]


@contextmanager
def _connected(path: Path) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{path}")
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _make(path: Path, revision: str) -> None:
    """A file as the version with this revision made it."""
    config = _config()
    with _connected(path) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def _schema(path: Path) -> dict[tuple[str, str], object]:
    """All there is: columns by table, indexes by name."""
    with closing(sqlite3.connect(path)) as file:
        found: dict[tuple[str, str], object] = {}
        for kind, name, table in file.execute("SELECT type, name, tbl_name FROM sqlite_master"):
            question = "table_info" if kind == "table" else "index_info"
            found[kind, name] = (table, file.execute(f"PRAGMA {question}({name!r})").fetchall())
            if kind == "table":
                found["keys", name] = file.execute(f"PRAGMA foreign_key_list({name!r})").fetchall()
        return found


def test_the_newest_step_is_the_one_the_tables_name() -> None:
    """The revision beside the tables is the head of the migrations."""
    assert ScriptDirectory.from_config(_config()).get_current_head() == REVISION


def test_all_steps_lead_to_the_tables(tmp_path: Path) -> None:
    """Running every migration on an empty file gives what the code's tables say, and what a new store makes at once."""
    _make(tmp_path / "steps.db", "head")
    with _connected(tmp_path / "steps.db") as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    SqlStore(tmp_path / "new.db").close()
    assert _schema(tmp_path / "steps.db") == _schema(tmp_path / "new.db")


@pytest.mark.parametrize("revision", REVISIONS)
def test_files_of_every_version_are_taken_over(tmp_path: Path, revision: str) -> None:
    """A file of any released version opens and works, and is of this version then."""
    path = tmp_path / "gpumax.db"
    _make(path, revision)
    with closing(SqlStore(path)) as store:
        store.set_queue(queue("red"), now_ms=5)
        submit(store, spec("a"), key="k", digest="d")
    with closing(SqlStore(path)) as store:
        assert names(store.live()) == ["a"]
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT version_num FROM alembic_version").fetchall() == [(REVISION,)]


NEXT_STEP = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0002", "0001", None, None

def upgrade():
    op.create_table("extras", sa.Column("name", sa.String(9), primary_key=True))
    op.add_column("events", sa.Column("more", sa.Text, nullable=False, server_default="m"))
    {last}
"""


def _next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str) -> None:
    """From now on this is a version that knows one step more."""
    scripts = tmp_path / "migrations"
    shutil.copytree(Path(migrations.__file__).parent, scripts)
    (scripts / "versions" / "v0002_next.py").write_text(NEXT_STEP.format(last=last))
    monkeypatch.setattr("gpumax.stores.migrate._SCRIPTS", str(scripts))
    monkeypatch.setattr("gpumax.stores.migrate.REVISION", "0002")


def _made(path: Path) -> dict[tuple[str, str], object]:
    with closing(SqlStore(path)) as store:
        submit(store, spec("a"), key="k", digest="d")
    return _schema(path)


def test_an_older_file_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file is behind, the missing step is run once, and everything in it is still there."""
    path = tmp_path / "gpumax.db"
    before = _made(path)
    _next_version(tmp_path, monkeypatch, "pass")
    for _ in range(2):
        with closing(SqlStore(path)) as store:
            assert names(store.live()) == ["a"]
            assert [told.workload for told in store.events()] == ["a"]
    after = _schema(path)
    assert {key for key in after if key not in before} >= {("table", "extras")}
    assert after["table", "events"] != before["table", "events"]


def test_a_step_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration is done as a whole or not at all, and this version's predecessor can still use the file."""
    path = tmp_path / "gpumax.db"
    before = _made(path)
    with monkeypatch.context() as patch:
        _next_version(tmp_path, patch, 'op.execute("INSERT INTO nowhere VALUES (1)")')
        with pytest.raises(StoreFailed, match="nowhere"):
            SqlStore(path)
    assert _schema(path) == before
    with closing(SqlStore(path)) as store:
        assert names(store.live()) == ["a"]


@pytest.mark.parametrize("version", ["0002", "9999", "abcdef"])
def test_a_newer_version_is_refused_in_words(tmp_path: Path, version: str) -> None:
    """The message names file, versions and way out; the file stays as it is."""
    path = tmp_path / "gpumax.db"
    SqlStore(path).close()
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE alembic_version SET version_num = ?", (version,))
    before = hashlib.sha256(path.read_bytes()).digest()
    with pytest.raises(StoreFailed) as caught:
        SqlStore(path)
    assert str(caught.value) == (
        f"{path}: was written by a newer gpumax (its tables are version {version}, this one knows {REVISION}); "
        "use that gpumax, or another data directory"
    )
    assert hashlib.sha256(path.read_bytes()).digest() == before
