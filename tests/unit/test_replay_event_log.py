"""The event log says everything a replay can repeat, in the same words each time."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream import RealTimeStreamManager, StreamConfig
from realtime_stream.cli.event_log import CHANNEL_HOOKS, EventLog, register
from realtime_stream.cli.replay import parse_speed
from realtime_stream.errors import SessionClosedError
from realtime_stream.market.channels import CHANNELS, Subscription
from realtime_stream.market.models import Bar, BookLevel, OrderBook, Quote
from realtime_stream.ports import (
    BackfillEvent,
    ConnectionEvent,
    DisconnectEvent,
    Gap,
    GapEntry,
    RejectedEvent,
    StateChange,
)
from realtime_stream.providers.alpaca.decoder import FrameDecoder
from realtime_stream.resilience.failures import Failure, FailureKind

if TYPE_CHECKING:
    from collections.abc import Callable

QUOTE = Quote(
    symbol="AAPL",
    timestamp_ns=1,
    received_ns=2,
    bid_price=Decimal("1.10"),
    bid_size=Decimal(1),
    ask_price=Decimal("1.20"),
    ask_size=Decimal(2),
    conditions=("R",),
)


def _line(event: object) -> dict[str, Any]:
    file = io.BytesIO()
    log = EventLog(file)
    log.write(event)
    assert log.lines == 1
    data = file.getvalue()
    assert data.endswith(b"\n")
    line: dict[str, Any] = json.loads(data)
    assert list(line) == sorted(line)
    return line


def test_an_event_is_written_with_all_it_says() -> None:
    assert _line(QUOTE) == {
        "type": "event",
        "channel": "quotes",
        "symbol": "AAPL",
        "timestamp_ns": 1,
        "received_ns": 2,
        "bid_price": "1.10",
        "bid_size": "1",
        "ask_price": "1.20",
        "ask_size": "2",
        "bid_exchange": None,
        "ask_exchange": None,
        "conditions": ["R"],
        "tape": None,
    }


def test_an_event_of_the_wire_is_written_like_one_made_by_hand() -> None:
    raw = (
        b'[{"T":"o","S":"BTC/USD","t":"2026-03-02T14:30:00Z",'
        b'"b":[{"p":1.5,"s":2}],"a":[],"r":true}]'
    )
    (decoded,) = FrameDecoder("json").decode(raw, 7).events
    by_hand = OrderBook(
        symbol="BTC/USD",
        timestamp_ns=decoded.timestamp_ns,
        received_ns=7,
        bids=(BookLevel(Decimal("1.5"), Decimal(2)),),
        is_snapshot=True,
    )
    assert _line(decoded) == _line(by_hand)
    assert _line(decoded)["bids"] == [["1.5", "2"]]


def test_when_a_bar_was_built_is_left_out() -> None:
    prices: dict[str, Any] = dict.fromkeys(("open", "high", "low", "close", "volume"), Decimal(1))
    sent = Bar(symbol="AAPL", timestamp_ns=1, received_ns=5, **prices)
    built = Bar(symbol="AAPL", timestamp_ns=1, received_ns=5, source="built", **prices)
    assert _line(sent)["received_ns"] == 5
    assert "received_ns" not in _line(built)


def test_a_gap_is_written_with_its_entries_in_order() -> None:
    entries = (GapEntry("quotes", "MSFT", 1), GapEntry("bars", "SPY", None, 4, 2))
    line = _line(Gap("reconnect", 1, 2, entries))
    assert line == _line(Gap("reconnect", 1, 2, entries[::-1]))
    assert [entry["symbol"] for entry in line["entries"]] == ["SPY", "MSFT"]
    assert (line["type"], line["start_ns"], line["end_ns"]) == ("gap", 1, 2)


def test_ids_and_counts_of_real_time_are_left_out() -> None:
    assert _line(ConnectionEvent("id", 2, reconnect=True)) == {
        "type": "connected",
        "session": 2,
        "reconnect": True,
    }
    error = SessionClosedError("gone", code=1006)
    failure = Failure(FailureKind.CLOSED, True, 0.0, 1006, "gone", error)
    expected = {"type": "disconnected", "kind": "closed", "code": 1006, "text": "gone"}
    assert _line(DisconnectEvent("id", failure, 3)) == expected
    assert _line(DisconnectEvent("id", None, 0))["kind"] is None


def test_what_validation_and_history_say_is_written() -> None:
    rejected = RejectedEvent(QUOTE, "crossed", "bid_price", Decimal(2), rejected=True)
    assert _line(rejected)["type"] == "rejected"
    assert _line(rejected)["value"] == "2"
    assert _line(rejected)["event"]["symbol"] == "AAPL"
    flagged = RejectedEvent(QUOTE, "crossed", "bid_price", Decimal(2), rejected=False)
    assert _line(flagged)["type"] == "flagged"
    filled = BackfillEvent("bars", "AAPL", 1, 2, 3, 4, complete=True)
    assert _line(filled)["fetched"] == 3
    assert _line(filled)["purpose"] == "gap"


def test_anything_else_is_refused() -> None:
    for other in (StateChange, object()):
        with pytest.raises(TypeError, match="not an event"):
            EventLog(io.BytesIO()).write(other)


def test_every_channel_has_a_hook() -> None:
    assert tuple(CHANNEL_HOOKS) == CHANNELS


@pytest.mark.parametrize(
    ("market", "channels"),
    [
        ("stocks", set(CHANNELS) - {"orderbooks", "news"}),
        ("crypto", {"orderbooks", "trades"}),
        ("news", {"news"}),
    ],
)
def test_everything_is_registered_for(market: Any, channels: set[str]) -> None:
    manager = RealTimeStreamManager(
        StreamConfig(
            market=market, api_key="a", secret_key="b", watchlist=(), watchlist_channels=()
        )
    )
    symbol = "BTC/USD" if market == "crypto" else "AAPL"
    wanted = {Subscription(channel, symbol) for channel in channels}
    nothing: Callable[[object], None] = lambda _: None  # noqa: E731  # a callback as users pass it
    register(manager, nothing, wanted)
    assert manager.subscriptions() == wanted


@pytest.mark.parametrize(
    ("timeframe", "recorded", "wanted"),
    [
        ("1m", ("trades",), ("trades",)),
        ("5m", ("trades",), ("trades",)),
        ("1d", ("trades", "bars"), ("trades", "bars")),
        ("1m", ("trades", "bars"), ("trades", "bars")),
        ("ticks:5", ("trades", "bars"), ("trades", "bars")),
        ("5m", ("bars", "updated_bars"), ("bars", "updated_bars")),
    ],
)
def test_bars_are_built_of_what_was_recorded(
    timeframe: str, recorded: tuple[str, ...], wanted: tuple[str, ...]
) -> None:
    manager = RealTimeStreamManager(
        StreamConfig(
            market="stocks", api_key="a", secret_key="b", watchlist=(), watchlist_channels=()
        )
    )
    nothing: Callable[[object], None] = lambda _: None  # noqa: E731  # a callback as users pass it
    register(manager, nothing, {Subscription(each, "AAPL") for each in recorded}, (timeframe,))
    assert manager.subscriptions() == {Subscription(each, "AAPL") for each in wanted}


@pytest.mark.parametrize(("text", "speed"), [("max", float("inf")), ("1", 1.0), ("0.5", 0.5)])
def test_a_speed_is_read(text: str, speed: float) -> None:
    assert parse_speed(text) == speed


@pytest.mark.parametrize("text", ["0", "-1", "nan", "fast", ""])
def test_what_is_no_speed_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"above 0|could not convert"):
        parse_speed(text)
