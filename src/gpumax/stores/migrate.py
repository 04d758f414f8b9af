"""The tables brought to this version's, whatever version wrote them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Column, Connection, MetaData, String, Table, insert, inspect, select

from gpumax.errors import StoreFailed
from gpumax.stores.tables import REVISION, metadata

_SCRIPTS: Final = "gpumax.stores:migrations"

_own: Final = MetaData()
_version: Final = Table(
    "alembic_version", _own, Column("version_num", String(32), primary_key=True)
)  # as Alembic makes it


def bring_up_to_date(connection: Connection, path: Path) -> None:
    """Make the tables, or run the missing migrations, in the connection's transaction: all of it or nothing.

    StoreFailed, and nothing is changed, where a newer version wrote the tables, or something that isn't gpumax.
    """
    there = inspect(connection).get_table_names()
    if not there:
        # The same as running every migration, but without Alembic, which costs a start time and memory.
        metadata.create_all(connection)
        _own.create_all(connection)
        connection.execute(insert(_version), [{"version_num": REVISION}])
        return
    found = connection.execute(select(_version)).scalar() if _version.name in there else None
    if found is None:
        raise StoreFailed(
            f"{path}: is a database of something else; move it away, or use another data directory"
        )
    if found != REVISION:
        _migrate(connection, path, str(found))


def _migrate(connection: Connection, path: Path, found: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", _SCRIPTS)
    known = [step.revision for step in ScriptDirectory.from_config(config).walk_revisions()]
    if found not in known:
        raise StoreFailed(
            f"{path}: was written by a newer gpumax (its tables are version {found}, this one knows {REVISION}); "
            "use that gpumax, or another data directory"
        )
    command.upgrade(config, "head")
