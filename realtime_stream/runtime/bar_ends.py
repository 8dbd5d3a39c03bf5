"""When a bar's interval ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtime_stream.errors import ConfigurationError
from realtime_stream.market.timeframe import Intervals, parse_timeframe

if TYPE_CHECKING:
    from realtime_stream.market.calendar import MarketCalendar
    from realtime_stream.market.models import Bar
    from realtime_stream.market.timeframe import Alignment

__all__ = ["BarEnds"]


class BarEnds:
    """Ends of intervals, by the calendar.

    Thread safety: every method may be called from any thread; two that meet do the same twice.
    """

    def __init__(self, calendar: MarketCalendar, alignment: Alignment) -> None:
        """Args: as of :class:`~realtime_stream.market.timeframe.Intervals`."""
        self._calendar = calendar
        self._alignment: Alignment = alignment
        self._intervals: dict[str, Intervals | None] = {}

    def __call__(self, bar: Bar) -> int:
        """The end of the bar's interval; of one that counts trades, when it was made.

        Nanoseconds since the epoch.
        """
        end_ns = self.of(bar.timeframe, bar.timestamp_ns)
        return bar.received_ns if end_ns is None else end_ns

    def of(self, timeframe: str, at_ns: int) -> int | None:
        """The end of the interval that a moment is in; ``None`` for timeframes without any."""
        intervals = self._of(timeframe)
        return None if intervals is None else intervals.of(at_ns)[1]

    def start_of(self, timeframe: str, at_ns: int) -> int | None:
        """The start of the interval that a moment is in; ``None`` for timeframes without any."""
        intervals = self._of(timeframe)
        return None if intervals is None else intervals.of(at_ns)[0]

    def _of(self, timeframe: str) -> Intervals | None:
        if timeframe not in self._intervals:
            self._intervals[timeframe] = self._new(timeframe)
        return self._intervals[timeframe]

    def _new(self, timeframe: str) -> Intervals | None:
        try:
            spec = parse_timeframe(timeframe)
        except ConfigurationError:  # a provider's own, such as a week
            return None
        return Intervals(spec, self._calendar, self._alignment) if spec.kind == "time" else None
