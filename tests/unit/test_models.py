from __future__ import annotations

import pickle
from datetime import UTC, datetime
from decimal import Decimal as Dec
from typing import Any

import pytest

from realtime_stream.market.models import (
    LULD,
    Bar,
    BookLevel,
    Imbalance,
    MarketEvent,
    News,
    OrderBook,
    Quote,
    Trade,
    TradeCancel,
    TradeCorrection,
    TradingStatus,
)
from realtime_stream.providers.alpaca import wire

NS = 1_709_562_659_999_999_999  # one nanosecond before the next second
PRICES: dict[str, Any] = {
    "open": Dec(1), "high": Dec(2), "low": Dec("0.5"), "close": Dec("1.5"), "volume": Dec(10),
}  # fmt: skip
LEVELS: dict[str, Any] = {"bids": (BookLevel(Dec(1), Dec(2)),), "asks": (), "is_snapshot": True}
KINDS: list[tuple[type[MarketEvent], type[Any], dict[str, Any]]] = [
    (Trade, wire.Trade, {"price": Dec("1.10"), "size": Dec(3), "trade_id": 7, "tape": "C"}),
    (
        Quote,
        wire.Quote,
        {"bid_price": Dec(1), "bid_size": Dec(2), "ask_price": Dec(3), "ask_size": Dec(4)},
    ),
    (Bar, wire.Bar, PRICES),
    (Bar, wire.UpdatedBar, {**PRICES, "bar_kind": "updated"}),
    (Bar, wire.DailyBar, {**PRICES, "bar_kind": "daily", "timeframe": "1d"}),
    (TradingStatus, wire.TradingStatus, {"status_code": "H", "reason_code": "T12"}),
    (
        LULD,
        wire.LULD,
        {"limit_up_price": Dec(2), "limit_down_price": Dec(1), "indicator": "B"},
    ),
    (
        TradeCorrection,
        wire.TradeCorrection,
        {
            "original_id": 1, "original_price": Dec(1), "original_size": Dec(1),
            "corrected_id": 2, "corrected_price": Dec(2), "corrected_size": Dec(2),
        },
    ),
    (
        TradeCancel,
        wire.TradeCancel,
        {"trade_id": 1, "price": Dec(1), "size": Dec(1), "action": "C"},
    ),
    (Imbalance, wire.Imbalance, {"price": Dec("9.99")}),
    (OrderBook, wire.OrderBook, LEVELS),
    (News, wire.News, {"news_id": 5, "headline": "Up", "symbols": ("AAPL",), "created_ns": 3}),
]  # fmt: skip
each_kind = pytest.mark.parametrize(
    ("base", "renamed", "values"), KINDS, ids=[renamed.__name__ for _, renamed, _ in KINDS]
)


def comparisons(one: object, other: object) -> tuple[bool, bool, bool, bool]:
    return (one == other, other == one, one != other, other != one)


EQUAL = (True, True, False, False)
DIFFERENT = (False, False, True, True)


def quote(bid: str, ask: str) -> Quote:
    return Quote(
        symbol="AAPL",
        timestamp_ns=NS,
        bid_price=Dec(bid),
        bid_size=Dec(1),
        ask_price=Dec(ask),
        ask_size=Dec(1),
    )


@each_kind
def test_an_event_from_the_wire_equals_one_built_by_hand(
    base: type[MarketEvent], renamed: type[Any], values: dict[str, Any]
) -> None:
    by_hand = base(symbol="AAPL", timestamp_ns=NS, **values)
    from_wire = renamed(symbol="AAPL", timestamp_ns=NS, received_ns=5, **values)
    assert comparisons(from_wire, by_hand) == EQUAL
    assert hash(from_wire) == hash(by_hand)
    assert isinstance(from_wire, base)
    assert from_wire.channel == by_hand.channel


@each_kind
def test_events_differ_when_a_fact_differs(
    base: type[MarketEvent], renamed: type[Any], values: dict[str, Any]
) -> None:
    one = base(symbol="AAPL", timestamp_ns=NS, **values)
    assert comparisons(one, renamed(symbol="MSFT", timestamp_ns=NS, **values)) == DIFFERENT
    assert comparisons(one, renamed(symbol="AAPL", timestamp_ns=NS + 1, **values)) == DIFFERENT
    assert comparisons(one, "AAPL") == DIFFERENT


@each_kind
def test_an_event_survives_pickling(
    base: type[MarketEvent], renamed: type[Any], values: dict[str, Any]
) -> None:
    for kind in (base, renamed):
        event = kind(symbol="AAPL", timestamp_ns=NS, received_ns=5, **values)
        copy = pickle.loads(pickle.dumps(event))  # noqa: S301  # our own bytes
        assert copy == event
        assert type(copy) is kind
        assert copy.received_ns == 5


