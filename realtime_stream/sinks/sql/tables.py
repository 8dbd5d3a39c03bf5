"""The table ``ohlcv_bars``, and how its values look in each database.

**Key.** One row per (symbol, timeframe, timestamp). Databases keep microseconds, events have
nanoseconds: the rest, 0 to 999, is the column ``nanosecond``, which ends the key. Bars of time
begin at whole seconds, so theirs is always 0; two tick bars may begin in the same microsecond.

One unique index is both the key and the way to the newest bars of a series. ``id`` names a row for
others; it has no index, because a hypertable allows no unique one that leaves out the time, and
because an index of random values is what slows large tables down.

**Decimals** are NUMERIC on PostgreSQL. SQLite has no such type, only doubles, so it keeps them as
text, exactly. A value with more digits than its column has is refused, never rounded.

**Lengths.** Symbols have up to 32 characters: those of options have 21, pairs of coins have a
slash, and the longest this library subscribes to has 24.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    FetchedValue,
    Index,
    MetaData,
    Numeric,
    SmallInteger,
    String,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.types import TypeDecorator, TypeEngine

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

__all__ = [
    "KEY",
    "PRICE_PLACES",
    "RATIO_PLACES",
    "SIGNIFICANT",
    "SYMBOL_LENGTH",
    "TIMEFRAME_LENGTH",
    "VOLUME_PLACES",
    "WIDE",
    "ExactDecimal",
    "UtcTimestamp",
    "exact_text",
    "metadata",
    "ns_from_datetime",
    "ohlcv_bars",
    "rounded",
    "trimmed",
]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NS: Final = 1000  # nanoseconds of a microsecond
SIGNIFICANT: Final = 28  # digits of a price or volume
PRICE_PLACES: Final = 12
VOLUME_PLACES: Final = 9
RATIO_PLACES: Final = 4
SYMBOL_LENGTH: Final = 32
TIMEFRAME_LENGTH: Final = 32
_SOURCE_LENGTH: Final = 16
_RATIO_DIGITS: Final = 10

# Wide enough that nothing is rounded which could be stored; the caller's own context is not used.
WIDE: Final = Context(prec=80)
"""For arithmetic on what a column can hold."""


def exact_text(value: Decimal, digits: int, places: int) -> str:
    """The value in plain notation, as NUMERIC(digits, places) would hold it.

    Raises:
        ValueError: It is not finite, or does not fit without rounding.
    """
    if not value.is_finite():
        msg = "is not finite"
        raise ValueError(msg)
    if not value:
        return "0"
    if value.adjusted() >= digits - places:
        msg = f"has more than {digits - places} digits before the point"
        raise ValueError(msg)
    # Beyond that many digits it is too exact anyway, whatever rounding leaves of it.
    if int(value.normalize(WIDE).as_tuple().exponent) < -places or value.adjusted() < -places:
        msg = f"has more than {places} decimal places"
        raise ValueError(msg)
    return f"{value:f}"


def ns_from_datetime(moment: datetime) -> int:
    """Nanoseconds since the epoch of a UTC-aware datetime, exactly."""
    return (moment - _EPOCH) // _MICROSECOND * _NS


def rounded(value: Decimal, places: int) -> Decimal:
    """A quotient, which no column holds exactly, to so many decimal places (half to even).

    Raises:
        ArithmeticError: It is not finite, or larger than any column holds.
    """
    if value.is_finite() and int(value.as_tuple().exponent) >= -places:
        return value
    return value.quantize(Decimal(1).scaleb(-places), context=WIDE)


def trimmed(value: Decimal) -> Decimal:
    """The same number without zeros at its end, and without an exponent."""
    short = value.normalize(WIDE)
    return short.quantize(Decimal(1), context=WIDE) if int(short.as_tuple().exponent) > 0 else short


class ExactDecimal(TypeDecorator[Decimal]):
    """NUMERIC on PostgreSQL, text on SQLite; what does not fit raises ``ValueError``."""

    impl = Numeric
    cache_ok = True

    def __init__(self, precision: int, scale: int) -> None:
        """Take NUMERIC's two figures."""
        super().__init__(precision, scale)
        self.precision = precision
        self.scale = scale

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The database's own type."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(Text())
        return dialect.type_descriptor(Numeric(self.precision, self.scale))

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        """Check, and write as text where text is kept."""
        if value is None:
            return None
        exact = exact_text(value, self.precision, self.scale)
        return exact if dialect.name == "sqlite" else Decimal(exact)

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        """The number, without the zeros that NUMERIC fills up with."""
        return None if value is None else trimmed(Decimal(value))


class UtcTimestamp(TypeDecorator[datetime]):
    """TIMESTAMPTZ on PostgreSQL, ISO text on SQLite; UTC-aware in Python.

    The text always has six decimals and ``+00:00``, so its order is that of time, and SQLite's own
    date functions read it.
    """

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The database's own type."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(Text())
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """As UTC; text for SQLite."""
        if value is None:
            return None
        moment = value.astimezone(UTC)
        return moment.isoformat(" ", "microseconds") if dialect.name == "sqlite" else moment

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """As UTC, whatever the session's time zone is."""
        if value is None:
            return None
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return moment.astimezone(UTC)


def _price(name: str, *, nullable: bool = False) -> Column[Decimal]:
    return Column(name, ExactDecimal(SIGNIFICANT, PRICE_PLACES), nullable=nullable)


def _ratio(name: str) -> Column[Decimal]:
    return Column(name, ExactDecimal(_RATIO_DIGITS, RATIO_PLACES))


metadata: Final = MetaData()

ohlcv_bars: Final = Table(
    "ohlcv_bars",
    metadata,
    # Both databases fill in id and created_at by themselves: see the migration.
    Column("id", Uuid(), nullable=False, server_default=FetchedValue()),
    Column("symbol", String(SYMBOL_LENGTH), nullable=False),
    Column("timeframe", String(TIMEFRAME_LENGTH), nullable=False),
    Column("timestamp", UtcTimestamp(), nullable=False),
    Column("nanosecond", SmallInteger(), nullable=False),
    _price("open"),
    _price("high"),
    _price("low"),
    _price("close"),
    _price("spread"),
    Column("volume", ExactDecimal(SIGNIFICANT, VOLUME_PLACES), nullable=False),
    _price("vwap", nullable=True),
    Column("trade_count", BigInteger()),
    Column("source", String(_SOURCE_LENGTH), nullable=False),
    Column("is_update", Boolean(), nullable=False),
    Column("is_partial", Boolean(), nullable=False),
    Column("is_filled", Boolean(), nullable=False),
    Column("received_ns", BigInteger(), nullable=False),
    _ratio("spread_ratio"),
    _ratio("volume_ratio"),
    Column("created_at", UtcTimestamp(), nullable=False, server_default=FetchedValue()),
)

KEY: Final = ("symbol", "timeframe", "timestamp", "nanosecond")
"""The columns that name one bar."""

Index(
    "idx_ohlcv_symbol_timeframe",
    ohlcv_bars.c.symbol,
    ohlcv_bars.c.timeframe,
    ohlcv_bars.c.timestamp.desc(),
    ohlcv_bars.c.nanosecond.desc(),
    unique=True,
)
