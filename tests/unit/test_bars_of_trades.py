from __future__ import annotations

from decimal import Decimal, getcontext, localcontext
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream.market.bars import TradeBars, build_bars
from realtime_stream.market.bars.tally import Tally
from realtime_stream.market.calendar import AlwaysOpen, RegularHours
from realtime_stream.market.models import Bar, TradeCancel, TradeCorrection
from realtime_stream.market.timeframe import Intervals, parse_timeframe
from tests.property.support_bars import GRACE, HOUR, MINUTE, SECOND, START, said, trade, trade_bars

if TYPE_CHECKING:
    from collections.abc import Sequence

    from realtime_stream.market.bars import BarBuilder
    from realtime_stream.market.models import Trade

DUE = START + MINUTE + GRACE


def figures(*values: str | int) -> tuple[Any, ...]:
    return (*map(Decimal, values[:5]), values[5])


def cancel(trade_id: int, now_ns: int, **fields: Any) -> TradeCancel:
    return TradeCancel(**{
        "symbol": "AAPL",
        "timestamp_ns": now_ns,
        "received_ns": now_ns,
        "trade_id": trade_id,
        "exchange": "V",
        "price": Decimal(1),
        "size": Decimal(1),
        "action": "C",
        **fields,
    })


def correction(trade_id: int, now_ns: int, price: str, size: str, *codes: str) -> TradeCorrection:
    return TradeCorrection(
        symbol="AAPL",
        timestamp_ns=now_ns,
        received_ns=now_ns,
        exchange="V",
        original_id=trade_id,
        original_price=Decimal(1),
        original_size=Decimal(1),
        corrected_id=trade_id + 1000,
        corrected_price=Decimal(price),
        corrected_size=Decimal(size),
        corrected_conditions=codes,
    )


# --- what a bar says ---


def test_a_bar() -> None:
    builder = trade_bars()
    for second, price, size in [(0, "10.10", "3"), (5, "10.50", "1"), (59, "10.2", "2.5")]:
        builder.add(trade(START + second * SECOND, price, size))
    assert builder.advance(DUE) == [
        Bar(
            symbol="AAPL",
            timestamp_ns=START,
            open=Decimal("10.10"),
            high=Decimal("10.50"),
            low=Decimal("10.10"),
            close=Decimal("10.2"),
            volume=Decimal("6.5"),
            trade_count=3,
            vwap=Decimal("10.2"),
            timeframe="1m",
        )
    ]


def test_what_says_how_it_came() -> None:
    builder = trade_bars()
    builder.add(trade(START, "10.10"))
    [bar] = builder.advance(DUE + 5)
    assert (bar.source, bar.received_ns, bar.bar_kind) == ("built", DUE + 5, "regular")
    assert [bar.is_partial, bar.is_filled, bar.is_late] == [False] * 3
    assert str(bar.open) == "10.10"


def test_the_average_has_twelve_decimals_at_most_and_no_trailing_zeros() -> None:
    builder = trade_bars()
    builder.add(trade(START, "10", "1"))
    builder.add(trade(START, "11", "2"))
    builder.add(trade(START + MINUTE, "100", "2"))
    first, second = builder.advance(DUE + MINUTE)
    assert str(first.vwap) == "10.666666666667"
    assert str(second.vwap) == "100"


def test_the_threads_decimal_context_does_not_matter() -> None:
    builder = trade_bars()
    builder.add(trade(START, "61845.11000001", "123456.78900001"))
    builder.add(trade(START, "61845.11000002", "0.00000001"))
    with localcontext(prec=3):
        [bar] = builder.advance(DUE)
        assert getcontext().prec == 3
    assert str(bar.volume) == "123456.78900002"
    assert str(bar.vwap) == "61845.11000001"


