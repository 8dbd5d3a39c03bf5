"""Bars in a SQL database: SQLite embedded, PostgreSQL through psycopg 3.

Needs the extra: ``pip install 'realtime-stream[sql]'``. Importing this package opens nothing.

:class:`SqlSink` takes what a manager delivers, :class:`OHLCVRepository` reads (and inserts),
:func:`upgrade` brings a database's schema up to date, which the other two do at their first use.
"""

from __future__ import annotations

from realtime_stream.errors import ConfigurationError

try:
    import alembic as _alembic  # noqa: F401  # asked for here, so that what is missing has a name
    import sqlalchemy as _sqlalchemy  # noqa: F401  # as above
except ModuleNotFoundError as exc:
    _msg = f"storing bars in a SQL database needs {exc.name}: pip install 'realtime-stream[sql]'"
    raise ConfigurationError(_msg) from exc

from realtime_stream.sinks.sql.models import OHLCVBar
from realtime_stream.sinks.sql.repository import OHLCVRepository
from realtime_stream.sinks.sql.schema import upgrade
from realtime_stream.sinks.sql.store import SqlSink

__all__ = ["OHLCVBar", "OHLCVRepository", "SqlSink", "upgrade"]
