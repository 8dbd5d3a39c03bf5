from __future__ import annotations

from decimal import Decimal as Dec
from typing import Any

import pytest

from realtime_stream.market.models import Bar, Imbalance, MarketEvent, Quote, Trade, TradingStatus
from realtime_stream.runtime.overflow import Frame, compact


def trade(n: int, symbol: str = "A") -> Trade:
    return Trade(symbol=symbol, timestamp_ns=n, price=Dec(1), size=Dec(1))


def quote(n: int, symbol: str = "A") -> Quote:
    return Quote(
        symbol=symbol,
        timestamp_ns=n,
        bid_price=Dec(1),
        bid_size=Dec(1),
        ask_price=Dec(2),
        ask_size=Dec(1),
    )


def bar(n: int, symbol: str = "A", kind: Any = "regular") -> Bar:
    one = Dec(1)
    return Bar(
        symbol=symbol, timestamp_ns=n, bar_kind=kind,
        open=one, high=one, low=one, close=one, volume=one,
    )  # fmt: skip


def status(n: int, symbol: str = "A") -> TradingStatus:
    return TradingStatus(symbol=symbol, timestamp_ns=n, status_code="H")


def imbalance(n: int, symbol: str = "A") -> Imbalance:
    return Imbalance(symbol=symbol, timestamp_ns=n, price=Dec(1))


def frames(*groups: list[MarketEvent]) -> list[Frame]:
    return [Frame(group, float(n), len(group)) for n, group in enumerate(groups)]


def stamps(of: list[Frame]) -> list[list[int]]:
    return [[event.timestamp_ns for event in frame.events] for frame in of]


def test_nothing_is_dropped_when_it_fits() -> None:
    waiting = frames([trade(1), bar(2)], [quote(3)])
    overflow = compact(waiting, 3)
    assert stamps(waiting) == [[1, 2], [3]]
    assert (dict(overflow.dropped), overflow.missed) == ({}, [])


def test_each_symbol_keeps_its_newest_quote_in_its_own_place() -> None:
    waiting = frames(
        [quote(1), trade(2), quote(3, "B")], [quote(4), bar(5)], [quote(6, "C"), quote(7), trade(8)]
    )
    overflow = compact(waiting, 100)
    assert stamps(waiting) == [[2, 3], [5], [6, 7, 8]]
    assert dict(overflow.dropped) == {("quotes", "conflated"): 2}


def test_the_oldest_trades_go_first() -> None:
    waiting = frames([trade(1), quote(2)], [trade(3), bar(4)], [trade(5), status(6), imbalance(7)])
    overflow = compact(waiting, 5)
    assert stamps(waiting) == [[2], [4], [5, 6, 7]]
    assert dict(overflow.dropped) == {("trades", "overflow"): 2}


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        (6, [2, 3, 4, 5, 6, 7]),
        (5, [2, 4, 5, 6, 7]),  # then what is neither quote, bar nor status
        (4, [2, 4, 5, 6]),
        (3, [4, 5, 6]),  # then quotes
        (2, [5, 6]),  # bars and statuses last, the oldest first
        (1, [6]),
        (0, []),
    ],
)
def test_bars_and_statuses_go_last(target: int, kept: list[int]) -> None:
    events: list[MarketEvent] = [
        trade(1), quote(2, "B"), imbalance(3), bar(4), status(5), bar(6, kind="daily"), imbalance(7)
    ]  # fmt: skip
    waiting = frames(events)
    overflow = compact(waiting, target)
    assert stamps(waiting) == [kept]
    assert sum(overflow.dropped.values()) == 7 - target


def test_dropped_bars_are_handed_over_in_order() -> None:
    gone = [bar(1), bar(2, kind="updated"), bar(4, kind="daily")]
    waiting = frames([gone[0], gone[1]], [status(3), gone[2]], [bar(5)])
    overflow = compact(waiting, 1)
    assert overflow.missed == gone
    assert dict(overflow.dropped) == {
        ("bars", "overflow"): 1,
        ("updated_bars", "overflow"): 1,
        ("daily_bars", "overflow"): 1,
        ("statuses", "overflow"): 1,
    }
    assert stamps(waiting) == [[], [], [5]]


def test_no_frames_are_no_problem() -> None:
    assert not compact([], 0).dropped