def test_trades_of_one_moment_are_in_the_order_of_their_ids() -> None:
    rows = [(7, "10"), (100, "11"), (9, "12")]
    for order in (rows, rows[::-1]):
        builder = trade_bars()
        for number, price in order:
            builder.add(trade(START, price, trade_id=number))
        [bar] = builder.advance(DUE)
        assert (bar.open, bar.close) == (Decimal(10), Decimal(11))


@pytest.mark.parametrize("ids", [(None, None), ("a", "b"), (1, "b"), (1, None)])
def test_trades_of_one_moment_have_one_order_whatever_their_ids(ids: tuple[Any, Any]) -> None:
    rows = [trade(START, "10", trade_id=ids[0]), trade(START, "11", trade_id=ids[1])]
    bars = []
    for order in (rows, rows[::-1]):
        builder = trade_bars()
        for each in order:
            builder.add(each)
        bars += builder.advance(DUE)
    assert bars[0] == bars[1]


@pytest.mark.parametrize("codes", [("@", "I"), ("M",), ("9",), ("@", "4")])
def test_without_a_trade_that_may_be_the_price_there_is_no_bar(codes: tuple[str, ...]) -> None:
    builder = trade_bars()
    builder.add(trade(START, conditions=codes))
    assert builder.advance(DUE) == []
    assert builder.next_due_ns is None


def test_an_odd_lot_counts_in_the_volume_only() -> None:
    builder = trade_bars()
    builder.add(trade(START, "9", "10", conditions=("@", "I")))
    builder.add(trade(START + 1, "10", "100", conditions=("@",)))
    builder.add(trade(START + 2, "11", "10", conditions=("@", "I")))
    [bar] = builder.advance(DUE)
    assert said(bar) == figures("10", "10", "10", "10", "120", 3)
    assert bar.vwap == 10


def day_of(*rows: tuple[int, str, str, tuple[str, ...]]) -> Bar:
    builder = trade_bars("1d")
    for moment, price, size, codes in rows:
        builder.add(trade(START + moment, price, size, conditions=codes))
    [bar] = builder.advance(START + 48 * HOUR)
    return bar


def test_a_daily_bar_has_a_column_of_its_own() -> None:
    bar = day_of((0, "9", "5", ("@", "T")), (1, "10", "1", ("@",)), (2, "12", "1", ("9",)))
    assert said(bar) == figures("10", "12", "10", "12", "6", 2)
    assert bar.vwap == 10  # only what counts both in the volume and in high and low


def test_without_volume_there_is_no_daily_bar() -> None:
    builder = trade_bars("1d")
    builder.add(trade(START, conditions=("9",)))
    assert builder.advance(START + 48 * HOUR) == []


def test_some_trades_are_the_open_of_a_day_only_if_they_are_the_first() -> None:
    bar = day_of((0, "9", "1", ("@", "4")), (1, "10", "1", ("@",)), (2, "8", "1", ("@", "4")))
    assert said(bar) == figures("9", "10", "8", "10", "3", 3)
    alone = day_of((0, "9", "1", ("@", "4")), (1, "10", "1", ("@", "4")))
    assert said(alone) == figures("9", "10", "9", "9", "2", 2)


# --- when ---


def test_it_is_closed_by_the_clock_after_the_grace_period() -> None:
    builder = trade_bars()
    assert builder.advance(DUE) == []
    builder.add(trade(START + 1))
    assert builder.next_due_ns == DUE
    assert builder.advance(DUE - 1) == []
    assert [bar.timestamp_ns for bar in builder.advance(DUE)] == [START]
    assert builder.next_due_ns is None


def test_several_open_intervals_are_closed_in_order() -> None:
    builder = trade_bars()
    for minute in (2, 0, 1):
        builder.add(trade(START + minute * MINUTE))
    assert builder.next_due_ns == DUE
    starts = [bar.timestamp_ns for bar in builder.advance(DUE + MINUTE)]
    assert starts == [START, START + MINUTE]
    assert builder.next_due_ns == DUE + 2 * MINUTE


