"""Data time as it was recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import threading

__all__ = ["ReplayClock"]

_NS: Final = 1e9
_LONG: Final = 60.0  # real seconds; only the replay moves the clock, and it wakes who waits


class ReplayClock:
    """A data :class:`~realtime_stream.clock.Clock` that stands still until a replay moves it on.

    It shows when the newest frame handed over was received, and never goes back but for
    :meth:`restart`.

    Thread safety: the replay's thread moves it; any thread may read it.
    """

    def __init__(self, start_ns: int) -> None:
        """Stand at ``start_ns``, nanoseconds since the epoch."""
        self._start_ns = start_ns
        self._now_ns = start_ns

    def utc_now_ns(self) -> int:
        """Nanoseconds since the epoch."""
        return self._now_ns

    def monotonic(self) -> float:
        """Data seconds since the start of the recording."""
        return (self._now_ns - self._start_ns) / _NS

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        """Wait for the event; the timeout is in real seconds, for lack of better ones."""
        return event.wait(timeout)

    def real_seconds(self, _seconds: float) -> float:
        """Long: how soon the replay moves the clock is not known, and it wakes who waits for it."""
        return _LONG

    def advance_to(self, now_ns: int) -> None:
        """Move on to a moment; one that is past changes nothing."""
        self._now_ns = max(self._now_ns, now_ns)

    def restart(self) -> None:
        """Go back to the start."""
        self._now_ns = self._start_ns
