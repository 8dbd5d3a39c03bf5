from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from realtime_stream.market.bars import build_bars
from realtime_stream.market.calendar import AlwaysOpen, MarketCalendar, RegularHours
from realtime_stream.market.models import Bar, TradeCancel
from realtime_stream.market.timeframe import parse_timeframe
from tests.property.support_bars import GRACE, HOUR, MINUTE, SECOND, START, bar_bars, said

FIVE = START - START % (5 * MINUTE)
END = FIVE + 5 * MINUTE


def bar(minute: int, values: str = "10 11 9 10 100 4 10", **fields: Any) -> Bar:
    """A minute bar of the feed."""
    o, h, low, c, v, n, vw = values.split()
    start = FIVE + minute * MINUTE
    return Bar(**{
        "symbol": "AAPL",
        "timestamp_ns": start,
        "received_ns": start + MINUTE,
        "open": Decimal(o),
        "high": Decimal(h),
        "low": Decimal(low),
        "close": Decimal(c),
        "volume": Decimal(v),
        "trade_count": int(n),
        "vwap": Decimal(vw),
        **fields,
    })


def figures(values: str) -> tuple[Any, ...]:
    *prices, count = values.split()
    return (*map(Decimal, prices), int(count))


# --- larger bars ---


def test_a_larger_bar() -> None:
    builder = bar_bars()
    builder.add(bar(1, "20 22 19 21 300 5 20"))
    builder.add(bar(0, "10 11 9 10 100 4 10"))
    builder.add(bar(4, "30 33 8 31 200 6 25"))
    [made] = builder.advance(END)
    assert said(made) == figures("10 33 8 31 600 15")
    assert str(made.vwap) == "20"
    assert (made.timestamp_ns, made.timeframe, made.bar_kind) == (FIVE, "5m", "regular")
    assert (made.source, made.received_ns, made.is_partial) == ("built", END, False)


def test_it_is_closed_at_once_when_its_last_part_has_come() -> None:
    builder = bar_bars()
    builder.add(bar(3))
    assert builder.next_due_ns == END + GRACE
    builder.add(bar(4))
    assert builder.next_due_ns == 0
    assert len(builder.advance(END)) == 1


def test_without_its_last_part_it_is_closed_after_the_grace_period() -> None:
    builder = bar_bars()
    builder.add(bar(3))
    assert builder.advance(END + GRACE - 1) == []
    assert len(builder.advance(END + GRACE)) == 1


def test_one_that_is_complete_takes_older_ones_with_it() -> None:
    builder = bar_bars(grace_ns=HOUR)
    builder.add(bar(3))
    builder.add(bar(5))
    builder.add(bar(9))
    builder.add(bar(11))
    starts = [made.timestamp_ns for made in builder.advance(END)]
    assert starts == [FIVE, END]
    assert builder.next_due_ns == FIVE + 15 * MINUTE + HOUR


def test_an_updated_part_replaces_a_regular_one_but_not_the_other_way_round() -> None:
    builder = bar_bars()
    builder.add(bar(0, "1 1 1 1 1 1 1"))
    builder.add(bar(0, "2 2 2 2 2 2 2"))  # history says so
    builder.add(bar(0, "3 3 3 3 3 3 3", bar_kind="updated"))
    builder.add(bar(0, "4 4 4 4 4 4 4"))
    [made] = builder.advance(END + GRACE)
    assert said(made) == figures("3 3 3 3 3 3")


def test_an_update_after_the_end_gives_an_updated_bar_at_once() -> None:
    builder = bar_bars()
    builder.add(bar(4))
    builder.advance(END)
    builder.add(bar(4, "10 12 9 10 110 5 10", bar_kind="updated"))
    assert builder.next_due_ns == 0
    [made] = builder.advance(END + 30 * SECOND)
    assert (made.bar_kind, said(made)) == ("updated", figures("10 12 9 10 110 5"))
    builder.add(bar(4))  # the regular one again, from history
    assert builder.advance(END + MINUTE) == []
    counts = builder.counts
    assert (counts.built, counts.updated, counts.late) == (1, 1, 1)


