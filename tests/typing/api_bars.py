"""Public typing examples of bars, history, validation, sinks and recordings; never run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal, assert_type

from realtime_stream import (
    BackfillEvent,
    BackfillInfo,
    Bar,
    BarsInfo,
    Credentials,
    HistoryPage,
    HistoryProvider,
    HistoryRequest,
    LatencyInfo,
    MarketEvent,
    RealTimeStreamManager,
    RecordingInfo,
    Registration,
    RejectedEvent,
    Sink,
    SinkInfo,
    StreamConfig,
    Trade,
    ValidationPolicy,
)

# --- settings ---

config = StreamConfig(
    feed="iex",
    validation=ValidationPolicy(crossed="flag", outlier="reject", outlier_limit=0.2),
    backfill=("bars", "trades"),
    history_url="https://data.example",
    backfill_hold=5.0,
    backfill_hold_bars=100,
    backfill_deadline=60,
    history_lag=1,
    bar_alignment="session",
    bar_grace=1.5,
    lookback=500,
    latency_alarm=5,
    rejected_events=10,
    spool=Path("spool"),
)
ValidationPolicy(crossed="ignore")  # type: ignore[arg-type]


# --- history and sinks of one's own ---


class OwnHistory:
    """A history needs no base class."""

    def fetch(self, request: HistoryRequest, credentials: Credentials) -> Iterator[HistoryPage]:
        assert_type(request.symbols, tuple[str, ...])
        assert_type(request.newest, int | None)
        assert_type(request.channel, Literal["bars", "trades"])
        yield HistoryPage(bars=())

    def close(self) -> None: ...


class OwnSink:
    """A sink needs no base class either."""

    name = "own"

    def write(self, bars: Sequence[Bar]) -> None: ...

    def close(self) -> None: ...


history: HistoryProvider = OwnHistory()
sink: Sink = OwnSink()
manager = RealTimeStreamManager(
    config, history=OwnHistory, sinks=[sink, OwnSink()], record=Path("recording")
)
RealTimeStreamManager(config, sinks=[OwnHistory()])  # type: ignore[list-item]

# --- registering ---


def take_bar(bar: Bar) -> None: ...
def take_trade(trade: Trade) -> None: ...


assert_type(manager.on_bar(take_bar, "AAPL", timeframe="5m"), Registration)
manager.on_bar(take_bar, "AAPL", timeframe="ticks:100", built_from="trades")
manager.on_bar(take_bar, timeframe="1m", fill=True)
manager.on_bar(take_bar, "AAPL", "MSFT", history=20)
manager.on_bar(take_bar, "AAPL", history=timedelta(days=1))
manager.on_updated_bar(take_bar, "AAPL", timeframe="5m")
manager.on_daily_bar(take_bar, "AAPL")
manager.on_bar(take_bar, "AAPL", built_from="quotes")  # type: ignore[call-overload]
manager.on_bar(take_bar, "AAPL", history="1h")  # type: ignore[call-overload]
manager.on_bar(take_bar, "AAPL", timeframe=5)  # type: ignore[call-overload]
manager.on_bar(take_trade, "AAPL", timeframe="5m")  # type: ignore[arg-type]
manager.on_daily_bar(take_bar, "AAPL", timeframe="1d")  # type: ignore[call-overload]


@manager.on_bar("AAPL", timeframe="1h", history=24)
def hourly(bar: Bar) -> None:
    assert_type(bar.timeframe, str)
    assert_type(bar.source, Literal["stream", "backfill", "built"])
    assert_type(bar.bar_kind, Literal["regular", "updated", "daily"])
    assert_type(bar.is_partial, bool)
    assert_type(bar.vwap, Decimal | None)


@manager.on_bar(timeframe="15m")
def for_the_watchlist(bar: Bar) -> None: ...


@manager.on_bar("AAPL", timeframe="5m")  # type: ignore[arg-type]
def wrong_kind(trade: Trade) -> None: ...


assert_type(hourly, Registration)
assert_type(for_the_watchlist, Registration)
hourly.remove()


@manager.on_backfill
def filled(event: BackfillEvent) -> None:
    assert_type(event.complete, bool)
    assert_type(event.reason, str)
    assert_type(event.delivered, int)
    assert_type(event.purpose, Literal["gap", "look_back"])


@manager.on_rejected
def rejected(event: RejectedEvent) -> None:
    assert_type(event.event, MarketEvent)
    assert_type(event.value, object)
    assert_type(event.rejected, bool)


manager.on_backfill(take_bar)  # type: ignore[arg-type]

# --- look-back ---

bars = manager.recent_bars("AAPL", 20, "5m", built_from="bars")
assert_type(bars, list[Bar])
assert_type(bars[-1].timestamp, datetime)
manager.recent_bars("AAPL", 20, fill=True)
manager.recent_frame("AAPL", 20, "1d")
manager.recent_bars("AAPL", "20")  # type: ignore[arg-type]
manager.recent_bars("AAPL", 20, built_from="quotes")  # type: ignore[arg-type]

# --- reports ---

status = manager.status()
assert_type(status.bars, BarsInfo)
assert_type(status.backfill, BackfillInfo)
assert_type(status.latency, Mapping[str, LatencyInfo])
assert_type(status.latency["bars"].skew, float | None)
assert_type(status.sinks, Mapping[str, SinkInfo])
assert_type(status.recording, RecordingInfo | None)
assert_type(status.findings, Mapping[tuple[str, str], int])
assert_type(status.invalid, int)
assert_type(manager.rejected_events(), tuple[RejectedEvent, ...])