@each_kind
def test_an_event_cannot_be_changed(
    base: type[MarketEvent], renamed: type[Any], values: dict[str, Any]
) -> None:
    for kind in (base, renamed):
        event: Any = kind(symbol="AAPL", timestamp_ns=NS, **values)
        with pytest.raises(AttributeError):
            event.symbol = "MSFT"
        with pytest.raises(AttributeError):
            event.something_else = 1


def test_events_of_different_kinds_differ() -> None:
    trade = Trade(symbol="A", timestamp_ns=NS, price=Dec(1), size=Dec(1))
    imbalance = Imbalance(symbol="A", timestamp_ns=NS, price=Dec(1))
    assert comparisons(trade, imbalance) == DIFFERENT


def test_equal_prices_with_different_digits_are_equal_and_keep_their_digits() -> None:
    one = Trade(symbol="A", timestamp_ns=NS, price=Dec("1.10"), size=Dec(1))
    other = Trade(symbol="A", timestamp_ns=NS, price=Dec("1.1"), size=Dec(1))
    assert comparisons(one, other) == EQUAL
    assert len({one, other}) == 1
    assert str(one.price) == "1.10"


def test_times_are_cut_to_microseconds_never_rounded() -> None:
    event = Imbalance(symbol="A", timestamp_ns=NS, received_ns=NS + 1, price=Dec(1))
    assert event.timestamp == datetime(2024, 3, 4, 14, 30, 59, 999_999, tzinfo=UTC)
    assert event.received_at == datetime(2024, 3, 4, 14, 31, tzinfo=UTC)
    assert event.timestamp_ns == NS


@pytest.mark.parametrize(
    ("bid", "ask", "mid", "spread", "bps"),
    [
        ("99.99", "100.01", "100", "0.02", "2"),
        ("100", "100", "100", "0", "0"),  # locked
        ("100.01", "99.99", "100", "-0.02", "-2"),  # crossed
        ("0.00000001", "0.00000003", "0.00000002", "0.00000002", "10000"),
    ],
)
def test_quote_figures_are_exact(bid: str, ask: str, mid: str, spread: str, bps: str) -> None:
    figures = quote(bid, ask)
    assert (figures.mid_price, figures.spread, figures.spread_bps) == (
        Dec(mid),
        Dec(spread),
        Dec(bps),
    )


@pytest.mark.parametrize(("bid", "ask"), [("0", "1"), ("1", "0"), ("0", "0"), ("0.00", "1")])
def test_a_side_without_a_price_has_no_figures(bid: str, ask: str) -> None:
    figures = quote(bid, ask)
    assert (figures.mid_price, figures.spread, figures.spread_bps) == (None, None, None)


def test_a_mid_price_of_zero_has_no_basis_points() -> None:
    figures = quote("-1", "1")
    assert (figures.mid_price, figures.spread, figures.spread_bps) == (Dec(0), Dec(2), None)


def test_sizes_may_be_fractions() -> None:
    trade = Trade(symbol="BTC/USD", timestamp_ns=NS, price=Dec(1), size=Dec("0.000000001"))
    assert str(trade.size) == "1E-9"
    assert trade.size == Dec("0.000000001")


@pytest.mark.parametrize(
    ("kind", "channel"),
    [("regular", "bars"), ("updated", "updated_bars"), ("daily", "daily_bars")],
)
def test_a_bars_channel_follows_its_kind(kind: Any, channel: str) -> None:
    bar = Bar(symbol="A", timestamp_ns=NS, bar_kind=kind, **PRICES)
    assert bar.channel == channel


def test_bars_of_different_kinds_differ() -> None:
    minute = Bar(symbol="A", timestamp_ns=NS, **PRICES)
    updated = Bar(symbol="A", timestamp_ns=NS, bar_kind="updated", **PRICES)
    assert comparisons(minute, updated) == DIFFERENT


def test_book_levels_are_equal_whoever_decoded_them() -> None:
    one = BookLevel(Dec(1), Dec(2))
    assert comparisons(one, wire.BookLevel(Dec("1.0"), Dec(2))) == EQUAL
    assert hash(BookLevel(Dec(1), Dec(2))) == hash(wire.BookLevel(Dec("1.0"), Dec(2)))
    assert comparisons(one, BookLevel(Dec(1), Dec(3))) == DIFFERENT
    assert comparisons(one, (Dec(1), Dec(2))) == DIFFERENT


def test_news_has_a_time_of_first_publication() -> None:
    news = News(symbol="*", timestamp_ns=NS, news_id=1, headline="Up", created_ns=1_999)
    assert news.created_at == datetime(1970, 1, 1, microsecond=1, tzinfo=UTC)
