"""Bars that end with a number of trades, a volume or a turnover instead of a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from realtime_stream.errors import ConfigurationError
from realtime_stream.market.bars.builder import BuilderCounts, unheard
from realtime_stream.market.bars.conditions import eligibility
from realtime_stream.market.bars.tally import EXACT, ZERO, is_countable, weighted_price
from realtime_stream.market.models import Bar

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from realtime_stream.market.models import Trade, TradeCancel, TradeCorrection
    from realtime_stream.market.timeframe import TimeframeSpec

__all__ = ["CountedBars"]

_ONE_TICK: Final = 1


class CountedBars:
    """Tick, volume and dollar bars; see :class:`BarBuilder` for what it offers.

    Trades count as they come, late or not, by the rules for minute bars; those that do not count in
    the volume do not count at all. A trade is never split, so a bar may be larger than its size.
    It goes on until a trade has given it a price. Its time is that of its first trade, made later
    by as little as it takes to be after the bar before. Nothing is corrected afterwards, as that
    would move the limits of all later bars: corrections and cancels are counted as unmatched.

    Thread safety: one thread at a time.
    """

    def __init__(self, symbol: str, spec: TimeframeSpec) -> None:
        """Begin with an empty bar.

        Args:
            symbol: Whose bars.
            spec: A time frame that is counted.

        Raises:
            ConfigurationError: The time frame is one of time.
        """
        if spec.size is None:
            msg = f"timeframe {spec.text!r} is one of time: its bars are not counted"
            raise ConfigurationError(msg)
        self.symbol = symbol
        self.timeframe = spec.text
        self.next_due_ns: int | None = None
        self.on_due: Callable[[], None] = unheard
        self.counts = BuilderCounts()
        self._kind = spec.kind
        self._size = spec.size
        self._bar = _Growing()
        self._full: list[_Growing] = []
        self._last_ns: int | None = None
        self._in_gap = False

    def add(self, event: Trade) -> None:
        """Take a trade, unless its figures cannot be counted. Emits nothing."""
        rule = eligibility(event.tape, event.conditions)
        if not (rule.volume and is_countable(event.price) and is_countable(event.size)):
            return
        bar = self._bar
        bar.count(event)
        if rule.high_low:
            bar.price(event, is_open_close=rule.open_close == "yes")
        if bar.open is not None and self._measure(bar) >= self._size:
            self._full.append(bar)
            self._bar = _Growing()
            self._bar.is_partial = self._in_gap
            self.next_due_ns = 0
            self.on_due()

    def _measure(self, bar: _Growing) -> Decimal | int:
        if self._kind == "ticks":
            return bar.trade_count
        return bar.volume if self._kind == "volume" else bar.turnover

    def advance(self, now_ns: int) -> list[Bar]:
        """See :class:`BarBuilder`."""
        if not self._full:
            return []
        bars = [self._made(bar, now_ns) for bar in self._full]
        self._full.clear()
        self.next_due_ns = None
        self.counts.built += len(bars)
        return bars

    def _made(self, bar: _Growing, now_ns: int) -> Bar:
        start = bar.first_ns
        if self._last_ns is not None:
            start = max(start, self._last_ns + _ONE_TICK)
        self._last_ns = start
        return Bar(
            symbol=self.symbol,
            timestamp_ns=start,
            received_ns=now_ns,
            open=bar.open or ZERO,
            high=bar.high or ZERO,
            low=bar.low,
            close=bar.close,
            volume=bar.volume,
            trade_count=bar.trade_count,
            vwap=weighted_price(bar.notional, bar.weight),
            timeframe=self.timeframe,
            source="built",
            is_partial=bar.is_partial,
        )

    def correct(self, correction: TradeCorrection) -> None:
        """Counted as unmatched."""
        self.counts.unmatched += 1

    def cancel(self, cancel: TradeCancel) -> None:
        """Counted as unmatched."""
        self.counts.unmatched += 1

    def open_gap(self, start_ns: int) -> None:
        """The growing bar is partial, and every one until the gap is closed; none is held."""
        if not self._in_gap:
            self._bar.was_partial = self._bar.is_partial
        self._in_gap = self._bar.is_partial = True

    def close_gap(self, end_ns: int, *, filled: bool) -> None:
        """The growing bar stays partial, unless what was missing came before it was full."""
        if self._in_gap and filled:
            self._bar.is_partial = self._bar.was_partial
        self._in_gap = False

    def gap_filled(self, start_ns: int, end_ns: int) -> None:
        """Of no effect: a bar is emitted once."""

    def history_known_from(self, start_ns: int) -> None:
        """Of no effect: a bar begins where counting begins."""


class _Growing:
    """The bar that is being counted."""

    __slots__ = (
        "close",
        "first_ns",
        "high",
        "is_partial",
        "low",
        "notional",
        "open",
        "trade_count",
        "turnover",
        "volume",
        "was_partial",
        "weight",
    )

    def __init__(self) -> None:
        self.first_ns = 0
        self.open: Decimal | None = None
        self.high: Decimal | None = None
        self.low = self.close = ZERO
        self.volume = self.turnover = self.notional = self.weight = ZERO
        self.trade_count = 0
        self.is_partial = False
        self.was_partial = False  # before the gap that is open

    def count(self, trade: Trade) -> None:
        if not self.trade_count:
            self.first_ns = trade.timestamp_ns
        self.trade_count += 1
        self.volume = EXACT.add(self.volume, trade.size)
        self.turnover = EXACT.fma(trade.price, trade.size, self.turnover)

    def price(self, trade: Trade, *, is_open_close: bool) -> None:
        price = trade.price
        if self.high is None:
            self.high = self.low = price
        elif price > self.high:
            self.high = price
        elif price < self.low:
            self.low = price
        self.weight = EXACT.add(self.weight, trade.size)
        self.notional = EXACT.fma(price, trade.size, self.notional)
        if is_open_close:
            self.open = price if self.open is None else self.open
            self.close = price
