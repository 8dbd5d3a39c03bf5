"""``OHLCVRepository``: stored bars, read and inserted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

from sqlalchemy import Connection, Select, select

from realtime_stream.errors import ConfigurationError
from realtime_stream.sinks.sql.database import Database
from realtime_stream.sinks.sql.models import OHLCVBar, ensure_utc
from realtime_stream.sinks.sql.tables import ohlcv_bars
from realtime_stream.sinks.sql.writer import BarWriter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from types import TracebackType

    from sqlalchemy import Engine

    from realtime_stream.market.models import Bar

__all__ = ["OHLCVRepository", "latest_statement", "range_statement"]

_READ: Final = [column for column in ohlcv_bars.columns if column.name != "spread"]
_NAMES: Final = [column.name for column in _READ]


def latest_statement(symbol: str, timeframe: str, n: int) -> Select[Any]:
    """The newest ``n`` rows of a series, newest first: one walk along the index."""
    table = ohlcv_bars.c
    return (
        select(*_READ)
        .where(table.symbol == symbol, table.timeframe == timeframe)
        .order_by(table.timestamp.desc(), table.nanosecond.desc())
        .limit(n)
    )


def range_statement(symbol: str, timeframe: str, start: datetime, end: datetime) -> Select[Any]:
    """The rows of a series from ``start`` on and before ``end``, newest first, by the index."""
    table = ohlcv_bars.c
    return (
        select(*_READ)
        .where(
            table.symbol == symbol,
            table.timeframe == timeframe,
            table.timestamp >= start,
            table.timestamp < end,
        )
        .order_by(table.timestamp.desc(), table.nanosecond.desc())
    )


class OHLCVRepository:
    """Reads bars from a database, and inserts them as :class:`SqlSink` does.

    Nothing is connected before the first call, which also creates the table or brings it up to
    date. Usable as a context manager.

    Thread safety: every method may be called from any thread.
    """

    def __init__(
        self,
        target: str | Engine,
        *,
        timeout: float = 5.0,
        pool_size: int = 5,
        max_overflow: int = 15,
        window: int = 20,
    ) -> None:
        """Check the settings; load the driver.

        Args:
            target: A URL as of :class:`SqlSink`, or an SQLAlchemy engine, which is neither
                configured nor closed here.
            timeout: Seconds after which a statement, a lock, or a new connection is given up.
            pool_size: Connections that are kept.
            max_overflow: Connections beyond those, while they are needed.
            window: Earlier bars of a series that an inserted bar's ratios compare it with.

        Raises:
            ConfigurationError: A setting is not acceptable, or the driver is not installed.
        """
        self._database = Database(
            target, timeout=timeout, pool_size=pool_size, max_overflow=max_overflow
        )
        self._writer = BarWriter(self._database, window=window)

    def __repr__(self) -> str:
        """The database, without user, password or parameters."""
        return f"OHLCVRepository({self._database!r})"

    def __enter__(self) -> Self:
        """The repository itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def insert(self, bars: Sequence[Bar | OHLCVBar]) -> None:
        """Store bars, all or none, by the rules of :meth:`SqlSink.write`.

        Of an :class:`OHLCVBar` its id, ratios and time of creation are not taken: the database has
        its own.

        Raises:
            SinkRejectedError: Some can never be stored.
            SinkError: It did not work.
        """
        self._writer.write([bar.to_bar() if isinstance(bar, OHLCVBar) else bar for bar in bars])

    def latest(self, symbol: str, timeframe: str, n: int = 1) -> list[OHLCVBar]:
        """The newest ``n`` bars of a series, oldest of them first; fewer if there are no more.

        Raises:
            ConfigurationError: ``n`` is not above 0.
            SinkError: It did not work.
        """
        if n < 1:
            msg = f"n must be above 0, not {n}"
            raise ConfigurationError(msg)
        return self._read(latest_statement(symbol, timeframe, n))

    def range(self, symbol: str, timeframe: str, start: datetime, end: datetime) -> list[OHLCVBar]:
        """The bars with ``start <= timestamp < end``, in order of time.

        Args:
            symbol: Which instrument.
            timeframe: Such as ``1m``.
            start: First moment; naive means UTC.
            end: The moment after the last.

        Raises:
            SinkError: It did not work.
        """
        return self._read(range_statement(symbol, timeframe, ensure_utc(start), ensure_utc(end)))

    def close(self) -> None:
        """Let go of all connections, unless the engine is the caller's."""
        self._database.close()

    def _read(self, statement: Select[Any]) -> list[OHLCVBar]:
        def read(connection: Connection) -> list[OHLCVBar]:
            # The table's own checks have held; to check again costs more than the query.
            return [
                OHLCVBar.model_construct(**dict(zip(_NAMES, row, strict=True)))
                for row in connection.execute(statement)
            ]

        return self._database.run(read)[::-1]