def test_a_part_that_comes_too_late() -> None:
    builder = bar_bars()
    builder.add(bar(0))
    builder.add(bar(5 * 30))
    builder.advance(FIVE + 4 * HOUR)
    builder.add(bar(1))
    assert builder.next_due_ns is None
    assert builder.counts.too_late == 1


def test_a_part_without_volume_counts_with_its_prices() -> None:
    builder = bar_bars()
    builder.add(bar(0, "10 11 9 10 5 1 10"))
    builder.add(bar(1, "10 99 1 50 0 0 0"))  # quotes only, as in crypto
    [made] = builder.advance(END + GRACE)
    assert said(made) == figures("10 99 1 50 5 1")
    assert made.vwap == 10


def test_without_any_volume_there_is_no_average() -> None:
    builder = bar_bars()
    builder.add(bar(0, "10 11 9 10 0 0 0"))
    [made] = builder.advance(END + GRACE)
    assert (said(made), made.vwap) == (figures("10 11 9 10 0 0"), None)


def test_what_a_part_does_not_say_the_larger_bar_does_not_say() -> None:
    builder = bar_bars()
    builder.add(bar(0, trade_count=None, vwap=None))
    builder.add(bar(1))
    [made] = builder.advance(END + GRACE)
    assert (made.trade_count, made.vwap) == (None, None)


def test_a_filled_part_does_not_count() -> None:
    builder = bar_bars()
    builder.add(bar(0, is_filled=True))
    assert builder.advance(END + GRACE) == []
    builder.add(bar(5))
    builder.add(bar(6))
    builder.add(bar(6, "10 10 10 10 0 0 0", is_filled=True, bar_kind="updated"))  # taken back
    [made] = builder.advance(END + HOUR)
    assert made.trade_count == 4


def test_a_partial_part_makes_it_partial_until_it_is_whole() -> None:
    builder = bar_bars()
    builder.add(bar(0, is_partial=True))
    builder.add(bar(4))
    assert builder.advance(END)[0].is_partial
    builder.add(bar(0, bar_kind="updated"))
    [made] = builder.advance(END)
    assert (made.bar_kind, made.is_partial) == ("updated", False)


def test_a_gap_holds_a_complete_one_too() -> None:
    builder = bar_bars()
    builder.open_gap(FIVE + MINUTE)
    builder.add(bar(4))
    assert builder.next_due_ns is None
    assert builder.advance(END + HOUR) == []
    builder.add(bar(1))
    builder.close_gap(FIVE + 2 * MINUTE, filled=True)
    [made] = builder.advance(END + HOUR)
    assert (made.trade_count, made.is_partial) == (8, False)


def test_corrections_of_trades_do_not_concern_it() -> None:
    builder = bar_bars()
    fields = {"symbol": "AAPL", "timestamp_ns": 1, "trade_id": 1, "action": "C"}
    builder.cancel(TradeCancel(**fields, price=Decimal(1), size=Decimal(1)))  # type: ignore[arg-type]
    assert builder.counts.unmatched == 0


def test_a_day_of_minutes() -> None:
    builder = build_bars(
        "AAPL", parse_timeframe("1d"), "bars", calendar=RegularHours(), grace_ns=GRACE
    )
    midnight = 1_710_046_800 * SECOND  # 2024-03-10 05:00 UTC: a day of 23 hours
    for moment in (midnight - MINUTE, midnight, midnight + 23 * HOUR - MINUTE):
        builder.add(bar(0, timestamp_ns=moment))
    days = builder.advance(midnight + 23 * HOUR)
    assert [(day.timestamp_ns - midnight, day.trade_count) for day in days] == [
        (-24 * HOUR, 4),
        (0, 8),
    ]


