"""Alpaca's messages: the market events with their wire keys, and the control messages.

The event classes only rename fields. ``timestamp_ns`` arrives as a MessagePack timestamp or as an
RFC-3339 string; the decoder replaces it by exact nanoseconds before anybody sees the event.
"""

from __future__ import annotations

from decimal import Decimal  # noqa: TC003  # msgspec reads the annotations at run time
from typing import TypeAlias

from msgspec import Struct, field
from msgspec.msgpack import Ext

from realtime_stream.market import models

__all__ = ["Control", "ServerError", "Subscriptions", "Success", "WireMessage", "WireTime"]

WireTime: TypeAlias = Ext | str
_Codes: TypeAlias = tuple[str, ...] | str | None  # options send one string, stocks a list

# documented in market.models; these classes only rename
# mypy: disable-error-code="assignment"
# (a wire field has the wire's type until the decoder has replaced its value)


class Trade(models.Trade, frozen=True, kw_only=True, gc=False, eq=False, tag_field="T", tag="t"):
    symbol: str = field(name="S")
    timestamp_ns: WireTime = field(name="t")
    received_ns: int = field(name="_received_ns", default=0)
    price: Decimal = field(name="p")
    size: Decimal = field(name="s")
    exchange: str | None = field(name="x", default=None)
    trade_id: int | str | None = field(name="i", default=None)
    conditions: _Codes = field(name="c", default=())
    tape: str | None = field(name="z", default=None)
    taker_side: str | None = field(name="tks", default=None)
    source: models.TradeSource = field(name="_source", default="stream")


class Quote(models.Quote, frozen=True, kw_only=True, gc=False, eq=False, tag_field="T", tag="q"):
    symbol: str = field(name="S")
    timestamp_ns: WireTime = field(name="t")
    received_ns: int = field(name="_received_ns", default=0)
    bid_price: Decimal = field(name="bp")
    bid_size: Decimal = field(name="bs")
    ask_price: Decimal = field(name="ap")
    ask_size: Decimal = field(name="as")
    bid_exchange: str | None = field(name="bx", default=None)
    ask_exchange: str | None = field(name="ax", default=None)
    conditions: _Codes = field(name="c", default=())
    tape: str | None = field(name="z", default=None)


class _Bar(models.Bar, frozen=True, kw_only=True, gc=False, eq=False):
    symbol: str = field(name="S")
    timestamp_ns: WireTime = field(name="t")
    received_ns: int = field(name="_received_ns", default=0)
    open: Decimal = field(name="o")
    high: Decimal = field(name="h")
    low: Decimal = field(name="l")
    close: Decimal = field(name="c")
    volume: Decimal = field(name="v")
    trade_count: int | None = field(name="n", default=None)
    vwap: Decimal | None = field(name="vw", default=None)
    timeframe: models.Timeframe = field(name="_timeframe", default="1m")
    bar_kind: models.BarKind = field(name="_bar_kind", default="regular")
    source: models.BarSource = field(name="_source", default="stream")
    is_filled: bool = field(name="_is_filled", default=False)
    is_late: bool = field(name="_is_late", default=False)
    is_partial: bool = field(name="_is_partial", default=False)


class Bar(_Bar, frozen=True, kw_only=True, gc=False, eq=False, tag_field="T", tag="b"):
    pass


class UpdatedBar(_Bar, frozen=True, kw_only=True, gc=False, eq=False, tag_field="T", tag="u"):
    bar_kind: models.BarKind = field(name="_bar_kind", default="updated")


class DailyBar(_Bar, frozen=True, kw_only=True, gc=False, eq=False, tag_field="T", tag="d"):
    timeframe: models.Timeframe = field(name="_timeframe", default="1d")
    bar_kind: models.BarKind = field(name="_bar_kind", default="daily")


class TradingStatus(
    models.TradingStatus, frozen=True, kw_only=True, gc=False, eq=False, tag_field="T", tag="s"
):
    symbol: str = field(name="S")
    timestamp_ns: WireTime = field(name="t")
    received_ns: int = field(name="_received_ns", default=0)
    status_code: str = field(name="sc")
    status_message: str = field(name="sm", default="")
    reason_code: str = field(name="rc", default="")
    reason_message: str = field(name="rm", default="")
    tape: str | None = field(name="z", default=None)


