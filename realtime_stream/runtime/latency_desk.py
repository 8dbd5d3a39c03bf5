"""Where latencies are measured, and who is told when they are high."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from realtime_stream.errors import StreamingError
from realtime_stream.ports import ErrorEvent
from realtime_stream.runtime.latency import LatencyMeter, LatencySignal, SkewMeter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from realtime_stream.market.models import MarketEvent
    from realtime_stream.ports import LatencyInfo
    from realtime_stream.runtime.log import EventLog

__all__ = ["LatencyDesk"]

# Late events in a row that raise the alarm. A single trade may be reported late by its exchange.
_RUNS: Final = {"quotes": 20, "trades": 20, "bars": 1}
_TICKS: Final = frozenset({"quotes", "trades"})
_UNKNOWN_NS: Final = 2**62
_TEXTS: Final[dict[LatencySignal, str]] = {
    "latency_high": "events come, or are delivered, late",
    "clock_skew": "this machine's clock and the exchange's differ",
}


class LatencyDesk:
    """Measures the time from events to their delivery.

    Thread safety: used by the dispatch thread; :meth:`info` by any.
    """

    def __init__(self, threshold: float, log: EventLog, tell: Callable[[ErrorEvent], None]) -> None:
        """Nothing is measured yet.

        Args:
            threshold: Seconds of latency that are reported.
            log: Where reports go.
            tell: Told of each alarm.
        """
        self._skew = SkewMeter()
        self._meters = {
            lane: LatencyMeter(threshold, self._skew, run) for lane, run in _RUNS.items()
        }
        self._bars = self._meters["bars"]
        self._anything = False
        self._log = log
        self._tell = tell

    @property
    def ahead_ns(self) -> int:
        """How much later than by the exchange's clock everything comes, nanoseconds; not below 0.

        This machine's clock is ahead, or the feed is delayed; the fastest way here is in it too.
        Before any event was seen, more than anything can be late.
        """
        lead_ns = self.lead()
        return _UNKNOWN_NS if lead_ns is None else lead_ns

    def lead(self) -> int | None:
        """The same; ``None`` before any event was seen."""
        if self._skew.skew is None:
            return 0 if self._anything else None
        return max(self._skew.skew_ns, 0)

    def seen(self) -> None:
        """Something came that tells nothing of the clocks."""
        self._anything = True

    def passed(self, ends: Iterable[MarketEvent]) -> None:
        """Frames that ended with these events were delivered together with one behind them."""
        note = self._skew.note
        for end in ends:
            if end.channel in _TICKS:
                skewed = note(end.timestamp_ns, end.received_ns)
                if skewed is not None:
                    self._raise(skewed, end.channel)

    def tick(self, lane: str, event_ns: int, received_ns: int, now_ns: int) -> None:
        """A quote or a trade has been delivered; events of other channels do not count."""
        if lane not in _TICKS:
            self.seen()
            return
        self._note_skew(lane, event_ns, received_ns)
        late = self._meters[lane].note(event_ns, now_ns)
        if late is not None:
            self._raise(late, lane)

    def bar(self, end_ns: int, received_ns: int | None, now_ns: int) -> None:
        """A regular bar is delivered; of one that was made here nothing was received."""
        if received_ns is not None:
            self._note_skew("bars", end_ns, received_ns)
        late = self._bars.note(end_ns, now_ns)
        if late is not None:
            self._raise(late, "bars")

    def info(self) -> dict[str, LatencyInfo]:
        """The figures of the channels of which anything was measured."""
        infos = {lane: meter.info() for lane, meter in self._meters.items()}
        return {lane: info for lane, info in infos.items() if info.count}

    def _note_skew(self, lane: str, event_ns: int, received_ns: int) -> None:
        skewed = self._skew.note(event_ns, received_ns)
        if skewed is not None:
            self._raise(skewed, lane)

    def _raise(self, signal: LatencySignal, lane: str) -> None:
        name = "realtime_latency_high" if signal == "latency_high" else "realtime_clock_skew"
        skew = self._skew.skew
        self._log.write(
            logging.WARNING,
            name,
            channel=lane,
            skew_seconds=None if skew is None else round(skew, 3),
        )
        self._tell(ErrorEvent(StreamingError(_TEXTS[signal]), "latency"))
