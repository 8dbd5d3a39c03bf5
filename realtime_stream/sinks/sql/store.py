"""``SqlSink``: delivered bars into a SQL database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtime_stream.sinks.sql.addresses import target_of
from realtime_stream.sinks.sql.database import Database
from realtime_stream.sinks.sql.writer import BarWriter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from realtime_stream.market.models import Bar

__all__ = ["SqlSink"]


class SqlSink:
    """A :class:`~realtime_stream.ports.Sink` that stores bars in SQLite or PostgreSQL.

    Nothing is connected before the first write, which also creates the table or brings it up to
    date. Every write is one transaction and gives up within a few times ``timeout`` seconds,
    whether the server is gone, stuck, or somebody holds a lock.

    SQLite runs with a write-ahead log, synced when it is folded into the database: a crash of the
    process loses nothing that was written, a crash of the machine may lose the last writes.

    Thread safety: every method may be called from any thread.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 2.0,
        pool_size: int = 5,
        max_overflow: int = 15,
        window: int = 20,
    ) -> None:
        """Check the settings; load the driver.

        Args:
            url: ``sqlite:///bars.db`` or ``postgresql://user:password@host/database``.
            timeout: Seconds after which a statement, a lock, or a new connection is given up.
                Below a third of the manager's ``stop(timeout=...)``, a lock or a server that is
                stuck at that moment does not make the stop fail.
            pool_size: Connections that are kept.
            max_overflow: Connections beyond those, while they are needed.
            window: Earlier bars of a series that a bar's ratios compare it with.

        Raises:
            ConfigurationError: A setting is not acceptable, or the driver is not installed.
        """
        self._database = Database(
            url, timeout=timeout, pool_size=pool_size, max_overflow=max_overflow
        )
        self._target = target_of(self._database.engine)
        self._writer = BarWriter(self._database, window=window)

    @property
    def name(self) -> str:
        """Always ``sql``."""
        return "sql"

    @property
    def target(self) -> str:
        """Which database, for the name of the spool folder; the same in every run.

        Made of the host, port and name of a PostgreSQL database, or the absolute path of an SQLite
        file, as they are when the sink is made; never of the password or other parameters, and of
        the user only where the URL names no database, which is the one called like the user then.
        """
        return self._target

    def __repr__(self) -> str:
        """The database, without user, password or parameters."""
        return f"SqlSink({self._database!r})"

    def prepare(self) -> None:
        """Connect and bring the schema up to date now, to know at once whether it can be done.

        Raises:
            SinkError: It cannot.
        """
        self._database.prepare()

    def write(self, bars: Sequence[Bar]) -> None:
        """Store bars, all or none; those that are stored already do no harm.

        Of bars with the same symbol, timeframe and start a whole one wins over a partial one, then
        one with trades over one that was filled in, then an updated one over a regular one, then
        the one received last, whatever the order they are written in.

        Prices are stored with up to 12 decimal places and 16 digits before the point, volumes with
        9 and 19: exactly, or not at all. Only ``vwap`` and the ratios, which are quotients, are
        rounded, to 12 and 4 places.

        Raises:
            SinkRejectedError: Some can never be stored: too many digits, prices not above 0 or out
                of order, a volume below 0, or the database says so.
            SinkError: It did not work this time.
        """
        self._writer.write(bars)

    def close(self) -> None:
        """Let go of all connections."""
        self._database.close()
