"""Which builder makes which bars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from realtime_stream.errors import ConfigurationError
from realtime_stream.market.bars.bar_bars import BarBars
from realtime_stream.market.bars.chain import Chain
from realtime_stream.market.bars.counted_bars import CountedBars
from realtime_stream.market.bars.daily_bars import DailyBars
from realtime_stream.market.bars.trade_bars import TradeBars
from realtime_stream.market.timeframe import Alignment, Intervals, TimeframeSpec, parse_timeframe

if TYPE_CHECKING:
    from realtime_stream.market.bars.builder import BarBuilder
    from realtime_stream.market.calendar import MarketCalendar

__all__ = ["BuiltFrom", "build_bars"]

BuiltFrom: TypeAlias = Literal["trades", "bars", "daily_bars"]

_MINUTE_NS: Final = 60 * 10**9


def build_bars(
    symbol: str,
    spec: TimeframeSpec,
    source: BuiltFrom,
    *,
    calendar: MarketCalendar,
    alignment: Alignment = "utc",
    grace_ns: int,
    since_ns: int | None = None,
    fill: bool = False,
) -> BarBuilder:
    """The builder of a symbol's bars.

    Args:
        symbol: Whose bars.
        spec: Which time frame.
        source: What :meth:`BarBuilder.add` will be given: trades; bars of a length that divides
            the time frame; or the running daily bars of a feed, of which only ``1d`` is made.
        calendar: Has the days and the sessions.
        alignment: ``utc``, or ``session``: counted from the session's open.
        grace_ns: How long after its end an interval is kept open for what comes late.
        since_ns: When watching began: what began before is partial; ``None``: nothing is.
        fill: Whether empty intervals in market time are emitted too, with the last close.

    Raises:
        ConfigurationError: The time frame cannot be made of that, or the calendar lacks days.
    """
    if spec.kind != "time":
        if source != "trades":
            msg = f"timeframe {spec.text!r} is counted, so it is made of trades, not of {source}"
            raise ConfigurationError(msg)
        return CountedBars(symbol, spec)
    if source == "daily_bars" and not spec.is_day:
        msg = f"timeframe {spec.text!r} cannot be made of daily bars: only 1d can"
        raise ConfigurationError(msg)
    intervals = Intervals(spec, calendar, alignment)
    if source == "daily_bars":
        return DailyBars(symbol, intervals, grace_ns=grace_ns, since_ns=since_ns, fill=fill)
    if source == "bars":
        return BarBars(symbol, intervals, grace_ns=grace_ns, since_ns=since_ns, fill=fill)
    if not _made_of_minutes(spec):
        return TradeBars(symbol, intervals, grace_ns=grace_ns, since_ns=since_ns, fill=fill)
    minutes = Intervals(parse_timeframe("1m"), calendar, alignment)
    return Chain(
        TradeBars(symbol, minutes, grace_ns=grace_ns, since_ns=since_ns),
        BarBars(symbol, intervals, grace_ns=grace_ns, since_ns=since_ns, fill=fill),
    )


def _made_of_minutes(spec: TimeframeSpec) -> bool:
    return spec.ns is not None and spec.ns > _MINUTE_NS and spec.ns % _MINUTE_NS == 0
