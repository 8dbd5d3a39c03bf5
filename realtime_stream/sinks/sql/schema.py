"""Bringing a database's schema up to date, apart from writing to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtime_stream.sinks.sql.database import Database

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = ["upgrade"]


def upgrade(target: str | Engine, *, timeout: float = 5.0) -> None:
    """Create ``ohlcv_bars``, or bring it up to date; does nothing where it is.

    Sink and repository do it by themselves at their first use. Call it where only an administrator
    may change the schema: who uses it afterwards needs SELECT, INSERT and UPDATE on the table and
    SELECT on ``realtime_stream_version``.

    Two processes may call it at once; one waits for the other.

    Args:
        target: The database's URL, or an engine.
        timeout: Seconds after which it gives up.

    Raises:
        ConfigurationError: The URL is not acceptable, or its driver is not installed.
        SinkError: It did not work; nothing was changed.

    Thread safety: may be called from any thread.
    """
    database = Database(target, timeout=timeout, pool_size=1, max_overflow=0)
    try:
        database.prepare()
    finally:
        database.close()
