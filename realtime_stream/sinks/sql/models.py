"""``OHLCVBar``: a bar as it is stored and served."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    computed_field,
    model_validator,
)

from realtime_stream.clock import datetime_from_ns
from realtime_stream.errors import ConfigurationError
from realtime_stream.market.models import Bar, BarSource
from realtime_stream.sinks.sql.tables import (
    PRICE_PLACES,
    SIGNIFICANT,
    SYMBOL_LENGTH,
    TIMEFRAME_LENGTH,
    VOLUME_PLACES,
    WIDE,
    ns_from_datetime,
    rounded,
)

__all__ = ["OHLCVBar", "ensure_utc"]

_NS: Final = 1000  # nanoseconds of a microsecond


def _not_float(value: object) -> object:
    if isinstance(value, float):
        msg = "must not be a float: give a Decimal or a string"
        raise ValueError(msg)  # noqa: TRY004  # pydantic reports ValueError, not TypeError
    return value


def _number(value: object) -> Decimal | None:
    try:
        return Decimal(str(_not_float(value)))
    except ArithmeticError:
        return None


def ensure_utc(value: datetime) -> datetime:
    """Naive times are taken for UTC, others are converted to it."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


_UtcTime = Annotated[datetime, AfterValidator(ensure_utc)]
_Price = Annotated[
    Decimal,
    BeforeValidator(_not_float),
    Field(max_digits=SIGNIFICANT, decimal_places=PRICE_PLACES),
]
_Volume = Annotated[
    Decimal,
    BeforeValidator(_not_float),
    Field(max_digits=SIGNIFICANT, decimal_places=VOLUME_PLACES, ge=0),
]
_Ratio = Annotated[
    Decimal, BeforeValidator(_not_float), Field(max_digits=10, decimal_places=4, ge=0)
]


class OHLCVBar(BaseModel):
    """One row of ``ohlcv_bars``; frozen. Its relations hold, or it cannot be made.

    In JSON decimals are strings and times are ISO 8601.

    Attributes:
        id: Names the row; ``None`` before it is stored.
        symbol: The instrument, at most 32 characters.
        timeframe: Length of the interval, such as ``1m``.
        timestamp: The interval's start, UTC, cut to microseconds.
        nanosecond: The rest of the start, 0 to 999 nanoseconds; 0 for every bar of time.
        open: First price; above 0, as are all of them.
        high: Highest price.
        low: Lowest price.
        close: Last price.
        volume: Quantity traded: shares, contracts or coins.
        spread: ``high - low``. It may be given, but must then be right.
        spread_ratio: ``spread`` divided by the mean spread of the (at most 20) bars before it in
            its series, to 4 places; ``None`` without such bars, or when their mean is 0.
        volume_ratio: The same of ``volume``.
        vwap: Volume-weighted average price, if given, to 12 places.
        trade_count: Number of trades, if given.
        source: ``stream``, ``backfill`` or ``built``, as in :class:`~realtime_stream.Bar`.
        is_update: The whole bar again, after a late trade.
        is_partial: Something that belongs to it is known to be missing.
        is_filled: Nothing was traded: the last close goes on.
        received_ns: When it was received, nanoseconds since the epoch; 0 if it never was.
        created_at: When its row was made; ``None`` before it is stored.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: UUID | None = None
    symbol: Annotated[str, Field(min_length=1, max_length=SYMBOL_LENGTH)]
    timeframe: Annotated[str, Field(min_length=1, max_length=TIMEFRAME_LENGTH)]
    timestamp: _UtcTime
    nanosecond: Annotated[int, Field(ge=0, lt=_NS)] = 0
    open: _Price
    high: _Price
    low: Annotated[_Price, Field(gt=0)]
    close: _Price
    volume: _Volume
    spread_ratio: _Ratio | None = None
    volume_ratio: _Ratio | None = None
    vwap: Annotated[_Price, Field(ge=0)] | None = None
    trade_count: Annotated[int, Field(ge=0)] | None = None
    source: BarSource = "stream"
    is_update: bool = False
    is_partial: bool = False
    is_filled: bool = False
    received_ns: int = 0
    created_at: _UtcTime | None = None

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorator above property
    @property
    def spread(self) -> Decimal:
        """``high - low``, exactly."""
        return WIDE.subtract(self.high, self.low)

    @property
    def timestamp_ns(self) -> int:
        """The interval's start, nanoseconds since the epoch."""
        return ns_from_datetime(self.timestamp) + self.nanosecond

    @model_validator(mode="wrap")
    @classmethod
    def _spread_is_right(cls, values: Any, build: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(values, Mapping) or "spread" not in values:
            return build(values)
        bar = build({name: value for name, value in values.items() if name != "spread"})
        if _number(values["spread"]) != bar.spread:
            msg = "spread is not high - low"
            raise ValueError(msg)
        return bar

    @model_validator(mode="after")
    def _relations_hold(self) -> Self:
        if not self.low <= self.open <= self.high:
            msg = "open is not between low and high"
            raise ValueError(msg)
        if not self.low <= self.close <= self.high:
            msg = "close is not between low and high"
            raise ValueError(msg)
        return self

    @classmethod
    def from_bar(cls, bar: Bar) -> Self:
        """The row of a bar, without what only a database knows: id, ratios, time of creation.

        Raises:
            ConfigurationError: It cannot be stored exactly, or its relations do not hold.
        """
        try:
            return cls(
                symbol=bar.symbol,
                timeframe=bar.timeframe,
                timestamp=datetime_from_ns(bar.timestamp_ns),
                nanosecond=bar.timestamp_ns % _NS,
                open=bar.open,
                high=bar.high,
                low=bar.low,
                close=bar.close,
                volume=bar.volume,
                vwap=None if bar.vwap is None else rounded(bar.vwap, PRICE_PLACES),
                trade_count=bar.trade_count,
                source=bar.source,
                is_update=bar.bar_kind == "updated",
                is_partial=bar.is_partial,
                is_filled=bar.is_filled,
                received_ns=bar.received_ns,
            )
        except (ValidationError, ArithmeticError, OverflowError) as exc:
            msg = f"bar of {bar.symbol!a} cannot be stored: {exc}"
            raise ConfigurationError(msg) from exc

    def to_bar(self) -> Bar:
        """The market event. Of daily bars it is ``regular``: their running totals are over."""
        return Bar(
            symbol=self.symbol,
            timestamp_ns=self.timestamp_ns,
            received_ns=self.received_ns,
            open=self.open,
            high=self.high,
            low=self.low,
            close=self.close,
            volume=self.volume,
            trade_count=self.trade_count,
            vwap=self.vwap,
            timeframe=self.timeframe,
            bar_kind="updated" if self.is_update else "regular",
            source=self.source,
            is_filled=self.is_filled,
            is_partial=self.is_partial,
        )
