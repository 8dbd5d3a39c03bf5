"""Larger bars out of trades, by way of minute bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtime_stream.market.bars.builder import BuilderCounts

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtime_stream.market.bars.bar_bars import BarBars
    from realtime_stream.market.bars.trade_bars import TradeBars
    from realtime_stream.market.models import Bar, Trade, TradeCancel, TradeCorrection

__all__ = ["Chain"]


class Chain:
    """Minute bars out of trades, and larger bars out of those; see :class:`BarBuilder`.

    That is how Alpaca does it, and it makes a difference: the volume of a minute without a trade
    that may be its price is not in the larger bar either.

    Thread safety: one thread at a time.
    """

    def __init__(self, minutes: TradeBars, larger: BarBars) -> None:
        """Put one behind the other; both have the same grace period."""
        self.symbol = larger.symbol
        self.timeframe = larger.timeframe
        # Not a method, as it is called for each trade.
        self.add: Callable[[Trade], None] = minutes.add
        self._on_due: Callable[[], None] = minutes.on_due
        self._minutes = minutes
        self._larger = larger

    @property
    def next_due_ns(self) -> int | None:
        """See :class:`BarBuilder`."""
        minutes, larger = self._minutes.next_due_ns, self._larger.next_due_ns
        if minutes is None or larger is None:
            return larger if minutes is None else minutes
        return min(minutes, larger)

    @property
    def on_due(self) -> Callable[[], None]:
        """See :class:`BarBuilder`."""
        return self._on_due

    @on_due.setter
    def on_due(self, call: Callable[[], None]) -> None:
        self._on_due = self._minutes.on_due = self._larger.on_due = call

    @property
    def counts(self) -> BuilderCounts:
        """Bars of the larger ones, trades of the minutes."""
        minutes, larger = self._minutes.counts, self._larger.counts
        return BuilderCounts(
            built=larger.built,
            updated=larger.updated,
            late=minutes.late,
            too_late=minutes.too_late,
            corrected=minutes.corrected,
            unmatched=minutes.unmatched,
        )

    def advance(self, now_ns: int) -> list[Bar]:
        """See :class:`BarBuilder`."""
        for bar in self._minutes.advance(now_ns):
            self._larger.add(bar)
        return self._larger.advance(now_ns)

    def correct(self, correction: TradeCorrection) -> None:
        """See :class:`BarBuilder`."""
        self._minutes.correct(correction)

    def cancel(self, cancel: TradeCancel) -> None:
        """See :class:`BarBuilder`."""
        self._minutes.cancel(cancel)

    def open_gap(self, start_ns: int) -> None:
        """See :class:`BarBuilder`."""
        self._minutes.open_gap(start_ns)
        self._larger.open_gap(start_ns)

    def close_gap(self, end_ns: int, *, filled: bool) -> None:
        """See :class:`BarBuilder`."""
        self._minutes.close_gap(end_ns, filled=filled)
        self._larger.close_gap(end_ns, filled=filled)

    def gap_filled(self, start_ns: int, end_ns: int) -> None:
        """See :class:`BarBuilder`."""
        self._minutes.gap_filled(start_ns, end_ns)
        self._larger.gap_filled(start_ns, end_ns)

    def history_known_from(self, start_ns: int) -> None:
        """See :class:`BarBuilder`."""
        self._minutes.history_known_from(start_ns)
        self._larger.history_known_from(start_ns)
