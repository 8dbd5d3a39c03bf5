"""Which empty intervals a forward-filled series has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from realtime_stream.market.bars.gaps import KnownGaps
    from realtime_stream.market.calendar import MarketCalendar
    from realtime_stream.market.timeframe import Intervals

__all__ = ["ForwardFill"]

_DAY_NS: Final = 86_400 * 10**9
_FARTHEST_NS: Final = 14 * _DAY_NS


class ForwardFill:
    """Walks through the intervals after the newest bar, in market time only.

    An interval is in market time when the market is open at its start; a day is when the market is
    open at any time of it. The last close is not carried over a gap that was not filled.

    Attributes:
        most: How many bars one call may emit: a day's worth, so that a jump of the clock costs a
            bounded time.

    Thread safety: one thread at a time.
    """

    __slots__ = ("_grace_ns", "_intervals", "_next_ns", "most")

    def __init__(self, intervals: Intervals, grace_ns: int) -> None:
        """Wait for the first bar."""
        self._intervals = intervals
        self._grace_ns = grace_ns
        self._next_ns: int | None = None
        self.most = max(_DAY_NS // intervals.length_ns, 1)

    def go_on_from(self, end_ns: int) -> None:
        """A bar is there that ends at a moment; what comes after may be empty."""
        self._next_ns = end_ns

    def due(self, gaps: KnownGaps) -> list[int]:
        """When the next interval would have to be filled; empty if not before something happens."""
        if self._next_ns is None:
            return []
        _, end = self._intervals.of(self._next_ns)
        return [] if gaps.holds(end) else [end + self._grace_ns]

    def empty(self, until_ns: int, now_ns: int, gaps: KnownGaps) -> Iterator[tuple[int, int]]:
        """Intervals to fill that end by a moment, and whose time has come.

        Nothing is skipped when the caller stops before the end.
        """
        while self._next_ns is not None:
            start, end = self._intervals.of(self._next_ns)
            if end > until_ns or end + self._grace_ns > now_ns or gaps.holds(end):
                return
            if gaps.overlap(start, end):
                self._next_ns = None
            elif self._is_market_time(start, end):
                yield start, end
            else:
                opens = _next_open(self._intervals.calendar, end)
                self._next_ns = max(end, self._intervals.of(opens)[0])

    def _is_market_time(self, start: int, end: int) -> bool:
        calendar = self._intervals.calendar
        if self._intervals.spec.is_day:
            return calendar.open_ns(start, end) > 0
        return calendar.is_open(start)


def _next_open(calendar: MarketCalendar, at_ns: int) -> int:
    """The first moment of market time from a moment on, or two weeks later if there is none."""
    if calendar.is_open(at_ns):
        return at_ns
    shut, high = at_ns, at_ns + _FARTHEST_NS
    if not calendar.open_ns(at_ns, high):
        return high
    while high - shut > 1:
        middle = (shut + high) // 2
        if calendar.open_ns(at_ns, middle):
            high = middle
        else:
            shut = middle
    return shut