def test_a_trade_within_the_grace_counts_silently() -> None:
    builder = trade_bars()
    builder.add(trade(START, "10"))
    builder.add(trade(START + MINUTE, "12"))
    builder.add(trade(START + MINUTE - 1, "11", received_ns=START + MINUTE + 1))
    [bar] = builder.advance(DUE)
    assert said(bar) == figures("10", "11", "10", "11", "2", 2)
    assert builder.counts.late == 0


def test_the_days_of_a_stock_are_those_of_new_york() -> None:
    builder = TradeBars("AAPL", Intervals(parse_timeframe("1d"), RegularHours()), grace_ns=GRACE)
    midnight = 1_710_046_800 * SECOND  # 2024-03-10 05:00 UTC: a day of 23 hours
    builder.add(trade(midnight - 1))
    builder.add(trade(midnight))
    builder.add(trade(midnight + 23 * HOUR - 1))
    builder.add(trade(midnight + 23 * HOUR))
    bars = builder.advance(midnight + 48 * HOUR)
    assert [(bar.timestamp_ns - midnight, bar.trade_count) for bar in bars] == [
        (-24 * HOUR, 1),
        (0, 2),
        (23 * HOUR, 1),
    ]


# --- late trades ---


def test_a_late_trade_gives_an_updated_bar_after_the_grace_period() -> None:
    builder = trade_bars()
    builder.add(trade(START, "10"))
    builder.add(trade(START + MINUTE))
    builder.advance(DUE)
    builder.advance(DUE + MINUTE)
    received = DUE + MINUTE + 10 * SECOND
    for delay, price in ((0, "11"), (SECOND, "9")):  # a burst
        builder.add(trade(START + 1 + delay, price, received_ns=received + delay))
    assert builder.next_due_ns == received + GRACE
    assert builder.advance(received + GRACE - 1) == []
    [bar] = builder.advance(received + GRACE)
    assert said(bar) == figures("10", "11", "9", "9", "3", 3)
    assert (bar.bar_kind, bar.is_late) == ("updated", False)
    counts = builder.counts
    assert (counts.built, counts.updated, counts.late) == (2, 1, 2)
    assert builder.next_due_ns is None


def test_a_late_trade_that_changes_nothing_gives_no_update() -> None:
    builder = trade_bars()
    builder.add(trade(START))
    builder.advance(DUE)
    builder.add(trade(START, conditions=("M",), received_ns=DUE))
    assert builder.advance(DUE + GRACE) == []
    assert (builder.counts.late, builder.counts.updated) == (1, 0)


def test_a_first_bar_that_comes_late_is_a_regular_one() -> None:
    builder = trade_bars()
    builder.add(trade(START, conditions=("I",)))
    builder.add(trade(START + MINUTE))
    builder.advance(DUE + MINUTE)
    builder.add(trade(START, received_ns=DUE + MINUTE))
    [bar] = builder.advance(DUE + MINUTE + GRACE)
    assert (bar.timestamp_ns, bar.bar_kind, str(bar.volume)) == (START, "regular", "2")
    assert bar.is_late  # newer bars have been emitted
    assert builder.counts.late == 1


def test_what_comes_after_two_hours_changes_nothing() -> None:
    builder = trade_bars()
    for minute in (0, 1, 121):
        builder.add(trade(START + minute * MINUTE))
    builder.advance(DUE + 121 * MINUTE)
    builder.add(trade(START, received_ns=DUE + 121 * MINUTE))
    builder.add(trade(START + MINUTE, received_ns=DUE + 121 * MINUTE))
    builder.add(trade(START + 2 * MINUTE, received_ns=DUE + 121 * MINUTE))
    bars = builder.advance(DUE + 122 * MINUTE)
    assert [bar.timestamp_ns for bar in bars] == [START + 2 * MINUTE]
    assert (builder.counts.too_late, builder.counts.late) == (2, 1)


