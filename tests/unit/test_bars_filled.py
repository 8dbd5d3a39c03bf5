from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream.market.bars import build_bars
from realtime_stream.market.calendar import AlwaysOpen, MarketCalendar, NeverOpen, RegularHours
from realtime_stream.market.models import TradeCancel
from realtime_stream.market.timeframe import parse_timeframe
from tests.property.support_bars import GRACE, HOUR, MINUTE, SECOND, START, said, trade

if TYPE_CHECKING:
    from realtime_stream.market.bars import BarBuilder
    from realtime_stream.market.models import Bar

DUE = START + MINUTE + GRACE


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


def filled(
    timeframe: str = "1m", calendar: MarketCalendar | None = None, **settings: Any
) -> BarBuilder:
    spec = parse_timeframe(timeframe)
    return build_bars(
        "AAPL",
        spec,
        "trades",
        calendar=calendar or AlwaysOpen(),
        fill=True,
        **{"grace_ns": GRACE, **settings},
    )


def minutes(bars: list[Bar]) -> list[tuple[int, bool]]:
    return [((bar.timestamp_ns - START) // MINUTE, bar.is_filled) for bar in bars]


def test_empty_intervals_have_the_last_close_and_no_volume() -> None:
    builder = filled()
    builder.add(trade(START, "10"))
    builder.add(trade(START + 1, "11.50"))
    builder.add(trade(START + 3 * MINUTE, "12"))
    bars = builder.advance(DUE + 3 * MINUTE)
    assert minutes(bars) == [(0, False), (1, True), (2, True), (3, False)]
    price = Decimal("11.50")
    assert said(bars[1]) == (price, price, price, price, Decimal(0), 0)
    assert bars[1].vwap is None
    assert (bars[1].source, bars[1].bar_kind, bars[1].timeframe) == ("built", "regular", "1m")
    assert builder.counts.built == 4


def test_the_clock_fills_without_waiting_for_a_trade() -> None:
    builder = filled()
    builder.add(trade(START))
    bars = builder.advance(DUE)
    for minute in (1, 2, 3):
        assert builder.next_due_ns == DUE + minute * MINUTE
        bars += builder.advance(DUE + minute * MINUTE)
    assert minutes(bars) == [(0, False), (1, True), (2, True), (3, True)]


def test_nothing_is_filled_before_the_first_bar() -> None:
    builder = filled()
    builder.add(trade(START, conditions=("I",)))
    assert builder.advance(START + HOUR) == []
    assert builder.next_due_ns is None


def test_an_interval_whose_trades_make_no_bar_is_filled() -> None:
    builder = filled()
    builder.add(trade(START))
    builder.add(trade(START + MINUTE, conditions=("I",)))
    assert minutes(builder.advance(DUE + MINUTE)) == [(0, False), (1, True)]


def test_a_late_trade_updates_a_filled_bar() -> None:
    builder = filled()
    builder.add(trade(START, "10"))
    builder.advance(DUE + MINUTE)
    builder.add(trade(START + MINUTE, "11", received_ns=DUE + MINUTE))
    [bar] = builder.advance(DUE + MINUTE + GRACE)
    assert (bar.bar_kind, bar.is_filled, str(bar.close)) == ("updated", False, "11")
    [after] = builder.advance(DUE + 2 * MINUTE)
    assert str(after.close) == "11"


def test_filled_bars_push_out_what_is_old() -> None:
    builder = filled()
    builder.add(trade(START, trade_id=1))
    builder.advance(DUE + 3 * HOUR)
    builder.cancel(
        TradeCancel(
            symbol="AAPL",
            timestamp_ns=DUE,
            trade_id=1,
            exchange="V",
            price=Decimal(10),
            size=Decimal(1),
            action="C",
        )
    )
    builder.add(trade(START))
    assert (builder.counts.unmatched, builder.counts.too_late) == (1, 1)


def test_only_market_time_is_filled() -> None:
    builder = filled("1h", RegularHours())
    builder.add(trade(at("2024-03-01 19:10")))  # a Friday, two hours before the close
    bars = builder.advance(at("2024-03-01 22:30"))
    assert [str(bar.timestamp.time()) for bar in bars] == ["19:00:00", "20:00:00"]
    assert builder.next_due_ns is not None
    assert builder.advance(at("2024-03-04 14:29")) == []
    # Monday: the market opens at 14:30 within an interval, so the next one is the first.
    bars = builder.advance(at("2024-03-04 16:01"))
    assert [str(bar.timestamp) for bar in bars] == ["2024-03-04 15:00:00+00:00"]


def test_sessions_are_filled_from_their_open() -> None:
    builder = filled("1h", RegularHours(), alignment="session")
    builder.add(trade(at("2024-03-01 20:45")))
    bars = builder.advance(at("2024-03-04 16:00"))
    assert [str(bar.timestamp)[:16] for bar in bars] == ["2024-03-01 20:30", "2024-03-04 14:30"]


def test_the_clock_has_nothing_to_do_while_the_market_is_shut() -> None:
    builder = filled("1m", RegularHours())
    builder.add(trade(at("2024-03-01 20:59")))
    builder.advance(at("2024-03-01 21:02"))
    builder.advance(at("2024-03-01 21:03"))
    assert builder.next_due_ns == at("2024-03-04 14:31") + GRACE


def test_a_day_is_filled_when_the_market_is_open_at_any_time_of_it() -> None:
    builder = filled("1d", RegularHours())
    builder.add(trade(at("2024-03-01 15:00")))
    days: list[Bar] = []
    for _ in range(10):
        days += builder.advance(at("2024-03-06 06:00"))
    assert [(str(day.timestamp.date()), day.is_filled) for day in days] == [
        ("2024-03-01", False),
        ("2024-03-04", True),
        ("2024-03-05", True),
    ]


def test_a_market_that_never_opens_is_never_filled() -> None:
    builder = filled("1h", NeverOpen())
    builder.add(trade(START))
    assert len(builder.advance(START + 10 * HOUR)) == 1


def test_nothing_is_filled_across_a_gap_that_was_not() -> None:
    builder = filled()
    builder.add(trade(START, "10"))
    builder.open_gap(START + 2 * MINUTE + 1)
    builder.add(trade(START + 5 * MINUTE, "12"))
    assert minutes(builder.advance(DUE + 5 * MINUTE)) == [(0, False), (1, True)]
    assert builder.next_due_ns is None
    builder.close_gap(START + 3 * MINUTE, filled=False)
    bars = builder.advance(DUE + 6 * MINUTE)
    assert minutes(bars) == [(5, False), (6, True)]


def test_a_filled_bar_that_turns_out_to_be_in_a_gap_is_emitted_again() -> None:
    builder = filled()
    builder.add(trade(START, "10"))
    builder.advance(DUE + MINUTE)
    builder.open_gap(START + MINUTE + 1)
    builder.close_gap(START + 2 * MINUTE, filled=False)
    [bar] = builder.advance(DUE + MINUTE)
    assert (bar.bar_kind, bar.is_filled, bar.is_partial) == ("updated", True, True)
    assert (str(bar.close), bar.timestamp_ns) == ("10", START + MINUTE)


def test_a_gap_that_was_filled_is_filled_forward() -> None:
    builder = filled()
    builder.add(trade(START, "10"))
    builder.open_gap(START + 2 * MINUTE + 1)
    builder.add(trade(START + 5 * MINUTE, "12"))
    builder.advance(DUE + 5 * MINUTE)
    builder.add(trade(START + 3 * MINUTE, "11"))
    builder.close_gap(START + 4 * MINUTE, filled=True)
    bars = builder.advance(DUE + 5 * MINUTE)
    assert minutes(bars) == [(2, True), (3, False), (4, True), (5, False)]


@pytest.mark.parametrize(("timeframe", "most"), [("1h", 24), ("1m", 1440)])
def test_a_jump_of_the_clock_costs_at_most_a_day_at_a_time(timeframe: str, most: int) -> None:
    builder = filled(timeframe)
    length = parse_timeframe(timeframe).ns or 0
    first = START - START % length
    builder.add(trade(first))
    builder.add(trade(first + 3 * most * length, "12"))
    now = first + (3 * most + 1) * length + GRACE
    bars: list[Bar] = []
    for _ in range(4):
        some = builder.advance(now)
        assert sum(bar.is_filled for bar in some) <= most
        assert builder.next_due_ns is not None
        bars += some
    assert [bar.timestamp_ns for bar in bars] == [
        first + number * length for number in range(3 * most + 1)
    ]
    assert str(bars[-1].close) == "12"


def test_larger_bars_are_filled_too() -> None:
    builder = filled("5m")
    first = START - START % (5 * MINUTE)
    builder.add(trade(first, "10"))
    bars = builder.advance(first + 10 * MINUTE + GRACE)
    assert [bar.is_filled for bar in bars] == [False, True]
