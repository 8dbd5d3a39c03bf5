"""Bars of recorded trades equal the exchange's own candles, and a plain sum over the trades."""

from __future__ import annotations

import functools
from collections import defaultdict
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream.market.bars import TradeBars, build_bars
from realtime_stream.market.calendar import AlwaysOpen
from realtime_stream.market.models import Trade
from realtime_stream.market.timeframe import Intervals, parse_timeframe
from tests.recorded.binance import DATA, Aggregate, Kline, decode, lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from realtime_stream.market.models import Bar

SPOT = [DATA / "spot_btcusdt_20240808.gz", DATA / "spot_btcusdt_20240809.gz"]
FUTURES = DATA / "futures_cryptofeed.ws"

pytestmark = pytest.mark.skipif(
    not FUTURES.is_file(), reason="the recorded data is not part of the project"
)

SECOND = 10**9
MINUTE = 60 * SECOND
MIDNIGHT = 1_723_161_600 * SECOND  # 2024-08-09 UTC
GRACE = SECOND


# --- futures: the exchange's own candles ---


@functools.cache
def futures() -> tuple[tuple[Aggregate, ...], tuple[Kline, ...]]:
    found = [decode(*line) for line in lines(FUTURES)]
    return (
        tuple(each for each in found if isinstance(each, Aggregate)),
        tuple(each for each in found if isinstance(each, Kline)),
    )


@functools.cache
def snapshots() -> tuple[Kline, ...]:
    """Those of the minute that began while it was recorded, whose trades are all there."""
    _, klines = futures()
    newest = max(kline.start_ns for kline in klines)
    return tuple(kline for kline in klines if kline.start_ns == newest)


def is_cut(kline: Kline) -> bool:
    """Whether the snapshot ends with an aggregate, not within one."""
    aggregates, _ = futures()
    return any(
        each.last_id == kline.last_id and each.trade.symbol == kline.symbol for each in aggregates
    )


def test_a_cut_is_possible_in_15_of_21_snapshots() -> None:
    assert len(snapshots()) == 21
    assert sum(map(is_cut, snapshots())) == 15


def test_bars_equal_the_exchanges_where_a_cut_is_possible() -> None:
    aggregates, _ = futures()
    equal = 0
    for kline in filter(is_cut, snapshots()):
        builder = TradeBars(
            kline.symbol, Intervals(parse_timeframe("1m"), AlwaysOpen()), grace_ns=GRACE
        )
        for each in aggregates:
            if each.trade.symbol == kline.symbol and each.last_id <= kline.last_id:
                builder.add(each.trade)
        bars = {bar.timestamp_ns: bar for bar in builder.advance(kline.start_ns + 2 * MINUTE)}
        bar = bars[kline.start_ns]
        assert (bar.open, bar.high, bar.low, bar.close, bar.volume) == (
            kline.open,
            kline.high,
            kline.low,
            kline.close,
            kline.volume,
        )
        equal += 1
    assert equal == 15


# --- spot: two files, across midnight UTC, from a receiver whose clock is behind ---


@functools.cache
def spot() -> tuple[Trade, ...]:
    found = (decode(*line) for path in SPOT for line in lines(path))
    return tuple(each for each in found if isinstance(each, Trade))


def test_no_trade_is_missing_in_either_file_or_between_them() -> None:
    ids = [each.trade_id for each in spot()]
    assert len(ids) == 19_904
    first = ids[0]
    assert isinstance(first, int)
    assert ids == list(range(first, first + len(ids)))
    assert spot()[0].timestamp_ns < MIDNIGHT < spot()[-1].timestamp_ns


def test_the_receivers_clock_is_behind_the_exchange() -> None:
    ahead = sorted(each.timestamp_ns - each.received_ns for each in spot())
    assert 1.26 * SECOND < ahead[len(ahead) // 2] < 1.28 * SECOND
    assert ahead[0] > 0


@functools.cache
def plain(length_ns: int) -> dict[int, tuple[Any, ...]]:
    """The bars worked out the plain way: in the order of the ids."""
    groups: dict[int, list[Trade]] = defaultdict(list)
    for each in spot():
        groups[each.timestamp_ns - each.timestamp_ns % length_ns].append(each)
    return {
        start: (
            group[0].price,
            max(each.price for each in group),
            min(each.price for each in group),
            group[-1].price,
            sum(each.size for each in group),
            len(group),
        )
        for start, group in groups.items()
    }


def built(timeframe: str) -> tuple[Sequence[Bar], Any]:
    """The bars, as dispatch would build them: closed by the receiver's clock."""
    builder = build_bars(
        "BTCUSDT",
        parse_timeframe(timeframe),
        "trades",
        calendar=AlwaysOpen(),
        grace_ns=GRACE,
        since_ns=spot()[0].timestamp_ns,
    )
    bars: list[Bar] = []
    for each in spot():
        builder.add(each)
        bars += builder.advance(each.received_ns)
    bars += builder.advance(spot()[-1].timestamp_ns + 48 * 3600 * SECOND)
    return bars, builder.counts


@pytest.mark.parametrize(
    ("timeframe", "length_ns"), [("1s", SECOND), ("1m", MINUTE), ("5m", 5 * MINUTE)]
)
def test_bars_across_midnight_with_a_clock_that_is_behind(timeframe: str, length_ns: int) -> None:
    bars, counts = built(timeframe)
    assert {
        bar.timestamp_ns: (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.trade_count)
        for bar in bars
    } == plain(length_ns)
    assert all(a.timestamp_ns < b.timestamp_ns for a, b in pairwise(bars))
    assert (counts.built, counts.updated, counts.late, counts.too_late) == (len(bars), 0, 0, 0)
    assert [bar.timestamp_ns for bar in bars if bar.is_partial] == [bars[0].timestamp_ns]
    assert any(bar.timestamp_ns == MIDNIGHT for bar in bars)


def test_a_day_ends_at_midnight() -> None:
    bars, counts = built("1d")
    assert [bar.timestamp_ns for bar in bars] == [MIDNIGHT - 24 * 60 * MINUTE, MIDNIGHT]
    assert sum(bar.trade_count or 0 for bar in bars) == len(spot())
    assert sum(bar.volume for bar in bars) == sum((each.size for each in spot()), Decimal(0))
    assert counts.late == 0