@pytest.mark.parametrize(("timeframe", "kept"), [("1s", 1800), ("1m", 120), ("5m", 24), ("1h", 8)])
def test_how_many_intervals_are_kept(timeframe: str, kept: int) -> None:
    length = parse_timeframe(timeframe).ns or 0
    builder = trade_bars(timeframe)
    first = START - START % length
    for number in range(kept + 2):
        builder.add(trade(first + number * length))
    builder.advance(first + (kept + 2) * length + GRACE)
    for number in (0, 1, 2, kept + 1):
        builder.add(trade(first + number * length))
    assert (builder.counts.too_late, builder.counts.late) == (2, 2)


def test_a_very_long_interval_keeps_sums_of_its_oldest_trades() -> None:
    builder = trade_bars("1h", most_trades=100)
    first = START - START % HOUR
    for number in range(3000):
        builder.add(trade(first + number * SECOND, str(10 + number % 7), trade_id=number))
    builder.cancel(cancel(0, first))
    builder.cancel(cancel(2999, first))
    assert (builder.counts.unmatched, builder.counts.corrected) == (1, 1)
    builder.add(trade(first, "5", exchange="A"))  # older than all that was summed up
    [bar] = builder.advance(first + HOUR + GRACE)
    assert said(bar) == figures("5", "16", "5", str(10 + 2998 % 7), "3000", 3000)


def test_older_intervals_keep_sums_when_there_are_many_trades() -> None:
    builder = trade_bars(most_trades=100)
    for minute in range(4):
        for number in range(60):
            builder.add(trade(START + minute * MINUTE + number, trade_id=minute * 100 + number))
    builder.advance(DUE + 3 * MINUTE)
    for number in (5, 105, 205, 305):
        builder.cancel(cancel(number, DUE))
    assert (builder.counts.unmatched, builder.counts.corrected) == (2, 2)
    builder.add(trade(START, "12", received_ns=DUE, exchange="A"))
    updates = builder.advance(DUE + 4 * MINUTE)
    assert [(bar.timestamp_ns, str(bar.volume), str(bar.open)) for bar in updates] == [
        (START, "61", "12"),
        (START + 2 * MINUTE, "59", "10"),
        (START + 3 * MINUTE, "59", "10"),
    ]


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_no_more_trades_are_kept_than_asked_for(batch: int) -> None:
    builder = trade_bars(most_trades=5, batch=batch)
    for number in range(60):
        builder.add(trade(START + number, trade_id=number))
    for number in range(60):
        builder.cancel(cancel(number, DUE))
    assert 1 <= builder.counts.corrected <= 5


# --- figures nobody can count with, which validation may be told to let pass ---


@pytest.mark.parametrize("batch", [1, 3, 64])
@pytest.mark.parametrize("at", [0, 6, 70])
@pytest.mark.parametrize(
    ("price", "size"),
    [
        ("NaN", "1"),
        ("Infinity", "1"),
        ("10", "Infinity"),
        ("10", "sNaN"),
        ("1E+600000", "1E+600000"),
    ],
)
def test_what_cannot_be_counted_is_left_out(price: str, size: str, at: int, batch: int) -> None:
    builder = trade_bars(most_trades=50, batch=batch)
    for number in range(130):
        is_odd = number == at
        builder.add(
            trade(
                START + number,
                price if is_odd else str(11 + number % 2),
                size if is_odd else "1",
                trade_id=number,
            )
        )
    builder.add(trade(START + 130, "0", trade_id=130))
    [bar] = builder.advance(DUE)
    assert (str(bar.high), str(bar.low)) == ("12", "0")
    assert (str(bar.volume), bar.trade_count) == ("130", 130)
    builder.add(trade(START + 131, "13", received_ns=DUE, trade_id=131))
    [update] = builder.advance(DUE + MINUTE)
    assert (str(update.high), str(update.volume)) == ("13", "131")


