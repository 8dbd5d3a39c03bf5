"""The exchange's time, as far as it can be told from here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading

    from realtime_stream.clock import Clock
    from realtime_stream.runtime.latency_desk import LatencyDesk

__all__ = ["ExchangeClock"]


class ExchangeClock:
    """A :class:`~realtime_stream.clock.Clock` that is what the data clock is, less its lead.

    Where this machine's clock is ahead, or the feed is delayed, what the exchange calls now is
    still to come here. Before any event was seen, it shows what the data clock shows.

    Thread safety: every method may be called from any thread.
    """

    def __init__(self, data_clock: Clock, latency: LatencyDesk) -> None:
        """Args: the clock that stamps what is received, and where its lead is measured."""
        self._data_clock = data_clock
        self._latency = latency

    def monotonic(self) -> float:
        """See :class:`~realtime_stream.clock.Clock`."""
        return self._data_clock.monotonic()

    def utc_now_ns(self) -> int:
        """See :class:`~realtime_stream.clock.Clock`."""
        return self.of(self._data_clock.utc_now_ns())

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        """See :class:`~realtime_stream.clock.Clock`."""
        return self._data_clock.wait(event, timeout)

    def real_seconds(self, seconds: float) -> float:
        """See :class:`~realtime_stream.clock.Clock`."""
        return self._data_clock.real_seconds(seconds)

    def of(self, at_ns: int) -> int:
        """The exchange's time at a moment of the data clock."""
        return at_ns - (self._latency.lead() or 0)
