"""Time, injected: monotonic for durations and waits, UTC nanoseconds for data."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

__all__ = ["Clock", "FakeClock", "ScaledClock", "SystemClock", "datetime_from_ns"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def datetime_from_ns(timestamp_ns: int) -> datetime:
    """UTC datetime of nanoseconds since the epoch, cut (never rounded) to microseconds."""
    return _EPOCH + timedelta(microseconds=timestamp_ns // 1000)


class Clock(Protocol):
    """Where every component gets its time from. Implementations are thread-safe."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; only differences mean something."""

    def utc_now_ns(self) -> int:
        """Nanoseconds since 1970-01-01T00:00:00Z."""

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        """Wait until ``event`` is set (``True``) or ``timeout`` seconds have passed."""

    def real_seconds(self, seconds: float) -> float:
        """How many seconds of real time so many seconds of this clock take."""


class SystemClock:
    """The machine's clocks."""

    # Asked several times per event, so without a call in between.
    monotonic = staticmethod(time.monotonic)
    utc_now_ns = staticmethod(time.time_ns)

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        """See :class:`Clock`."""
        return event.wait(timeout)

    def real_seconds(self, seconds: float) -> float:
        """The same."""
        return seconds


class ScaledClock:
    """Data time that runs ``speed`` times as fast as real time, from ``start``.

    Used for replays and simulations, where a trading day passes in minutes. Network waits
    and backoff stay on the real clock: only stamps on data come from here.
    """

    def __init__(self, start: datetime, speed: float) -> None:
        """Start counting now.

        Args:
            start: The UTC-aware moment that is "now" at construction.
            speed: Data seconds per real second; above 0.

        Raises:
            ValueError: ``start`` is naive or ``speed`` is not above 0.
        """
        if start.tzinfo is None:
            msg = "start must be timezone-aware"
            raise ValueError(msg)
        if not speed > 0:
            msg = f"speed must be above 0, not {speed}"
            raise ValueError(msg)
        self._start_ns = (start - _EPOCH) // timedelta(microseconds=1) * 1000
        self._speed = speed
        self._origin_ns = time.monotonic_ns()

    def monotonic(self) -> float:
        """Scaled seconds since construction."""
        return (time.monotonic_ns() - self._origin_ns) / 1e9 * self._speed

    def utc_now_ns(self) -> int:
        """Data time in nanoseconds since the epoch."""
        return self._start_ns + int((time.monotonic_ns() - self._origin_ns) * self._speed)

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        """Wait ``timeout`` data seconds, that is ``timeout / speed`` real ones."""
        return event.wait(None if timeout is None else timeout / self._speed)

    def real_seconds(self, seconds: float) -> float:
        """See :class:`Clock`."""
        return seconds / self._speed


class FakeClock:
    """A clock that stands still until :meth:`advance` moves it. For tests of time."""

    def __init__(self, start: datetime = _EPOCH) -> None:
        """Stand at ``start``, with monotonic time 0."""
        self._condition = threading.Condition()  # guards _now and _waits
        self._now = 0.0
        self._waits: list[float | None] = []
        self._start_ns = (start - _EPOCH) // timedelta(microseconds=1) * 1000

    def monotonic(self) -> float:
        """Seconds advanced so far."""
        with self._condition:
            return self._now

    def utc_now_ns(self) -> int:
        """Start plus what was advanced, in nanoseconds since the epoch."""
        return self._start_ns + int(self.monotonic() * 1e9)

    def advance(self, seconds: float) -> None:
        """Move time forward and wake every waiter whose deadline has passed."""
        with self._condition:
            self._now += seconds
            self._condition.notify_all()

    def waits(self) -> tuple[float | None, ...]:
        """The timeouts asked for so far, in order."""
        with self._condition:
            return tuple(self._waits)

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        """Return at once if ``event`` is set; else pass the time in one jump and look again.

        A single-threaded test sees the whole wait as elapsed; nothing ever blocks.
        """
        with self._condition:
            self._waits.append(timeout)
            if not event.is_set() and timeout is not None:
                self._now += timeout
                self._condition.notify_all()
        return event.is_set()

    def real_seconds(self, seconds: float) -> float:
        """The same: a test that advances this clock wakes who waits by other means."""
        return seconds
