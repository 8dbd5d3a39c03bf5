from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from realtime_stream.errors import ConfigurationError
from realtime_stream.market.bars import CountedBars, build_bars
from realtime_stream.market.calendar import AlwaysOpen
from realtime_stream.market.models import TradeCancel, TradeCorrection
from realtime_stream.market.timeframe import parse_timeframe
from tests.property.support_bars import GRACE, SECOND, START, said, trade

if TYPE_CHECKING:
    from realtime_stream.market.bars import BarBuilder, BuiltFrom


def counted(timeframe: str) -> BarBuilder:
    spec = parse_timeframe(timeframe)
    return build_bars("AAPL", spec, "trades", calendar=AlwaysOpen(), grace_ns=GRACE)


def feed(builder: BarBuilder, *rows: str, codes: tuple[str, ...] = ()) -> None:
    """Trades a second apart; each row is price and size."""
    for number, row in enumerate(rows):
        price, size = row.split()
        builder.add(trade(START + number * SECOND, price, size, conditions=codes))


def test_a_bar_of_so_many_trades() -> None:
    builder = counted("ticks:3")
    feed(builder, "10 1", "12 2")
    assert builder.advance(START) == []
    builder.add(trade(START + 2 * SECOND, "9", "3"))
    builder.add(trade(START + 3 * SECOND, "9", "3"))
    assert builder.next_due_ns == 0
    [bar] = builder.advance(START + 7)
    assert said(bar) == (Decimal(10), Decimal(12), Decimal(9), Decimal(9), Decimal(6), 3)
    assert str(bar.vwap) == "10.166666666667"
    assert (bar.timestamp_ns, bar.received_ns, bar.timeframe) == (START, START + 7, "ticks:3")
    assert (bar.source, bar.bar_kind, bar.is_partial) == ("built", "regular", False)
    assert builder.advance(START + 8) == []
    assert builder.counts.built == 1


def test_a_bar_of_so_much_volume_never_splits_a_trade() -> None:
    builder = counted("volume:10")
    feed(builder, "10 4", "10 5", "10 100", "10 10", "10 9")
    volumes = [bar.volume for bar in builder.advance(START)]
    assert volumes == [109, 10]


def test_a_bar_of_so_much_turnover() -> None:
    builder = counted("dollars:100.5")
    feed(builder, "10 10", "0.25 2", "50 3")
    assert [bar.volume for bar in builder.advance(START)] == [12, 3]


def test_trades_that_do_not_count_in_the_volume_do_not_count() -> None:
    builder = counted("ticks:2")
    feed(builder, "10 1", "10 1", codes=("M",))
    assert builder.advance(START) == []
    feed(builder, "11 1", "12 1")
    assert [bar.open for bar in builder.advance(START)] == [11]


def test_a_bar_goes_on_until_it_has_a_price() -> None:
    builder = counted("ticks:2")
    feed(builder, "10 1", "10 1", "10 1", codes=("@", "I"))
    assert builder.advance(START) == []
    builder.add(trade(START + 9, "11", "1"))
    [bar] = builder.advance(START)
    assert [bar.open, bar.low, bar.vwap] == [11, 11, 11]
    assert bar.trade_count == 4


def test_times_increase_whatever_the_trades_say() -> None:
    builder = counted("ticks:1")
    for moment in (5, 5, 3, 7, 9):
        builder.add(trade(START + moment))
    starts = [bar.timestamp_ns - START for bar in builder.advance(START)]
    assert starts == [5, 6, 7, 8, 9]


def test_a_gap_makes_the_growing_bar_partial_and_all_until_it_is_closed() -> None:
    builder = counted("ticks:2")
    feed(builder, "10 1")
    builder.open_gap(START)
    builder.open_gap(START)
    feed(builder, "10 1", "10 1", "10 1", "10 1")
    builder.close_gap(START, filled=False)
    builder.gap_filled(START, START)
    builder.history_known_from(START)
    feed(builder, "10 1", "10 1", "10 1")
    assert [bar.is_partial for bar in builder.advance(START)] == [True, True, True, False]


def test_a_gap_that_was_filled_in_time_does_no_harm() -> None:
    builder = counted("ticks:2")
    feed(builder, "10 1")
    builder.open_gap(START)
    builder.close_gap(START, filled=True)
    builder.open_gap(START)
    builder.close_gap(START, filled=False)
    builder.open_gap(START)
    builder.close_gap(START, filled=True)
    feed(builder, "10 1", "10 1", "10 1")
    assert [bar.is_partial for bar in builder.advance(START)] == [True, False]


def test_corrections_and_cancels_are_counted_only() -> None:
    builder = counted("ticks:2")
    feed(builder, "10 1")
    one = Decimal(1)
    builder.cancel(
        TradeCancel(symbol="AAPL", timestamp_ns=1, trade_id=1, price=one, size=one, action="C")
    )
    builder.correct(
        TradeCorrection(
            symbol="AAPL",
            timestamp_ns=1,
            original_id=1,
            original_price=one,
            original_size=one,
            corrected_id=1,
            corrected_price=one,
            corrected_size=one,
        )
    )
    assert builder.counts.unmatched == 2


@pytest.mark.parametrize("source", ["bars", "daily_bars"])
def test_what_is_counted_is_made_of_trades(source: BuiltFrom) -> None:
    with pytest.raises(ConfigurationError, match="timeframe 'ticks:5'"):
        build_bars("A", parse_timeframe("ticks:5"), source, calendar=AlwaysOpen(), grace_ns=0)


def test_daily_bars_make_days_only() -> None:
    with pytest.raises(ConfigurationError, match="timeframe '1h'"):
        build_bars("A", parse_timeframe("1h"), "daily_bars", calendar=AlwaysOpen(), grace_ns=0)


def test_what_is_of_time_is_not_counted() -> None:
    with pytest.raises(ConfigurationError, match="timeframe '1h'"):
        CountedBars("AAPL", parse_timeframe("1h"))


@pytest.mark.parametrize("timeframe", ["ticks:2", "volume:2", "dollars:20"])
@pytest.mark.parametrize("odd", ["NaN 1", "Infinity 1", "10 NaN", "10 Infinity", "1E+999999 1"])
def test_what_cannot_be_counted_is_left_out(odd: str, timeframe: str) -> None:
    builder = counted(timeframe)
    feed(builder, "10 1", odd, "12 1")
    [bar] = builder.advance(START)
    assert said(bar) == (Decimal(10), Decimal(12), Decimal(10), Decimal(12), Decimal(2), 2)


def test_the_first_trade_may_be_of_nothing() -> None:
    builder = counted("ticks:2")
    feed(builder, "20 0", "10 1")
    [bar] = builder.advance(START)
    assert said(bar) == (Decimal(20), Decimal(20), Decimal(10), Decimal(10), Decimal(1), 2)
