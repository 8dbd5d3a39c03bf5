"""Writes batches of bars: all or none, each key once, and the better bar stays.

**Which bar stays** is decided by the same four things in Python, for two bars of one batch, and in
the database, for a bar and a row: see :func:`~realtime_stream.sinks.sql.rows.precedence`. The row
keeps its ``id`` and ``created_at``.

**How.** SQLite takes the rows one by one in a prepared statement. PostgreSQL takes a whole batch in
one statement, with one array for each column: one round trip, and none of the client's cost for
each value.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sqlalchemy import Numeric, Text, bindparam, cast, func, not_, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DataError, IntegrityError

from realtime_stream.clock import datetime_from_ns
from realtime_stream.errors import ConfigurationError, SinkError
from realtime_stream.sinks.sql.ratios import RatioWindows
from realtime_stream.sinks.sql.rows import CELLS, Entry, candidates, rejected
from realtime_stream.sinks.sql.tables import KEY, ExactDecimal, ns_from_datetime, ohlcv_bars

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection

    from realtime_stream.market.models import Bar
    from realtime_stream.sinks.sql.database import Database
    from realtime_stream.sinks.sql.ratios import Window
    from realtime_stream.sinks.sql.rows import Candidate, Cell, Series

__all__ = ["BarWriter"]

# In the table's order, which an insert's parameters have whatever order they are given in.
_COLUMNS: Final = (*CELLS, "spread_ratio", "volume_ratio")
_NAMES: Final = frozenset({"symbol", "timeframe", "source"})  # may hold what ends an array's item
_MAX_PROBES: Final = 200  # of parts of a refused batch; the rest is found when it comes again


_Found: TypeAlias = "dict[Series, dict[int, Candidate]]"
_Row: TypeAlias = "tuple[Cell, ...]"
_REFUSED: Final = (DataError, IntegrityError)


class BarWriter:
    """Writes bars to one database, with their ratios.

    Thread safety: every method may be called from any thread; batches are written one by one.
    """

    def __init__(self, database: Database, *, window: int) -> None:
        """Prepare the statements; nothing is connected.

        Args:
            database: Where to.
            window: Bars that a bar is compared with, for its ratios.

        Raises:
            ConfigurationError: ``window`` is not above 0.
        """
        if window < 1:
            msg = f"window must be above 0, not {window}"
            raise ConfigurationError(msg)
        self._database = database
        self._window = window
        self._lock = threading.Lock()  # guards the two below, and so the order of batches
        self._files_lost = database.files_lost  # when the windows were read
        self._windows = RatioWindows(window)
        self._insert = _insert_into_sqlite if database.is_sqlite else _insert_into_postgresql

    def write(self, bars: Sequence[Bar]) -> None:
        """Store a batch, or nothing of it.

        Raises:
            SinkRejectedError: Some bars can never be stored.
            SinkError: It did not work this time.
        """
        found = candidates(bars)
        if not found:
            return
        with self._lock:
            try:
                windows = self._database.run(lambda connection: self._store(connection, found))
            except SinkError as exc:
                if not isinstance(exc.__cause__, _REFUSED):
                    raise
                refusal = exc
            else:
                self._windows.keep(windows)
                return
            faults = self._database.run(lambda connection: self._find(connection, found))
        if not faults:
            raise refusal
        raise rejected(faults) from refusal.__cause__

    def _store(self, connection: Connection, found: _Found) -> list[tuple[Series, Window]]:
        _, rows, windows = self._rated(connection, found)
        self._insert(connection, rows)
        return windows

    def _find(self, connection: Connection, found: _Found) -> dict[int, str]:
        """Which rows the database refuses; it does not say so itself. Nothing is left of it."""
        faults: dict[int, str] = {}
        positions, rows, _ = self._rated(connection, found)
        parts = [range(len(rows))]
        for _probe in range(_MAX_PROBES):
            if not parts:
                break
            part = parts.pop()
            savepoint = connection.begin_nested()
            try:
                self._insert(connection, rows[part.start : part.stop])
            except _REFUSED as exc:
                half = len(part) // 2
                if half:
                    parts += [part[half:], part[:half]]
                else:
                    faults[positions[part.start]] = self._database.reason(exc)
            finally:
                savepoint.rollback()
        return faults

    def _rated(
        self, connection: Connection, found: _Found
    ) -> tuple[list[int], list[_Row], list[tuple[Series, Window]]]:
        """Positions, rows with their ratios, and what the windows are once they are stored."""

        def load(series: Series, before_ns: int | None, limit: int) -> list[Entry]:
            return _last_entries(connection, series, before_ns, limit)

        lost = self._database.files_lost
        if self._files_lost != lost:
            self._files_lost, self._windows = lost, RatioWindows(self._window)
        positions: list[int] = []
        rows: list[_Row] = []
        windows: list[tuple[Series, Window]] = []
        for series in sorted(found):  # two writers then lock rows in one order, and do not meet
            by_start = found[series]
            in_order = [by_start[start] for start in sorted(by_start)]
            entries = [candidate.entry for candidate in in_order]
            ratios, window = self._windows.rate(series, entries, load)
            windows.append((series, window))
            positions += [candidate.position for candidate in in_order]
            rows += [
                candidate.cells + pair for candidate, pair in zip(in_order, ratios, strict=True)
            ]
        return positions, rows, windows


def _last_entries(
    connection: Connection, series: Series, before_ns: int | None, limit: int
) -> list[Entry]:
    """What a window is made of; bars of one microsecond with the first are left out."""
    table = ohlcv_bars.c
    statement = (
        select(
            table.timestamp,
            table.nanosecond,
            table.spread,
            table.volume,
            not_(table.is_partial),
            not_(table.is_filled),
            table.is_update,
            table.received_ns,
        )
        .where(table.symbol == series[0], table.timeframe == series[1])
        .order_by(table.timestamp.desc(), table.nanosecond.desc())
        .limit(limit)
    )
    if before_ns is not None:
        statement = statement.where(table.timestamp < datetime_from_ns(before_ns))
    return [
        Entry(
            ns_from_datetime(row[0]) + row[1],
            row[2],
            row[3],
            (bool(row[4]), bool(row[5]), row[6], row[7]),
        )
        for row in reversed(connection.execute(statement).all())
    ]


def _rank(columns: Any) -> Any:
    """:func:`~realtime_stream.sinks.sql.rows.precedence` of a row, in SQL."""
    return tuple_(
        not_(columns.is_partial), not_(columns.is_filled), columns.is_update, columns.received_ns
    )


def _better_wins(statement: Any) -> Any:
    """The insert, which replaces a row that is there by one that is at least as good."""
    return statement.on_conflict_do_update(
        index_elements=KEY,
        set_={name: statement.excluded[name] for name in _COLUMNS if name not in KEY},
        where=_rank(statement.excluded) >= _rank(ohlcv_bars.c),
    )


def _sqlite_text() -> str:
    values: dict[str, Any] = {name: bindparam(name) for name in _COLUMNS}
    dialect = sqlite.dialect(paramstyle="qmark")
    return str(_better_wins(sqlite.insert(ohlcv_bars).values(values)).compile(dialect=dialect))


def _postgresql_statement() -> Any:
    arrays = [
        cast(bindparam(name, type_=Text), ARRAY(_BARE.get(name) or ohlcv_bars.c[name].type))
        for name in _COLUMNS
    ]
    new = func.unnest(*arrays).table_valued(*_COLUMNS).render_derived(name="new")
    insert = postgresql.insert(ohlcv_bars).from_select(
        _COLUMNS, select(*(new.c[name] for name in _COLUMNS))
    )
    return _better_wins(insert)


# As types without a length or scale: with one, a cast would cut silently.
_BARE: Final = dict.fromkeys(_NAMES, Text()) | {
    name: Numeric() for name in _COLUMNS if isinstance(ohlcv_bars.c[name].type, ExactDecimal)
}
_SQLITE: Final = _sqlite_text()
_POSTGRESQL: Final = _postgresql_statement()


def _insert_into_sqlite(connection: Connection, rows: Sequence[_Row]) -> None:
    # Past SQLAlchemy's own handling of values, which costs more than the database does.
    connection.exec_driver_sql(_SQLITE, rows)


def _insert_into_postgresql(connection: Connection, rows: Sequence[_Row]) -> None:
    columns = zip(*rows, strict=True)
    connection.execute(
        _POSTGRESQL,
        {
            name: _array(map(_quoted, column) if name in _NAMES else column)
            for name, column in zip(_COLUMNS, columns, strict=True)
        },
    )


def _array(items: Iterable[Cell]) -> str:
    """An array as PostgreSQL reads it."""
    return "{" + ",".join(["NULL" if item is None else str(item) for item in items]) + "}"


def _quoted(item: Cell) -> str:
    escaped = str(item).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