@pytest.mark.parametrize("at", [0, 5, 130])
def test_the_average_does_not_depend_on_when_something_huge_was_traded(at: int) -> None:
    builder = trade_bars()
    for number in range(130):
        if number == at:
            builder.add(trade(START + number, size="1E+90", conditions=("@", "I")))
        builder.add(trade(START + number, str(10 + number % 2)))
    if at == 130:
        builder.add(trade(START + at, size="1E+90", conditions=("@", "I")))
    [bar] = builder.advance(DUE)
    assert bar.vwap == Decimal("10.5")


def test_a_price_of_a_hundred_digits_has_an_average() -> None:
    builder = trade_bars()
    builder.add(trade(START, "1E+100", "2"))
    [bar] = builder.advance(DUE)
    assert bar.vwap == Decimal("1E+100")


# --- corrections ---


@pytest.mark.parametrize("every", [2, 7, 64])
def test_an_interval_of_which_much_is_taken_back_is_not_summed_up_each_time(
    every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = 0

    def take(self: Tally, trades: Sequence[Trade]) -> None:
        nonlocal counted
        counted += len(trades)
        real(self, trades)

    real = Tally.take
    monkeypatch.setattr(Tally, "take", take)
    builder = trade_bars(batch=64)
    for number in range(5000):
        builder.add(trade(START + number, trade_id=number))
        if number % every == 0:
            builder.cancel(cancel(number, START + number))
    [bar] = builder.advance(DUE)
    kept = 5000 - len(range(0, 5000, every))
    assert bar.trade_count == kept
    assert counted <= 2 * 5000


@pytest.mark.parametrize("number", [0, 63, 64, 199])
def test_a_trade_is_taken_back_that_was_summed_up_with_others(number: int) -> None:
    builder = trade_bars()
    for each in range(200):
        price = "99" if each == number else str(10 + each % 7)
        builder.add(trade(START + each, price, trade_id=each))
    builder.cancel(cancel(number, START + 200))
    builder.add(trade(START + 200, "12", trade_id=200))
    [bar] = builder.advance(DUE)
    kept = [10 + each % 7 for each in range(200) if each != number]
    assert (str(bar.open), str(bar.high), str(bar.low)) == (str(kept[0]), "16", "10")
    assert (str(bar.close), str(bar.volume), bar.trade_count) == ("12", "200", 200)


def test_a_correction_of_an_open_bar() -> None:
    builder = trade_bars()
    builder.add(trade(START, "10", trade_id=1))
    builder.add(trade(START + 1, "100", trade_id=2))
    builder.correct(correction(2, START + 2, "11", "5"))
    [bar] = builder.advance(DUE)
    assert said(bar) == figures("10", "11", "10", "11", "6", 2)
    assert (bar.bar_kind, builder.counts.corrected) == ("regular", 1)


def test_a_correction_of_an_emitted_bar_gives_an_updated_one() -> None:
    builder = trade_bars()
    builder.add(trade(START, "10", trade_id=1))
    builder.add(trade(START + 1, "100", trade_id=2))
    builder.advance(DUE)
    builder.correct(correction(2, DUE + 5, "11", "5", "@", "I"))
    assert builder.advance(DUE + GRACE) == []
    [bar] = builder.advance(DUE + 5 + GRACE)
    assert said(bar) == figures("10", "10", "10", "10", "6", 2)
    assert bar.bar_kind == "updated"
    builder.correct(correction(1002, DUE + MINUTE, "12", "5"))  # by its new id
    [bar] = builder.advance(DUE + 2 * MINUTE)
    assert said(bar) == figures("10", "12", "10", "12", "6", 2)


def test_a_cancel_takes_a_trade_back() -> None:
    builder = trade_bars()
    builder.add(trade(START, "10", trade_id=1))
    builder.add(trade(START + 1, "100", trade_id=2))
    builder.advance(DUE)
    builder.cancel(cancel(2, DUE))
    [bar] = builder.advance(DUE + GRACE)
    assert said(bar) == figures("10", "10", "10", "10", "1", 1)
    assert (bar.bar_kind, builder.counts.corrected) == ("updated", 1)


@pytest.mark.parametrize("wrong", [{"trade_id": 2}, {"exchange": "K"}, {"exchange": None}])
def test_what_is_not_known_is_counted(wrong: dict[str, Any]) -> None:
    builder = trade_bars()
    builder.add(trade(START, trade_id=1))
    builder.cancel(cancel(**{"trade_id": 1, "now_ns": START, **wrong}))
    builder.correct(correction(5, START, "1", "1"))
    assert builder.counts.unmatched == 2
    assert len(builder.advance(DUE)) == 1


def test_a_bar_of_which_nothing_is_left_says_so() -> None:
    builder = trade_bars()
    builder.add(trade(START, "9", trade_id=1))
    builder.add(trade(START + MINUTE, "10", trade_id=2))
    builder.advance(DUE + MINUTE)
    builder.cancel(cancel(2, DUE + MINUTE))
    [bar] = builder.advance(DUE + MINUTE + GRACE)
    assert said(bar) == figures("9", "9", "9", "9", "0", 0)  # the close before goes on
    assert (bar.bar_kind, bar.is_filled, bar.vwap) == ("updated", True, None)
    builder.add(trade(START + MINUTE, "11", trade_id=3, received_ns=DUE + MINUTE))
    [bar] = builder.advance(DUE + 2 * MINUTE)
    assert said(bar) == figures("11", "11", "11", "11", "1", 1)
    assert (bar.bar_kind, bar.is_filled) == ("updated", False)


def test_the_only_bar_of_which_nothing_is_left_keeps_its_open() -> None:
    builder = trade_bars()
    builder.add(trade(START, "9", trade_id=1))
    builder.advance(DUE)
    builder.cancel(cancel(1, DUE))
    [bar] = builder.advance(DUE + GRACE)
    assert said(bar) == figures("9", "9", "9", "9", "0", 0)


# --- gaps ---


def test_a_gap_holds_what_it_touches_and_all_that_is_newer() -> None:
    builder = trade_bars()
    for minute in range(4):
        builder.add(trade(START + minute * MINUTE))
    builder.open_gap(START + MINUTE)  # the first minute ended just before
    assert [bar.timestamp_ns for bar in builder.advance(START + HOUR)] == [START]
    assert builder.next_due_ns is None
    builder.add(trade(START + MINUTE + 1, "12"))
    builder.close_gap(START + 2 * MINUTE, filled=True)
    bars = builder.advance(START + HOUR)
    assert [bar.timestamp_ns for bar in bars] == [START + n * MINUTE for n in (1, 2, 3)]
    assert bars[0].close == 12
    assert not any(bar.is_partial for bar in bars)


def test_a_gap_that_was_not_filled_leaves_partial_bars() -> None:
    builder = trade_bars()
    for minute in range(4):
        builder.add(trade(START + minute * MINUTE))
    builder.open_gap(START + MINUTE + 5)
    builder.open_gap(START + 3 * MINUTE)  # the earlier start stands
    assert builder.next_due_ns == DUE
    builder.close_gap(START + 2 * MINUTE + 5, filled=False)
    bars = builder.advance(START + HOUR)
    assert [bar.is_partial for bar in bars] == [False, True, True, False]


def test_an_emitted_bar_that_turns_out_to_be_partial_is_emitted_again() -> None:
    builder = trade_bars()
    builder.add(trade(START))
    builder.advance(DUE)
    builder.open_gap(START + MINUTE - 1)  # the drop was noticed only after the bar
    builder.close_gap(DUE + 5, filled=False)
    assert builder.next_due_ns == 0
    [bar] = builder.advance(DUE + 5)
    assert (bar.bar_kind, bar.is_partial) == ("updated", True)
    builder.gap_filled(START, DUE + 5)
    [bar] = builder.advance(DUE + 6)
    assert (bar.bar_kind, bar.is_partial) == ("updated", False)
    assert builder.next_due_ns is None


def test_a_gap_filled_in_part() -> None:
    builder = trade_bars()
    for minute in range(4):
        builder.add(trade(START + minute * MINUTE))
    builder.open_gap(START)
    builder.close_gap(START + 4 * MINUTE, filled=False)
    builder.gap_filled(START + MINUTE, START + 3 * MINUTE)
    assert [bar.is_partial for bar in builder.advance(START + HOUR)] == [True, False, False, True]


def test_one_gap_after_another() -> None:
    builder = trade_bars()
    for minute in range(6):
        builder.add(trade(START + minute * MINUTE))
    for begin in (0, 2, 4):
        builder.open_gap(START + begin * MINUTE)
        builder.close_gap(START + (begin + 1) * MINUTE, filled=begin == 2)
    partial = [bar.is_partial for bar in builder.advance(START + HOUR)]
    assert partial == [True, False, False, False, True, False]


def test_a_late_trade_waits_while_a_gap_holds_its_interval() -> None:
    builder = trade_bars()
    builder.add(trade(START))
    builder.advance(DUE)
    builder.open_gap(START + MINUTE - 1)
    builder.add(trade(START + 5, received_ns=DUE))
    assert builder.next_due_ns is None
    assert builder.advance(START + HOUR) == []
    builder.close_gap(DUE, filled=True)
    [bar] = builder.advance(START + HOUR)
    assert (bar.bar_kind, str(bar.volume)) == ("updated", "2")


def test_closing_a_gap_that_is_not_open_does_nothing() -> None:
    builder = trade_bars()
    builder.close_gap(START + MINUTE, filled=False)
    builder.add(trade(START))
    assert not builder.advance(DUE)[0].is_partial


# --- where watching began ---


@pytest.mark.parametrize(("since", "partial"), [(0, False), (1, True), (MINUTE - 1, True)])
def test_the_interval_in_which_watching_began_is_partial(since: int, partial: bool) -> None:
    builder = trade_bars(since_ns=START + since)
    builder.add(trade(START + MINUTE - 1))
    builder.add(trade(START + MINUTE))
    bars = builder.advance(DUE + MINUTE)
    assert [bar.is_partial for bar in bars] == [partial, False]


def test_history_is_of_no_concern_when_nothing_was_missed() -> None:
    builder = trade_bars()
    builder.add(trade(START))
    builder.advance(DUE)
    builder.history_known_from(START)
    assert builder.advance(DUE) == []


def test_history_from_before_makes_it_whole() -> None:
    builder = trade_bars(since_ns=START + 30 * SECOND)
    builder.add(trade(START + 31 * SECOND))
    [bar] = builder.advance(DUE)
    assert bar.is_partial
    builder.add(trade(START, "9", received_ns=DUE))
    builder.history_known_from(START)
    [bar] = builder.advance(DUE + GRACE)
    assert (bar.bar_kind, bar.is_partial, str(bar.open)) == ("updated", False, "9")


# --- by way of minutes ---


def larger(timeframe: str = "5m", **settings: Any) -> BarBuilder:
    spec = parse_timeframe(timeframe)
    settings = {"calendar": AlwaysOpen(), "grace_ns": GRACE, **settings}
    return build_bars("AAPL", spec, "trades", **settings)


FIVE = START - START % (5 * MINUTE)


def test_a_minute_without_a_price_is_not_in_the_larger_bar() -> None:
    builder = larger()
    builder.add(trade(FIVE, "10", "1"))
    builder.add(trade(FIVE + MINUTE, "11", "7", conditions=("I",)))
    assert builder.next_due_ns == FIVE + MINUTE + GRACE
    assert builder.advance(FIVE + 3 * MINUTE) == []
    assert builder.next_due_ns == FIVE + 5 * MINUTE + GRACE
    [bar] = builder.advance(FIVE + 5 * MINUTE + GRACE)
    assert said(bar) == figures("10", "10", "10", "10", "1", 1)
    assert (bar.timeframe, bar.timestamp_ns) == ("5m", FIVE)
    assert builder.next_due_ns is None


def test_late_corrected_and_cancelled_trades_update_the_larger_bar() -> None:
    builder = larger()
    builder.add(trade(FIVE, "10", trade_id=1))
    builder.add(trade(FIVE + MINUTE, "11", trade_id=2))
    now = FIVE + 6 * MINUTE
    builder.advance(now)
    builder.add(trade(FIVE + 1, "9", trade_id=3, received_ns=now))
    assert builder.next_due_ns == now + GRACE
    [bar] = builder.advance(now + GRACE)
    assert (bar.bar_kind, said(bar)) == ("updated", figures("10", "11", "9", "11", "3", 3))
    builder.cancel(cancel(2, now))
    [bar] = builder.advance(now + 2 * GRACE)
    assert (bar.bar_kind, said(bar)) == ("updated", figures("10", "10", "9", "9", "2", 2))
    builder.correct(correction(1, now, "12", "2"))
    [bar] = builder.advance(now + 3 * GRACE)
    assert (bar.bar_kind, said(bar)) == ("updated", figures("12", "12", "9", "9", "3", 2))
    counts = builder.counts
    assert (counts.built, counts.updated, counts.late, counts.corrected) == (1, 3, 1, 2)
    for number in (3, 1001):
        builder.cancel(cancel(number, now))
    [bar] = builder.advance(now + 4 * GRACE)
    assert (bar.bar_kind, bar.is_filled, str(bar.volume)) == ("updated", True, "0")


def test_a_gap_holds_the_larger_bar_and_makes_it_partial() -> None:
    builder = larger()
    builder.add(trade(FIVE))
    builder.open_gap(FIVE + 2 * MINUTE)
    assert builder.advance(FIVE + HOUR) == []
    assert builder.next_due_ns is None
    builder.close_gap(FIVE + 3 * MINUTE, filled=False)
    [bar] = builder.advance(FIVE + HOUR)
    assert (bar.bar_kind, bar.is_partial) == ("regular", True)  # though no minute bar is
    builder.gap_filled(FIVE + 2 * MINUTE, FIVE + 3 * MINUTE)
    [bar] = builder.advance(FIVE + HOUR)
    assert (bar.bar_kind, bar.is_partial) == ("updated", False)


def test_it_is_due_when_a_minute_or_the_larger_bar_is() -> None:
    builder = larger()
    builder.add(trade(FIVE))
    builder.advance(FIVE + 2 * MINUTE)
    builder.add(trade(FIVE + 3 * MINUTE))
    assert builder.next_due_ns == FIVE + 4 * MINUTE + GRACE
    builder.advance(FIVE + 4 * MINUTE + GRACE)
    builder.add(trade(FIVE + 5 * MINUTE))
    assert builder.next_due_ns == FIVE + 5 * MINUTE + GRACE


def test_the_larger_bar_in_which_watching_began_is_partial() -> None:
    builder = larger(since_ns=FIVE + 2 * MINUTE)
    builder.add(trade(FIVE + 3 * MINUTE))
    assert builder.advance(FIVE + HOUR)[0].is_partial
    builder.history_known_from(FIVE)
    assert not builder.advance(FIVE + HOUR)[0].is_partial


def test_sessions_cut_the_larger_bars() -> None:
    opens = 1_709_649_000 * SECOND  # 2024-03-05 14:30 UTC
    builder = larger("1h", calendar=RegularHours(), alignment="session")
    for moment in (opens - 1, opens, opens + 60 * MINUTE, opens + 390 * MINUTE - 1):
        builder.add(trade(moment))
    assert [bar.timestamp_ns - opens for bar in builder.advance(opens + 24 * HOUR)] == [
        -30 * MINUTE,
        0,
        60 * MINUTE,
        360 * MINUTE,
    ]
