"""Trades, and the bars they should give, worked out the plain way."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

from realtime_stream.market.bars import BarBars, TradeBars
from realtime_stream.market.calendar import AlwaysOpen
from realtime_stream.market.models import Bar, Trade
from realtime_stream.market.timeframe import Intervals, parse_timeframe

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SECOND: Final = 10**9
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
START: Final = 1_790_000_040 * SECOND  # on a whole minute
GRACE: Final = 2 * SECOND

# Conditions of tape C, and what they count for in a minute bar: open and close, high and low,
# volume; and the same in a daily bar. Written down apart from the code under test.
CONDITIONS: Final[dict[tuple[str, ...], tuple[str, str]]] = {
    (): ("yyy", "yyy"),
    ("@",): ("yyy", "yyy"),
    ("@", "F"): ("yyy", "yyy"),
    ("@", "I"): ("nny", "nny"),
    ("@", "T"): ("yyy", "nny"),
    ("@", "4"): ("nny", "1yy"),
    ("@", "T", "I"): ("nny", "nny"),
    ("Z",): ("nny", "1yy"),
    ("G", "T"): ("nny", "nny"),
    ("M",): ("nnn", "nnn"),
    ("9",): ("nnn", "yyn"),
    ("9", "P"): ("nnn", "1yn"),
}

Row = tuple[int, Decimal, Decimal, Decimal, Decimal, Decimal, int]


def trade(
    at_ns: int, price: str | Decimal = "10", size: str | Decimal = "1", **fields: Any
) -> Trade:
    """A trade that was received when it happened."""
    return Trade(**{
        "symbol": "AAPL",
        "timestamp_ns": at_ns,
        "received_ns": at_ns,
        "price": Decimal(price),
        "size": Decimal(size),
        "exchange": "V",
        "tape": "C",
        **fields,
    })


def trade_bars(timeframe: str = "1m", **settings: Any) -> TradeBars:
    """Bars of trades in a market that never closes."""
    settings = {"grace_ns": GRACE, "batch": 3, **settings}
    return TradeBars("AAPL", Intervals(parse_timeframe(timeframe), AlwaysOpen()), **settings)


def bar_bars(timeframe: str = "5m", **settings: Any) -> BarBars:
    """Bars of bars in a market that never closes."""
    settings = {"grace_ns": GRACE, **settings}
    return BarBars("AAPL", Intervals(parse_timeframe(timeframe), AlwaysOpen()), **settings)


@st.composite
def trade_lists(
    draw: st.DrawFn, *, span_ns: int, regular: bool = False, most: int = 40
) -> list[Trade]:
    """Trades in the order of their times, many of them at the same time or at a boundary."""
    count = draw(st.integers(1, most))
    grid = draw(st.sampled_from([1, SECOND, 10 * SECOND]))
    moments = st.integers(0, span_ns // grid - 1).map(lambda n: START + n * grid)
    times = sorted(draw(st.lists(moments, min_size=count, max_size=count)))
    conditions = st.just(()) if regular else st.sampled_from(sorted(CONDITIONS))
    return [
        trade(
            at,
            Decimal(draw(st.integers(1, 40))) / 4,
            Decimal(draw(st.integers(1, 3000))) / 100,
            exchange=draw(st.sampled_from("VK")),
            trade_id=number,
            conditions=draw(conditions),
        )
        for number, at in enumerate(times)
    ]


def _bar_of(trades: Sequence[Trade], *, daily: bool) -> tuple[Any, ...] | None:
    ordered = sorted(trades, key=lambda t: (t.timestamp_ns, t.exchange, t.trade_id))
    prices, highs, volume, count = [], [], Decimal(0), 0
    for index, each in enumerate(ordered):
        rule = CONDITIONS[each.conditions][daily]
        if rule[0] == "y" or (rule[0] == "1" and index == 0):
            prices.append(each.price)
        if rule[1] == "y":
            highs.append(each.price)
        if rule[2] == "y":
            volume += each.size
            count += 1
    if not prices or not highs or not volume:
        return None
    return prices[0], max(highs), min(highs), prices[-1], volume, count


def expected_bars(
    trades: Iterable[Trade], length_ns: int, *, daily: bool = False
) -> dict[int, tuple[Any, ...]]:
    """Start of each interval that has a bar, with open, high, low, close, volume and count."""
    found: dict[int, list[Trade]] = defaultdict(list)
    for each in trades:
        found[each.timestamp_ns // length_ns * length_ns].append(each)
    bars = {start: _bar_of(group, daily=daily) for start, group in sorted(found.items())}
    return {start: bar for start, bar in bars.items() if bar is not None}


def merged(bars: dict[int, tuple[Any, ...]], length_ns: int) -> dict[int, tuple[Any, ...]]:
    """Larger bars of smaller ones."""
    found: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for start, bar in sorted(bars.items()):
        found[start // length_ns * length_ns].append(bar)
    return {
        start: (
            group[0][0],
            max(bar[1] for bar in group),
            min(bar[2] for bar in group),
            group[-1][3],
            sum(bar[4] for bar in group),
            sum(bar[5] for bar in group),
        )
        for start, group in found.items()
    }


def average_price(trades: Iterable[Trade]) -> Decimal:
    """Volume-weighted average of regular trades, with more digits than anybody needs."""
    with localcontext(prec=60):
        group = list(trades)
        zero = Decimal(0)
        return sum((t.price * t.size for t in group), zero) / sum((t.size for t in group), zero)


def said(bar: Bar) -> tuple[Any, ...]:
    """What the reference says about a bar."""
    return bar.open, bar.high, bar.low, bar.close, bar.volume, bar.trade_count


def last_said(bars: Iterable[Bar]) -> dict[int, tuple[Any, ...]]:
    """What was last emitted for each start, without what was taken back."""
    last = {bar.timestamp_ns: bar for bar in bars}
    return {start: said(bar) for start, bar in sorted(last.items()) if not bar.is_filled}
