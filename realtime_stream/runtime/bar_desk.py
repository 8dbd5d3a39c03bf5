"""What becomes of every bar beside its callbacks: look-back, larger bars, sinks, latency."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from realtime_stream.runtime.lookback import DELIVERED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from realtime_stream.market.models import Bar
    from realtime_stream.runtime.bar_ends import BarEnds
    from realtime_stream.runtime.latency_desk import LatencyDesk
    from realtime_stream.runtime.lookback import LookBack
    from realtime_stream.runtime.series import SeriesBoard
    from realtime_stream.runtime.series_spec import SeriesSpec

__all__ = ["BarDesk", "BarTaker"]


class BarTaker(Protocol):
    """Takes bars for a sink."""

    def offer(self, bar: Bar) -> None:
        """Take a bar. Never blocks."""


class BarDesk:
    """Enters bars where they belong.

    Thread safety: used by the dispatch thread.
    """

    def __init__(
        self,
        *,
        lookback: LookBack,
        series: SeriesBoard,
        takers: Sequence[BarTaker],
        ends: BarEnds,
        latency: LatencyDesk,
    ) -> None:
        """Wire the parts together."""
        self._lookback = lookback
        self._series = series
        self._takers = takers
        self._ends = ends
        self._latency = latency

    def measure(self, bar: Bar, now_ns: int) -> None:
        """A bar of the feed came, and did not wait here for others."""
        if bar.bar_kind == "regular":
            self._latency.bar(self._ends(bar), bar.received_ns, now_ns)

    def of_the_feed(self, bar: Bar) -> None:
        """A bar of the feed's own timeframe, live or from history, is about to be delivered."""
        if bar.bar_kind != "daily":
            self._lookback.put(bar, "bars")
            self._lookback.put(bar, DELIVERED)
            self._store(bar)
        self._series.on_bar(bar)

    def look_back(self, bar: Bar) -> None:
        """A bar came from history because somebody wanted to look back."""
        self._store(bar)

    def built(self, spec: SeriesSpec, bar: Bar, now_ns: int) -> None:
        """A bar was made here."""
        self._lookback.put(bar, spec.origin)
        # Where several series have one timeframe, that of bars is the one to be kept.
        twice = spec.origin != "bars" and self._lookback.newest(bar.symbol, bar.timeframe, "bars")
        made_up = bar.is_filled and bar.bar_kind == "regular"
        if not (made_up or twice):
            self._store(bar)
        if bar.bar_kind == "regular":
            self._latency.bar(self._ends(bar), None, now_ns)

    def _store(self, bar: Bar) -> None:
        for taker in self._takers:
            taker.offer(bar)