class LULD(models.LULD, frozen=True, kw_only=True, gc=False, eq=False, tag_field="T", tag="l"):
    symbol: str = field(name="S")
    timestamp_ns: WireTime = field(name="t")
    received_ns: int = field(name="_received_ns", default=0)
    limit_up_price: Decimal = field(name="u")
    limit_down_price: Decimal = field(name="d")
    indicator: str = field(name="i")
    tape: str | None = field(name="z", default=None)


class TradeCorrection(
    models.TradeCorrection, frozen=True, kw_only=True, gc=False, eq=False, tag_field="T", tag="c"
):
    symbol: str = field(name="S")
    timestamp_ns: WireTime = field(name="t")
    received_ns: int = field(name="_received_ns", default=0)
    exchange: str | None = field(name="x", default=None)
    original_id: int = field(name="oi")
    original_price: Decimal = field(name="op")
    original_size: Decimal = field(name="os")
    original_conditions: _Codes = field(name="oc", default=())
    corrected_id: int = field(name="ci")
    corrected_price: Decimal = field(name="cp")
    corrected_size: Decimal = field(name="cs")
    corrected_conditions: _Codes = field(name="cc", default=())
    tape: str | None = field(name="z", default=None)


class TradeCancel(
    models.TradeCancel, frozen=True, kw_only=True, gc=False, eq=False, tag_field="T", tag="x"
):
    symbol: str = field(name="S")
    timestamp_ns: WireTime = field(name="t")
    received_ns: int = field(name="_received_ns", default=0)
    trade_id: int = field(name="i")
    exchange: str | None = field(name="x", default=None)
    price: Decimal = field(name="p")
    size: Decimal = field(name="s")
    action: str = field(name="a")
    tape: str | None = field(name="z", default=None)


class Imbalance(
    models.Imbalance, frozen=True, kw_only=True, gc=False, eq=False, tag_field="T", tag="i"
):
    symbol: str = field(name="S")
    timestamp_ns: WireTime = field(name="t")
    received_ns: int = field(name="_received_ns", default=0)
    price: Decimal = field(name="p")
    tape: str | None = field(name="z", default=None)


class BookLevel(models.BookLevel, frozen=True, gc=False, eq=False):
    price: Decimal = field(name="p")
    size: Decimal = field(name="s")


class OrderBook(
    models.OrderBook, frozen=True, kw_only=True, gc=False, eq=False, tag_field="T", tag="o"
):
    symbol: str = field(name="S")
    timestamp_ns: WireTime = field(name="t")
    received_ns: int = field(name="_received_ns", default=0)
    bids: tuple[BookLevel, ...] = field(name="b", default=())
    asks: tuple[BookLevel, ...] = field(name="a", default=())
    is_snapshot: bool = field(name="r", default=False)


class News(models.News, frozen=True, kw_only=True, gc=False, eq=False, tag_field="T", tag="n"):
    symbol: str = field(name="_symbol", default="*")
    timestamp_ns: WireTime = field(name="updated_at")
    received_ns: int = field(name="_received_ns", default=0)
    news_id: int = field(name="id")
    headline: str
    summary: str = ""
    author: str = ""
    created_ns: WireTime = field(name="created_at")
    url: str | None = None
    content: str = ""
    symbols: tuple[str, ...] | None = ()
    source: str = ""


class Success(Struct, frozen=True, tag_field="T", tag="success"):
    """``connected`` or ``authenticated``."""

    msg: str


class ServerError(Struct, frozen=True, tag_field="T", tag="error"):
    """A numbered error."""

    code: int
    msg: str = ""


class Subscriptions(Struct, frozen=True, tag_field="T", tag="subscription"):
    """The complete list of what is subscribed; a missing channel is empty."""

    trades: tuple[str, ...] | None = ()
    quotes: tuple[str, ...] | None = ()
    bars: tuple[str, ...] | None = ()
    updated_bars: tuple[str, ...] | None = field(name="updatedBars", default=())
    daily_bars: tuple[str, ...] | None = field(name="dailyBars", default=())
    statuses: tuple[str, ...] | None = ()
    lulds: tuple[str, ...] | None = ()
    imbalances: tuple[str, ...] | None = ()
    orderbooks: tuple[str, ...] | None = ()
    news: tuple[str, ...] | None = ()


Control: TypeAlias = Success | ServerError | Subscriptions
WireMessage: TypeAlias = (
    Trade
    | Quote
    | Bar
    | UpdatedBar
    | DailyBar
    | TradingStatus
    | LULD
    | TradeCorrection
    | TradeCancel
    | Imbalance
    | OrderBook
    | News
    | Success
    | ServerError
    | Subscriptions
)