# --- the feed's running daily bars ---

DAY = START - START % (24 * HOUR)


def daily(volume: int, received_ns: int, day_ns: int = DAY) -> Bar:
    values = f"10 11 9 10 {volume} 4 10"
    return bar(0, values, timestamp_ns=day_ns, received_ns=received_ns, bar_kind="daily")


def daily_bars(calendar: MarketCalendar | None = None, **settings: Any) -> Any:
    return build_bars(
        "AAPL",
        parse_timeframe("1d"),
        "daily_bars",
        calendar=calendar or AlwaysOpen(),
        **{"grace_ns": GRACE, **settings},
    )


def test_the_last_running_bar_is_the_days_once_the_day_is_over() -> None:
    builder = daily_bars(since_ns=DAY + HOUR)
    builder.add(daily(100, DAY + HOUR))
    builder.add(daily(200, DAY + 2 * HOUR))
    assert builder.next_due_ns == DAY + 24 * HOUR + GRACE
    assert builder.advance(DAY + 24 * HOUR) == []
    [made] = builder.advance(DAY + 24 * HOUR + GRACE)
    assert said(made) == figures("10 11 9 10 200 4")
    assert (made.timeframe, made.bar_kind, made.source) == ("1d", "regular", "built")
    assert (made.timestamp_ns, made.is_partial) == (DAY, False)


def test_a_running_bar_after_the_day_gives_an_updated_one() -> None:
    builder = daily_bars()
    builder.add(daily(100, DAY + HOUR))
    builder.advance(DAY + 25 * HOUR)
    builder.add(daily(150, DAY + 25 * HOUR))
    [made] = builder.advance(DAY + 25 * HOUR)
    assert (made.bar_kind, made.volume) == ("updated", Decimal(150))
    assert builder.counts.late == 1


def test_a_day_of_new_york_is_over_at_its_own_midnight() -> None:
    midnight = 1_710_046_800 * SECOND  # 2024-03-10 05:00 UTC: a day of 23 hours
    builder = daily_bars(RegularHours())
    builder.add(daily(100, midnight + HOUR, midnight))
    assert builder.next_due_ns == midnight + 23 * HOUR + GRACE


def test_a_day_that_does_not_begin_with_the_calendars_lasts_24_hours() -> None:
    builder = daily_bars()
    builder.add(daily(100, DAY + 6 * HOUR, DAY + 5 * HOUR))
    assert builder.next_due_ns == DAY + 29 * HOUR + GRACE


@pytest.mark.parametrize(("received", "partial"), [(2 * HOUR, True), (5 * HOUR, False)])
def test_a_day_is_partial_when_no_running_bar_came_after_a_gap(
    received: int, partial: bool
) -> None:
    builder = daily_bars()
    builder.add(daily(100, DAY + received))
    builder.open_gap(DAY + 3 * HOUR)
    assert builder.next_due_ns is None
    builder.close_gap(DAY + 4 * HOUR, filled=False)
    assert builder.advance(DAY + 25 * HOUR)[0].is_partial is partial


def test_a_running_bar_of_long_ago() -> None:
    builder = daily_bars()
    builder.add(daily(100, DAY))
    builder.advance(DAY + 25 * HOUR)
    builder.add(daily(100, DAY, DAY - 10 * 24 * HOUR))
    assert builder.counts.too_late == 1


@pytest.mark.parametrize("field", ["open", "high", "low", "close", "volume", "vwap"])
@pytest.mark.parametrize("figure", ["NaN", "Infinity", "1E+999999"])
def test_what_cannot_be_counted_is_left_out(field: str, figure: str) -> None:
    builder = bar_bars()
    builder.add(bar(0))
    odd: dict[str, Any] = {field: Decimal(figure)}
    builder.add(bar(1, **odd))
    [made] = builder.advance(END + GRACE)
    assert said(made) == figures("10 11 9 10 100 4")
