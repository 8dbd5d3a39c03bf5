"""A day's bar out of the running daily bars of a feed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from realtime_stream.market.bars.series import Cell, Series
from realtime_stream.market.bars.tally import Figures

if TYPE_CHECKING:
    from realtime_stream.market.models import Bar

__all__ = ["DailyBars"]

_DAY_NS: Final = 86_400 * 10**9


class DayCell(Cell):
    """A day's newest running bar."""

    __slots__ = ("running",)

    def __init__(self, start: int, end: int) -> None:
        """Begin without one."""
        super().__init__(start, end)
        self.running: Bar | None = None


class DailyBars(Series[DayCell]):
    """The last of a day's running bars, once the day is over.

    A day begins at the running bar's own time, and ends with the calendar's day or, where the two
    do not begin together, 24 hours later. As each running bar has the whole day in it, a day is
    partial only when none came after a gap.

    Thread safety: one thread at a time.
    """

    def add(self, event: Bar) -> None:
        """Take a running daily bar. Emits nothing."""
        start, end = self._intervals.of(event.timestamp_ns)
        if start != event.timestamp_ns:
            start, end = event.timestamp_ns, event.timestamp_ns + _DAY_NS
        cell = self._cell(start, end)
        if cell is None:
            self.counts.too_late += 1
            return
        cell.running = event
        if cell.closed:
            self.counts.late += 1
            self._wait(cell, 0)

    def _make(self, start: int, end: int) -> DayCell:
        return DayCell(start, end)

    def _is_partial(self, cell: DayCell) -> bool:
        received_ns = 0 if cell.running is None else cell.running.received_ns
        return any(
            start < cell.end and cell.start < end and received_ns < end
            for start, end in self._gaps.unfilled
        )

    def _figures(self, cell: DayCell) -> Figures | None:
        bar = cell.running
        if bar is None:
            return None
        return Figures(
            bar.open, bar.high, bar.low, bar.close, bar.volume, bar.trade_count, bar.vwap
        )
