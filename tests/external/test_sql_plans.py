"""The newest bars of a series are read along the index, whatever the table holds.

``REALTIME_STREAM_ROWS`` sets the size; ten million take about ten minutes.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from realtime_stream.sinks.sql import OHLCVRepository, upgrade
from realtime_stream.sinks.sql.repository import latest_statement, range_statement
from tests.external.bars import bar, plain

if TYPE_CHECKING:
    from sqlalchemy import Connection, Select

_ROWS = int(os.environ.get("REALTIME_STREAM_ROWS", "200000"))
_LIMIT = 0.25  # seconds for the best of some queries; without the index they would grow for ever

pytestmark = pytest.mark.timeout(60 + _ROWS // 5000)

# Minute bars of a hundred symbols, made by the database itself.
_FILL = {
    "sqlite": r"""
    INSERT INTO ohlcv_bars (symbol, timeframe, timestamp, nanosecond, open, high, low, close,
        spread, volume, source, is_update, is_partial, is_filled, received_ns)
    WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :rows)
    SELECT 'S' || (n % 100), '1m',
        strftime('%Y-%m-%d %H\:%M\:%S', 1500000000 + n / 100 * 60, 'unixepoch')
            || '.000000+00\:00',
        0, '10.5', '11', '10', '10.25', '1', '100', 'stream', 0, 0, 0, 0
    FROM numbers
    """,
    "postgresql": """
    INSERT INTO ohlcv_bars (symbol, timeframe, timestamp, nanosecond, open, high, low, close,
        spread, volume, source, is_update, is_partial, is_filled, received_ns)
    SELECT 'S' || (n % 100), '1m', to_timestamp(1500000000 + n / 100 * 60),
        0, 10.5, 11, 10, 10.25, 1, 100, 'stream', false, false, false, 0
    FROM generate_series(0, :rows - 1) AS n
    """,
}


def _plan(connection: Connection, statement: Select[Any]) -> str:
    """What the database would do with the statement that the repository sends."""
    compiled = statement.compile(connection, compile_kwargs={"literal_binds": True})
    explain = {"sqlite": "EXPLAIN QUERY PLAN", "postgresql": "EXPLAIN"}[connection.dialect.name]
    found = connection.exec_driver_sql(f"{explain} {compiled}")
    return "\n".join(str(row[-1]) for row in found)


def test_the_index_is_walked_and_nothing_is_sorted(url: str) -> None:
    upgrade(url)
    with plain(url) as connection:
        connection.execute(text(_FILL[connection.dialect.name]), {"rows": _ROWS})
        connection.exec_driver_sql("ANALYZE")
    with OHLCVRepository(url) as repository:
        newest = repository.latest("S7", "1m", 500)
        assert len(newest) == 500
        statements = {
            "latest": latest_statement("S7", "1m", 500),
            "range": range_statement("S7", "1m", newest[-100].timestamp, newest[-1].timestamp),
        }
        with plain(url) as connection:
            plans = {name: _plan(connection, each) for name, each in statements.items()}
        for name, plan in plans.items():
            assert "idx_ohlcv_symbol_timeframe" in plan, (name, plan)
            assert "Seq Scan" not in plan, (name, plan)
            assert "SCAN" not in plan, (name, plan)
        # A few rows of a range may be read by their pages, and sorted.
        assert "Sort" not in plans["latest"]
        assert "TEMP B-TREE" not in plans["latest"]
        assert len(repository.range("S7", "1m", newest[-100].timestamp, newest[-1].timestamp)) == 99

        assert min(_timed(repository) for _ in range(5)) < _LIMIT
        repository.insert([bar(symbol="S7")])  # reads a window of twenty, and no more


def _timed(repository: OHLCVRepository) -> float:
    started = time.perf_counter()
    repository.latest("S7", "1m", 500)
    return time.perf_counter() - started
