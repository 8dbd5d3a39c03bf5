"""How long events wait between the socket and the callbacks."""

from __future__ import annotations

import threading

from realtime_stream.ports import LagInfo

__all__ = ["LagMeter"]


class LagMeter:
    """Measures seconds from receive to delivery, one figure a frame, with an alarm per onset.

    Thread safety: the dispatch thread begins and ends frames; the monitor thread watches, so that a
    callback that hangs is noticed while it hangs.
    """

    def __init__(self, threshold: float) -> None:
        """Args: ``threshold``, the alarm's seconds."""
        self._threshold = threshold
        self._lock = threading.Lock()  # guards _raised and _alarms
        self._raised = False
        self._alarms = 0
        self._last = 0.0
        self._highest = 0.0
        self._current: float | None = None  # receive time of the frame being delivered

    def begin(self, received: float, now: float) -> bool:
        """Delivery of a frame begins; tells whether that raises an alarm."""
        self._current = received
        lag = now - received
        self._last = lag
        self._highest = max(self._highest, lag)
        if lag > self._threshold:
            return self._raise()
        if self._raised and lag < self._threshold / 2:
            self._raised = False
        return False

    def end(self) -> None:
        """The frame is delivered."""
        self._current = None

    def watch(self, now: float, running_since: float | None = None, *, idle: bool = False) -> bool:
        """Look from outside at what is going on; tells whether that raises an alarm.

        Args:
            now: Monotonic seconds.
            running_since: Since when a callback has been running, for an event or a report.
            idle: Whether nothing waits; with nothing running either, the next onset is a new one.
        """
        if idle and running_since is None and self._current is None:
            self._raised = False
            return False
        started = (self._current, running_since)
        late = any(each is not None and now - each > self._threshold for each in started)
        return late and self._raise()

    def info(self, now: float, oldest: float | None) -> LagInfo:
        """The figures; ``oldest`` is the receive time of the oldest frame in the inbox."""
        waiting_since = self._current if self._current is not None else oldest
        waiting = 0.0 if waiting_since is None else max(now - waiting_since, 0.0)
        return LagInfo(self._last, self._highest, waiting, self._alarms)

    def _raise(self) -> bool:
        with self._lock:
            if self._raised:
                return False
            self._raised = True
            self._alarms += 1
            return True
