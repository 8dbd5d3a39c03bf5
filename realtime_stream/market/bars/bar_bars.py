"""Time bars out of smaller ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtime_stream.market.bars.series import Cell, Series
from realtime_stream.market.bars.tally import EXACT, ZERO, Figures, is_countable, weighted_price
from realtime_stream.market.timeframe import parse_timeframe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from realtime_stream.market.models import Bar

__all__ = ["BarBars"]


class BarCell(Cell):
    """An interval's smaller bars, by start."""

    __slots__ = ("parts",)

    def __init__(self, start: int, end: int) -> None:
        """Begin without any."""
        super().__init__(start, end)
        self.parts: dict[int, Bar] = {}


class BarBars(Series[BarCell]):
    """Larger bars out of smaller ones.

    The newest version of each smaller bar counts, but a regular one never replaces an updated one.
    A bar without volume counts with its prices, as in crypto; one that was only filled in does not
    count. An interval is closed as soon as the smaller bar has come that ends where it ends.

    Thread safety: one thread at a time.
    """

    def add(self, event: Bar) -> None:
        """Take a smaller bar, unless its figures cannot be counted. Emits nothing."""
        figures = (event.open, event.high, event.low, event.close, event.volume, event.vwap or ZERO)
        if not all(map(is_countable, figures)):
            return
        cell = self._cell_of(event.timestamp_ns)
        if cell is None:
            self.counts.too_late += 1
            return
        known = cell.parts.get(event.timestamp_ns)
        if known is not None and known.bar_kind == "updated" and event.bar_kind != "updated":
            return
        if event.is_filled:
            if known is None:
                return
            del cell.parts[event.timestamp_ns]
        else:
            cell.parts[event.timestamp_ns] = event
        if cell.closed:
            self.counts.late += 1
            self._wait(cell, 0)
        elif event.timestamp_ns + (parse_timeframe(event.timeframe).ns or 0) == cell.end:
            self._wait(cell, 0)

    def _make(self, start: int, end: int) -> BarCell:
        return BarCell(start, end)

    def _is_partial(self, cell: BarCell) -> bool:
        return super()._is_partial(cell) or any(part.is_partial for part in cell.parts.values())

    def _figures(self, cell: BarCell) -> Figures | None:
        if not cell.parts:
            return None
        parts = [cell.parts[start] for start in sorted(cell.parts)]
        volume = ZERO
        for part in parts:
            volume = EXACT.add(volume, part.volume)
        counts = [part.trade_count for part in parts if part.trade_count is not None]
        return Figures(
            parts[0].open,
            max(part.high for part in parts),
            min(part.low for part in parts),
            parts[-1].close,
            volume,
            sum(counts) if len(counts) == len(parts) else None,
            _average(parts, volume),
        )


def _average(parts: Sequence[Bar], volume: Decimal) -> Decimal | None:
    """The parts' own average prices by volume; ``None`` if one that has volume does not say."""
    notional = ZERO
    for part in parts:
        if part.volume:
            if part.vwap is None:
                return None
            notional = EXACT.add(notional, EXACT.multiply(part.vwap, part.volume))
    return weighted_price(notional, volume)
