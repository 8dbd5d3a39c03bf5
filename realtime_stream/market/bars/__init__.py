"""Bars out of trades and out of smaller bars. Pure: no threads, no I/O, every moment is given."""

from realtime_stream.market.bars.bar_bars import BarBars
from realtime_stream.market.bars.build import BuiltFrom, build_bars
from realtime_stream.market.bars.builder import BarBuilder, BuilderCounts
from realtime_stream.market.bars.conditions import Eligibility, eligibility
from realtime_stream.market.bars.counted_bars import CountedBars
from realtime_stream.market.bars.daily_bars import DailyBars
from realtime_stream.market.bars.trade_bars import TradeBars
from realtime_stream.market.timeframe import Alignment

__all__ = [
    "Alignment",
    "BarBars",
    "BarBuilder",
    "BuilderCounts",
    "BuiltFrom",
    "CountedBars",
    "DailyBars",
    "Eligibility",
    "TradeBars",
    "build_bars",
    "eligibility",
]
