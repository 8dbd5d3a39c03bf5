"""Bars of trades do not depend on how the trades come, only on what they are."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_stream.market.bars import build_bars
from realtime_stream.market.calendar import AlwaysOpen
from realtime_stream.market.models import Trade, TradeCancel, TradeCorrection
from realtime_stream.market.timeframe import parse_timeframe
from tests.property.support_bars import (
    CONDITIONS,
    GRACE,
    HOUR,
    MINUTE,
    SECOND,
    START,
    average_price,
    bar_bars,
    expected_bars,
    last_said,
    merged,
    said,
    trade,
    trade_bars,
    trade_lists,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from realtime_stream.market.bars import BarBuilder
    from realtime_stream.market.models import Bar

T = TypeVar("T")

FAR = START + 400 * HOUR
DIRECT = {"1s": SECOND, "5s": 5 * SECOND, "30s": 30 * SECOND, "1m": MINUTE, "1d": 24 * HOUR}
BY_MINUTES = {"2m": 2 * MINUTE, "5m": 5 * MINUTE, "15m": 15 * MINUTE, "1h": HOUR, "4h": 4 * HOUR}
timeframes = st.sampled_from([*DIRECT, *BY_MINUTES])


def builder_of(timeframe: str) -> BarBuilder:
    if timeframe in DIRECT:
        return trade_bars(timeframe)
    return build_bars(
        "AAPL", parse_timeframe(timeframe), "trades", calendar=AlwaysOpen(), grace_ns=GRACE
    )


def reference(trades: Sequence[Trade], timeframe: str) -> dict[int, tuple[Any, ...]]:
    if timeframe in DIRECT:
        return expected_bars(trades, DIRECT[timeframe], daily=timeframe == "1d")
    return merged(expected_bars(trades, MINUTE), BY_MINUTES[timeframe])


def one_each(trades: Sequence[Trade], what: st.SearchStrategy[T]) -> st.SearchStrategy[list[T]]:
    return st.lists(what, min_size=len(trades), max_size=len(trades))


def received_at(trades: Sequence[Trade], delays: Sequence[int]) -> list[Trade]:
    """The trades in the order they are received, each so much after its time."""
    moved = [
        trade(
            each.timestamp_ns,
            each.price,
            each.size,
            exchange=each.exchange,
            trade_id=each.trade_id,
            conditions=each.conditions,
            received_ns=each.timestamp_ns + delay,
        )
        for each, delay in zip(trades, delays, strict=True)
    ]
    return sorted(moved, key=lambda each: each.received_ns)


@settings(deadline=None)  # a busy machine is no failure
@given(st.data(), timeframes)
def test_neither_batches_nor_order_within_the_grace_change_a_bar(
    data: st.DataObject, timeframe: str
) -> None:
    trades = data.draw(trade_lists(span_ns=20 * MINUTE))
    delays = data.draw(one_each(trades, st.integers(0, GRACE - 1)))
    ends = data.draw(one_each(trades, st.booleans()))
    builder, bars = builder_of(timeframe), []
    for each, is_end in zip(received_at(trades, delays), ends, strict=True):
        builder.add(each)
        if is_end:
            bars += builder.advance(each.received_ns)
    bars += builder.advance(FAR)
    assert {bar.timestamp_ns: said(bar) for bar in bars} == reference(trades, timeframe)
    assert all(a.timestamp_ns < b.timestamp_ns for a, b in pairwise(bars))
    assert {bar.bar_kind for bar in bars} <= {"regular"}
    assert builder.counts.late == 0
    assert builder.next_due_ns is None


@settings(deadline=None)  # a busy machine is no failure
@given(st.data(), timeframes)
def test_any_order_gives_the_same_bars(data: st.DataObject, timeframe: str) -> None:
    trades = data.draw(trade_lists(span_ns=20 * MINUTE))
    builders = [builder_of(timeframe), builder_of(timeframe)]
    for order, builder in zip([trades, data.draw(st.permutations(trades))], builders, strict=True):
        for each in order:
            builder.add(each)
    first, second = (builder.advance(FAR) for builder in builders)
    assert first == second


@settings(deadline=None)  # a busy machine is no failure
@given(
    trade_lists(span_ns=3 * HOUR, regular=True),
    st.sampled_from([
        ("1s", "1m"),
        ("5s", "30s"),
        ("1m", "5m"),
        ("1m", "1h"),
        ("5m", "15m"),
        ("15m", "4h"),
    ]),
)
def test_bars_of_bars_equal_bars_of_trades(trades: list[Trade], frames: tuple[str, str]) -> None:
    smaller, larger = frames
    of_trades, parts, of_bars = trade_bars(larger), trade_bars(smaller), bar_bars(larger)
    for each in trades:
        of_trades.add(each)
        parts.add(each)
    for part in parts.advance(FAR):
        of_bars.add(part)
    first, second = of_trades.advance(FAR), of_bars.advance(FAR)
    assert [(bar.timestamp_ns, said(bar)) for bar in first] == [
        (bar.timestamp_ns, said(bar)) for bar in second
    ]
    for mine, other in zip(first, second, strict=True):
        assert mine.vwap is not None
        assert other.vwap is not None
        assert abs(mine.vwap - other.vwap) <= mine.vwap * Decimal("1e-9")


@settings(deadline=None)  # a busy machine is no failure
@given(trade_lists(span_ns=3 * MINUTE, regular=True))
def test_the_average_price_is_that_of_the_trades(trades: list[Trade]) -> None:
    builder = trade_bars("1m")
    groups = defaultdict(list)
    for each in trades:
        builder.add(each)
        groups[each.timestamp_ns // MINUTE * MINUTE].append(each)
    for bar in builder.advance(FAR):
        exact = average_price(groups[bar.timestamp_ns])
        assert bar.vwap is not None
        assert abs(bar.vwap - exact) <= Decimal("0.5e-12")
        assert -12 <= int(bar.vwap.as_tuple().exponent) <= 0


class Changes:
    """Applies corrections and cancels both to a builder and to the plain list of trades."""

    def __init__(self, builder: BarBuilder) -> None:
        self.builder = builder
        self.trades: list[Trade] = []

    def add(self, each: Trade) -> None:
        self.builder.add(each)
        self.trades.append(each)

    def cancel(self, index: int, now_ns: int) -> None:
        gone = self.trades.pop(index)
        assert isinstance(gone.trade_id, int)
        self.builder.cancel(
            TradeCancel(
                symbol="AAPL",
                timestamp_ns=now_ns,
                received_ns=now_ns,
                trade_id=gone.trade_id,
                exchange=gone.exchange,
                price=gone.price,
                size=gone.size,
                action="C",
            )
        )

    def correct(self, index: int, now_ns: int, conditions: tuple[str, ...]) -> None:
        wrong = self.trades[index]
        assert isinstance(wrong.trade_id, int)
        right = trade(
            wrong.timestamp_ns,
            wrong.price + 1,
            wrong.size * 2,
            exchange=wrong.exchange,
            trade_id=wrong.trade_id + 10_000,
            conditions=conditions,
        )
        self.trades[index] = right
        self.builder.correct(
            TradeCorrection(
                symbol="AAPL",
                timestamp_ns=now_ns,
                received_ns=now_ns,
                exchange=wrong.exchange,
                original_id=wrong.trade_id,
                original_price=wrong.price,
                original_size=wrong.size,
                corrected_id=wrong.trade_id + 10_000,
                corrected_price=right.price,
                corrected_size=right.size,
                corrected_conditions=conditions,
            )
        )


@settings(deadline=None)  # a busy machine is no failure
@given(st.data(), st.sampled_from(["1m", "5s", "5m", "1d"]))
def test_whatever_comes_late_is_corrected_or_taken_back_the_last_bar_is_right(
    data: st.DataObject, timeframe: str
) -> None:
    trades = data.draw(trade_lists(span_ns=10 * MINUTE))
    delays = data.draw(one_each(trades, st.integers(0, 8 * MINUTE)))
    builder = builder_of(timeframe)
    world, bars = Changes(builder), []
    for each in received_at(trades, delays):
        world.add(each)
        now = each.received_ns
        what = data.draw(st.sampled_from(["nothing", "nothing", "cancel", "correct"]))
        if what != "nothing" and world.trades:
            index = data.draw(st.integers(0, len(world.trades) - 1))
            if what == "cancel":
                world.cancel(index, now)
            else:
                world.correct(index, now, data.draw(st.sampled_from(sorted(CONDITIONS))))
        if data.draw(st.booleans()):
            bars += builder.advance(now)
    bars += builder.advance(FAR)
    assert last_said(bars) == reference(world.trades, timeframe)
    assert_first_ones_are_regular(bars)
    assert builder.counts.unmatched == builder.counts.too_late == 0


def assert_first_ones_are_regular(bars: Sequence[Bar]) -> None:
    seen: set[int] = set()
    for bar in bars:
        assert bar.bar_kind == ("updated" if bar.timestamp_ns in seen else "regular")
        seen.add(bar.timestamp_ns)


@settings(deadline=None)  # a busy machine is no failure
@given(st.data(), st.sampled_from(["1m", "5s", "5m"]))
def test_a_gap_keeps_order_whatever_fills_it(data: st.DataObject, timeframe: str) -> None:
    trades = data.draw(trade_lists(span_ns=10 * MINUTE))
    begin, end = sorted(START + data.draw(st.integers(0, 10 * MINUTE)) for _ in range(2))
    missing = [each for each in trades if begin <= each.timestamp_ns < end]
    builder, bars = builder_of(timeframe), []
    is_open = False
    for each in trades:
        if each.timestamp_ns >= begin and not is_open:
            builder.open_gap(begin)
            is_open = True
        if each not in missing:
            builder.add(each)
            bars += builder.advance(each.received_ns)
    if is_open:
        for each in data.draw(st.permutations(missing)):
            builder.add(each)
        builder.close_gap(end, filled=True)
    bars += builder.advance(FAR)
    assert {bar.timestamp_ns: said(bar) for bar in bars} == reference(trades, timeframe)
    assert [bar.timestamp_ns for bar in bars] == sorted({bar.timestamp_ns for bar in bars})
    assert not any(bar.is_partial for bar in bars)


@pytest.mark.parametrize("timeframe", ["1m", "1d"])
@settings(deadline=None)  # a busy machine is no failure
@given(data=st.data())
def test_sums_stand_in_for_trades_that_are_no_longer_kept(
    timeframe: str, data: st.DataObject
) -> None:
    trades = data.draw(trade_lists(span_ns=3 * MINUTE))
    builder, bars = trade_bars(timeframe, most_trades=4), []
    for each in data.draw(st.permutations(trades)):
        builder.add(each)
        if data.draw(st.booleans()):
            bars += builder.advance(START + data.draw(st.integers(0, 30 * HOUR)))
    bars += builder.advance(FAR)
    assert last_said(bars) == reference(trades, timeframe)
