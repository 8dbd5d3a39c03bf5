"""What users write, as the type checker must see it. Checked by mypy, never run.

A line that must be refused carries the code mypy refuses it with: were it accepted, the comment
would be unused, which is an error too.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, assert_type

from pydantic import SecretStr

from realtime_stream import (
    LULD,
    Bar,
    BreakerInfo,
    ConnectionCircuitBreaker,
    ConnectionEvent,
    ConnectionState,
    Credentials,
    DeadLetter,
    DisconnectEvent,
    ErrorEvent,
    EventStream,
    Failure,
    Gap,
    Imbalance,
    LagInfo,
    LifecycleState,
    MarketDataProvider,
    MarketEvent,
    News,
    OrderBook,
    Quote,
    RealTimeStreamManager,
    ReconnectPolicy,
    Registration,
    RejectedMessage,
    ScaledClock,
    SessionEnd,
    StaleEvent,
    StateChange,
    Status,
    StopTimeoutError,
    StreamConfig,
    Subscription,
    Trade,
    TradeCancel,
    TradeCorrection,
    TradingStatus,
    classify,
)
from realtime_stream.signals import ShutdownRequest, shutdown_on_signals

if TYPE_CHECKING:
    from realtime_stream.ports import SessionListener

# --- configuration ---

config = StreamConfig(feed="iex", watchlist=("AAPL",), reconnect=ReconnectPolicy(jitter=False))
StreamConfig(credentials=lambda: ("key", "secret"))
StreamConfig(credentials=lambda: Credentials(key=SecretStr("key"), secret=SecretStr("secret")))
assert_type(config.resolve_credentials(), Credentials)
ReconnectPolicy(first=1)  # type: ignore[call-arg]

manager = RealTimeStreamManager(config)
RealTimeStreamManager()
RealTimeStreamManager(config, get_symbols=lambda: ["AAPL"])
RealTimeStreamManager(config, get_symbols=lambda: {"AAPL"})
RealTimeStreamManager(config, data_clock=ScaledClock(datetime.now(UTC), 60))
RealTimeStreamManager(config, lambda: ["AAPL"])  # type: ignore[call-arg]

# --- callbacks, as functions and as decorators ---


def take_bar(bar: Bar) -> None:
    assert_type(bar.close, Decimal)
    assert_type(bar.vwap, Decimal | None)
    assert_type(bar.timestamp, datetime)
    assert_type(bar.timestamp_ns, int)


def take_quote(quote: Quote) -> int:  # what a callback returns does not matter
    assert_type(quote.mid_price, Decimal | None)
    assert_type(quote.spread_bps, Decimal | None)
    return 1


def take_any(event: MarketEvent) -> None:
    assert_type(event.symbol, str)


registration = manager.on_bar(take_bar, "AAPL", "MSFT")
assert_type(registration, Registration)
registration.remove()
assert_type(manager.on_bar(take_bar), Registration)
manager.on_updated_bar(take_bar, "*")
manager.on_daily_bar(take_bar, "*")
manager.on_quote(take_quote, "AAPL")
manager.on_quote(take_any, "AAPL")
manager.on_quote(lambda quote: quote.bid_price, "AAPL")
manager.on_bar(take_quote, "AAPL")  # type: ignore[arg-type]
manager.on_quote(take_bar)  # type: ignore[arg-type]
manager.on_bar(take_bar, 1)  # type: ignore[call-overload]


@manager.on_bar("AAPL", "MSFT")
def decorated(bar: Bar) -> None: ...


@manager.on_trade
def for_the_watchlist(trade: Trade) -> None: ...


@manager.on_trade("AAPL")  # type: ignore[arg-type]
def wrong_kind(quote: Quote) -> None: ...


assert_type(decorated, Registration)
assert_type(for_the_watchlist, Registration)


def take_status(event: TradingStatus) -> None: ...
def take_luld(event: LULD) -> None: ...
def take_correction(event: TradeCorrection) -> None: ...
def take_cancel(event: TradeCancel) -> None: ...
def take_imbalance(event: Imbalance) -> None: ...
def take_book(event: OrderBook) -> None: ...
def take_news(event: News) -> None: ...


manager.on_status(take_status, "AAPL")
manager.on_luld(take_luld, "AAPL")
manager.on_correction(take_correction, "AAPL")
manager.on_cancel(take_cancel, "AAPL")
manager.on_imbalance(take_imbalance, "AAPL")
manager.on_orderbook(take_book, "BTC/USD")
manager.on_news(take_news, "*")


@manager.on_connect
def connected(event: ConnectionEvent) -> None:
    assert_type(event.reconnect, bool)


@manager.on_disconnect
def disconnected(event: DisconnectEvent) -> None:
    assert_type(event.failure, Failure | None)


@manager.on_gap
def missed(gap: Gap) -> None:
    assert_type(gap.start, datetime)
    assert_type(gap.last_events, Mapping[str, datetime | None])
    assert_type(gap.entries[0].first_event_ns, int | None)


@manager.on_error
def failed(event: ErrorEvent) -> None:
    assert_type(event.error, BaseException)


@manager.on_state_change
def moved(change: StateChange) -> None:
    assert_type(change.current, LifecycleState | ConnectionState)


manager.on_gap(failed.callback)


@manager.on_stale
def silent(event: StaleEvent) -> None:
    assert_type(event.symbol, str)
    assert_type(event.last_received_ns, int | None)
    assert_type(event.age, float)


class Weekends:
    def open_ns(self, start_ns: int, end_ns: int) -> int:
        return 0

    def is_open(self, at_ns: int) -> bool:
        return False


RealTimeStreamManager(calendar=Weekends())
RealTimeStreamManager(calendar=3)  # type: ignore[arg-type]
manager.on_gap(take_bar)  # type: ignore[arg-type]

# --- lifecycle ---

assert_type(manager.start(timeout=10), ConnectionState)
assert_type(manager.start(0), ConnectionState)
assert_type(manager.restart(), ConnectionState)
assert_type(manager.is_connected(), bool)
assert_type(manager.wait_until_connected(1.0), bool)
assert_type(manager.wait_until_stopped(), bool)
with manager as same:
    assert_type(same, RealTimeStreamManager)
try:
    manager.stop(timeout=5)
except StopTimeoutError as exc:
    assert_type(exc.callback, str | None)
    assert_type(exc.threads, tuple[str, ...])

# --- what is wanted ---

manager.subscribe("quotes", "AAPL", "MSFT")
manager.unsubscribe("updated_bars", "AAPL")
manager.subscribe("quote", "AAPL")  # type: ignore[arg-type]
assert_type(manager.subscriptions(), frozenset[Subscription])
symbols = sorted({entry.symbol for entry in manager.subscriptions()})
assert_type(symbols, list[str])

# --- pull and reports ---

assert_type(manager.latest_quote("AAPL"), Quote | None)
assert_type(manager.latest_trade("AAPL"), Trade | None)
assert_type(manager.latest_bar("AAPL"), Bar | None)
stream = manager.events(timeout=1.0)
assert_type(stream, EventStream)
assert_type(next(stream), MarketEvent)
assert_type(next(stream, None), MarketEvent | None)
for event in manager.events():
    if isinstance(event, Trade):
        assert_type(event.price, Decimal)

status = manager.status()
assert_type(status, Status)
assert_type(status.ages, Mapping[Subscription, float])
assert_type(status.delivered, Mapping[str, int])
assert_type(status.dropped, Mapping[tuple[str, str], int])
assert_type(status.lag, LagInfo)
assert_type(status.breaker, BreakerInfo | None)
status.received = 0  # type: ignore[misc]
assert_type(manager.gaps(), tuple[Gap, ...])
assert_type(manager.dead_letters(), tuple[DeadLetter, ...])
assert_type(manager.rejects(), tuple[RejectedMessage, ...])

# --- pieces that stand alone ---

assert_type(classify(SessionEnd(close_code=1006)), Failure)
assert_type(ConnectionCircuitBreaker().can_attempt_connection(), bool)
with shutdown_on_signals() as request:
    assert_type(request, ShutdownRequest)


class OwnProvider:
    """A provider needs no base class."""

    def run_session(self, credentials: Credentials, listener: SessionListener) -> SessionEnd:
        listener.on_frame([], 0)
        return SessionEnd(requested=True, server_message=credentials.key.get_secret_value())

    def set_wanted(self, wanted: frozenset[Subscription]) -> None: ...

    def end_session(self) -> None: ...

    def disconnect(self) -> None: ...

    def lingering_threads(self) -> tuple[str, ...]:
        return ()


provider: MarketDataProvider = OwnProvider()
