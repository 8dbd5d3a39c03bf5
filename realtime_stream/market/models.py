"""Market events: frozen structs with Decimal prices and exact nanosecond times.

Every event has ``symbol``, ``timestamp_ns`` (exact, nanoseconds since the epoch, UTC), the same
as ``timestamp`` (UTC-aware datetime, cut to microseconds, never rounded) and ``received_ns`` (when
its frame was read from the socket, on the data clock).

Prices are in the instrument's quote currency, with exactly the digits that were on the wire; sizes
and volumes are in shares, contracts or coins, as ``Decimal`` because crypto trades fractions.

**Equality.** Two events are equal when they say the same about the market: same kind, same values
in every field but those that say how it came here: ``received_ns``, ``source`` and ``is_late``.
Providers decode into subclasses that rename wire keys only, so an event from a socket equals one
built by hand.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from msgspec import Struct

from realtime_stream.clock import datetime_from_ns

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "LULD",
    "Bar",
    "BarKind",
    "BarSource",
    "BookLevel",
    "Imbalance",
    "MarketEvent",
    "News",
    "OrderBook",
    "Quote",
    "Timeframe",
    "Trade",
    "TradeCancel",
    "TradeCorrection",
    "TradeSource",
    "TradingStatus",
]

BarKind: TypeAlias = Literal["regular", "updated", "daily"]
BarSource: TypeAlias = Literal["stream", "backfill", "built"]
TradeSource: TypeAlias = Literal["stream", "backfill"]
Timeframe: TypeAlias = str  # "1m", "4h", "1d", "ticks:100"; see realtime_stream.market.timeframe

_BASIS_POINTS = Decimal(10_000)
_BAR_CHANNELS: dict[str, str] = {
    "regular": "bars",
    "updated": "updated_bars",
    "daily": "daily_bars",
}
_ABOUT_DELIVERY = frozenset({"received_ns", "source", "is_late"})


class MarketEvent(Struct, frozen=True, kw_only=True, gc=False, eq=False):
    """What all events share.

    Attributes:
        symbol: The instrument, as the provider writes it.
        timestamp_ns: When it happened, nanoseconds since the epoch, UTC, exact.
        received_ns: When its frame was read, or, of a bar that fills a gap, when history was asked
            for it; nanoseconds since the epoch; 0 if it was never sent.
    """

    kind: ClassVar[type[MarketEvent]]
    channel: ClassVar[str]

    symbol: str
    timestamp_ns: int
    received_ns: int = 0

    @property
    def timestamp(self) -> datetime:
        """When it happened: UTC-aware, cut to microseconds."""
        return datetime_from_ns(self.timestamp_ns)

    @property
    def received_at(self) -> datetime:
        """When its frame was read: UTC-aware, cut to microseconds."""
        return datetime_from_ns(self.received_ns)

    def _facts(self) -> tuple[object, ...]:
        return tuple(
            getattr(self, name)
            for name in self.kind.__struct_fields__
            if name not in _ABOUT_DELIVERY
        )

    def __eq__(self, other: object) -> bool:
        """Same kind and same facts; when and how they came here does not count."""
        if not isinstance(other, MarketEvent):
            return NotImplemented
        return self.kind is other.kind and self._facts() == other._facts()

    def __ne__(self, other: object) -> bool:
        """The opposite of equality; a struct does not derive it by itself."""
        return not self == other

    def __hash__(self) -> int:
        """Consistent with equality."""
        return hash((self.kind, self.symbol, self.timestamp_ns))


class Trade(MarketEvent, frozen=True, kw_only=True, gc=False, eq=False):
    """One trade.

    Attributes:
        price: Price per share, contract or coin.
        size: Quantity traded.
        exchange: Venue code, or ``None`` where the market has none (crypto).
        trade_id: Unique per symbol and exchange (and day) only; ``None`` for options.
        conditions: Condition codes of the tape.
        tape: ``A`` NYSE, ``B`` Arca and regional, ``C`` Nasdaq, ``N`` overnight, ``O`` OTC.
        taker_side: Crypto only: ``B`` buyer, ``S`` seller, ``-`` unknown.
        source: ``stream``, or ``backfill`` when it was fetched from history.
    """

    channel: ClassVar[str] = "trades"

    price: Decimal
    size: Decimal
    exchange: str | None = None
    trade_id: int | str | None = None
    conditions: tuple[str, ...] = ()
    tape: str | None = None
    taker_side: str | None = None
    source: TradeSource = "stream"


class Quote(MarketEvent, frozen=True, kw_only=True, gc=False, eq=False):
    """The best bid and ask.

    A price of 0 means that the side has no quote; the derived figures are then ``None``.

    Attributes:
        bid_price: Best bid.
        bid_size: Size at the bid: shares (round lots before 2025-11-03), contracts or coins.
        ask_price: Best ask.
        ask_size: Size at the ask.
        bid_exchange: Venue of the bid, or ``None``.
        ask_exchange: Venue of the ask, or ``None``.
        conditions: One flag for both sides, or two: bid, ask.
        tape: As in :class:`Trade`.
    """

    channel: ClassVar[str] = "quotes"

    bid_price: Decimal
    bid_size: Decimal
    ask_price: Decimal
    ask_size: Decimal
    bid_exchange: str | None = None
    ask_exchange: str | None = None
    conditions: tuple[str, ...] = ()
    tape: str | None = None

    @property
    def mid_price(self) -> Decimal | None:
        """Half way between bid and ask."""
        if not (self.bid_price and self.ask_price):
            return None
        return (self.bid_price + self.ask_price) / 2

    @property
    def spread(self) -> Decimal | None:
        """Ask minus bid; negative in a crossed market."""
        if not (self.bid_price and self.ask_price):
            return None
        return self.ask_price - self.bid_price

    @property
    def spread_bps(self) -> Decimal | None:
        """The spread in basis points of the mid price."""
        mid, spread = self.mid_price, self.spread
        if not mid or spread is None:
            return None
        return spread / mid * _BASIS_POINTS


class Bar(MarketEvent, frozen=True, kw_only=True, gc=False, eq=False):
    """Open, high, low, close and volume of an interval; ``timestamp`` is the interval's start.

    ``bar_kind`` is ``regular`` for a bar that comes once, right after its interval, ``updated`` for
    the whole bar again after a late trade, and ``daily`` for the running totals of the day. In
    crypto, bars with a volume of 0 occur: their prices are quote mid-prices.

    Attributes:
        open: First eligible trade's price.
        high: Highest eligible price.
        low: Lowest eligible price.
        close: Last eligible trade's price.
        volume: Quantity traded.
        trade_count: Number of trades in the volume, if given.
        vwap: Volume-weighted average price, if given.
        timeframe: Length of the interval, such as ``1m``.
        bar_kind: See above.
        source: ``stream``: the provider sent it; ``backfill``: fetched from history; ``built``:
            made here, of trades or of smaller bars.
        is_filled: Nothing was traded: the last close goes on, with a volume of 0.
        is_late: It comes later than newer bars of its series: from history, or built of trades that
            were late.
        is_partial: Something that belongs to it is known to be missing: it was begun in the middle,
            or overlaps a gap that could not be filled.
    """

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    trade_count: int | None = None
    vwap: Decimal | None = None
    timeframe: Timeframe = "1m"
    bar_kind: BarKind = "regular"
    source: BarSource = "stream"
    is_filled: bool = False
    is_late: bool = False
    is_partial: bool = False

    @property
    def channel(self) -> str:  # type: ignore[override]  # the one kind of event with three channels
        """``bars``, ``updated_bars`` or ``daily_bars``, after :attr:`bar_kind`."""
        return _BAR_CHANNELS[self.bar_kind]


class TradingStatus(MarketEvent, frozen=True, kw_only=True, gc=False, eq=False):
    """A halt, a resumption, or another change of a symbol's trading status.

    Attributes:
        status_code: Code of the tape, such as ``H`` or ``2`` for a halt.
        status_message: The same in words.
        reason_code: Why, such as ``T12`` or ``LUDP``.
        reason_message: The same in words; may be empty.
        tape: As in :class:`Trade`; it decides how the codes are read.
    """

    channel: ClassVar[str] = "statuses"

    status_code: str
    status_message: str = ""
    reason_code: str = ""
    reason_message: str = ""
    tape: str | None = None


class LULD(MarketEvent, frozen=True, kw_only=True, gc=False, eq=False):
    """Limit-up limit-down band of a symbol.

    Attributes:
        limit_up_price: Upper band.
        limit_down_price: Lower band.
        indicator: The tape's LULD indicator.
        tape: As in :class:`Trade`.
    """

    channel: ClassVar[str] = "lulds"

    limit_up_price: Decimal
    limit_down_price: Decimal
    indicator: str
    tape: str | None = None


class TradeCorrection(MarketEvent, frozen=True, kw_only=True, gc=False, eq=False):
    """A trade reported before, corrected.

    Attributes:
        exchange: Venue code.
        original_id: Id of the trade as first reported.
        original_price: Its price.
        original_size: Its size.
        original_conditions: Its condition codes.
        corrected_id: Id of the correction.
        corrected_price: The right price.
        corrected_size: The right size.
        corrected_conditions: The right condition codes.
        tape: As in :class:`Trade`.
    """

    channel: ClassVar[str] = "corrections"

    exchange: str | None = None
    original_id: int
    original_price: Decimal
    original_size: Decimal
    original_conditions: tuple[str, ...] = ()
    corrected_id: int
    corrected_price: Decimal
    corrected_size: Decimal
    corrected_conditions: tuple[str, ...] = ()
    tape: str | None = None


class TradeCancel(MarketEvent, frozen=True, kw_only=True, gc=False, eq=False):
    """A trade reported before, cancelled.

    Attributes:
        trade_id: Id of the trade.
        exchange: Venue code.
        price: Its price.
        size: Its size.
        action: ``C`` cancel or ``E`` error.
        tape: As in :class:`Trade`.
    """

    channel: ClassVar[str] = "cancels"

    trade_id: int
    exchange: str | None = None
    price: Decimal
    size: Decimal
    action: str
    tape: str | None = None


class Imbalance(MarketEvent, frozen=True, kw_only=True, gc=False, eq=False):
    """An order imbalance message.

    Attributes:
        price: Reference price.
        tape: As in :class:`Trade`.
    """

    channel: ClassVar[str] = "imbalances"

    price: Decimal
    tape: str | None = None


class BookLevel(Struct, frozen=True, gc=False, eq=False):
    """One price level of an order book.

    Attributes:
        price: The level.
        size: Quantity there; 0 removes the level.
    """

    price: Decimal
    size: Decimal

    def __eq__(self, other: object) -> bool:
        """Same price and size, whichever provider decoded it."""
        if not isinstance(other, BookLevel):
            return NotImplemented
        return self.price == other.price and self.size == other.size

    def __ne__(self, other: object) -> bool:
        """The opposite of equality; a struct does not derive it by itself."""
        return not self == other

    def __hash__(self) -> int:
        """Consistent with equality."""
        return hash((self.price, self.size))


class OrderBook(MarketEvent, frozen=True, kw_only=True, gc=False, eq=False):
    """A full order book, or changes to it.

    Attributes:
        bids: Changed (or all) bid levels.
        asks: Changed (or all) ask levels.
        is_snapshot: ``True`` when the message replaces the whole book.
    """

    channel: ClassVar[str] = "orderbooks"

    bids: tuple[BookLevel, ...] = ()
    asks: tuple[BookLevel, ...] = ()
    is_snapshot: bool = False


class News(MarketEvent, frozen=True, kw_only=True, gc=False, eq=False):
    """A news article; ``timestamp`` is its last update, ``symbol`` its first one or ``*``.

    Attributes:
        news_id: The provider's id.
        headline: Title.
        summary: Short text.
        author: Who wrote it.
        created_ns: First publication, nanoseconds since the epoch.
        url: Where it stands.
        content: The article, HTML.
        symbols: The instruments it is about; may be empty.
        source: Who published it.
    """

    channel: ClassVar[str] = "news"

    news_id: int
    headline: str
    summary: str = ""
    author: str = ""
    created_ns: int = 0
    url: str | None = None
    content: str = ""
    symbols: tuple[str, ...] = ()
    source: str = ""

    @property
    def created_at(self) -> datetime:
        """First publication: UTC-aware, cut to microseconds."""
        return datetime_from_ns(self.created_ns)


for _kind in (
    Trade, Quote, Bar, TradingStatus, LULD, TradeCorrection, TradeCancel, Imbalance, OrderBook, News
):  # fmt: skip
    # Subclasses that rename wire keys inherit this, which is what makes them equal to their base.
    _kind.kind = _kind
