"""The history of the schema, run by Alembic from inside the package; there is no alembic.ini.

The version is kept in ``realtime_stream_version``, so that an application which has an Alembic of
its own in the same database is not disturbed.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["ADVISORY_LOCK", "VERSION_TABLE", "SchemaError", "is_current", "migrate"]

VERSION_TABLE: Final = "realtime_stream_version"
ADVISORY_LOCK: Final = 0x6F686C6376  # "ohlcv": any number nobody else is likely to take

# Guards Alembic's `context` and `op`, which are global.
_one_at_a_time = threading.Lock()


class SchemaError(Exception):
    """The database's schema is not one that this release can bring up to date."""


def is_current(connection: Connection) -> bool:
    """Whether the schema is this release's."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    heads = ScriptDirectory.from_config(_config()).get_heads()
    return set(context.get_current_heads()) == set(heads)


def migrate(connection: Connection) -> None:
    """Bring the schema up to date, in the connection's transaction.

    Raises:
        SchemaError: It is a later release's.
    """
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # which the driver leaves out before DDL
    else:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
    config = _config()
    config.attributes["connection"] = connection
    with _one_at_a_time:
        try:
            command.upgrade(config, "head")
        except CommandError as exc:
            msg = f"the schema is of a later release: {exc}"
            raise SchemaError(msg) from exc


def _config() -> Config:
    config = Config()
    folder = str(Path(__file__).resolve().parent)
    config.set_main_option("script_location", folder.replace("%", "%%"))
    return config
