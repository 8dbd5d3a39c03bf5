"""Bars to store, and what is in a table."""

from __future__ import annotations

import contextlib
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import create_engine, text

from realtime_stream import Bar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

__all__ = ["MINUTE_NS", "START_NS", "bar", "plain", "rows"]

START_NS: Final = 1_790_000_040_000_000_000  # 2026-09-21 14:14:00 UTC
MINUTE_NS: Final = 60_000_000_000


def bar(minute: int = 0, *, symbol: str = "AAPL", **fields: Any) -> Bar:
    """A bar of the minute; every field may be given."""
    values: dict[str, Any] = {
        "symbol": symbol,
        "timestamp_ns": START_NS + minute * MINUTE_NS,
        "received_ns": START_NS + (minute + 1) * MINUTE_NS + 80_000_000,
        "open": Decimal("187.25"),
        "high": Decimal("187.50"),
        "low": Decimal("187.10"),
        "close": Decimal("187.30"),
        "volume": Decimal(1200),
        "trade_count": 17,
        "vwap": Decimal("187.281234"),
    }
    return Bar(**(values | fields))


@contextlib.contextmanager
def plain(url: str) -> Iterator[Connection]:
    """A connection past the library's own settings, in one transaction."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:", 1))
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    """What a query finds."""
    with plain(url) as connection:
        return [tuple(row) for row in connection.execute(text(query))]
