"""How long after they happened events are dealt with, and how far the clocks are apart."""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from realtime_stream.ports import LatencyInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LatencyMeter", "LatencySignal", "SkewMeter"]

LatencySignal: TypeAlias = Literal["latency_high", "clock_skew"]

_NS: Final = 1_000_000_000
# Upper bounds of the buckets, nanoseconds: 2**(n/8) seconds from 9.9 us to 3,756 s, each 9.05 %
# above the one before. These are the buckets of an OpenTelemetry exponential histogram of scale 3.
_SCALE: Final = 8
_BOUNDS: Final = [int(2 ** (n / _SCALE) * _NS) for n in range(-133, 96)]
_SECONDS: Final = tuple(bound / _NS for bound in _BOUNDS)
_NEVER: Final = 2**63
_SLICE_NS: Final = 6 * _NS
_SLICES: Final = 10  # to a stretch


class SkewMeter:
    """Tells our clock's error from latency, by the events that came fastest.

    The time from an event to its receipt is the way here plus what our clock is ahead of the
    exchange's. The way varies and is never negative; the clocks' difference stays. So the smallest
    such time is taken for the difference, and called the skew: exact but for the fastest way here,
    which is some milliseconds. (The second smallest is taken, so that a single event with a wrong
    time changes nothing.) A feed that holds all events back for the same time, such as a delayed
    one, cannot be told from a clock that is ahead by as much, and is reported as skew.

    The skew falls at once, as events that came faster prove it wrong. It rises only after a
    *steady* stretch: ten slices of at least six seconds of data time whose smallest times differ by
    less than half a second. In a queue that grows or shrinks they do not, so that a growing lag is
    not taken for skew; a clock that is set wrong while we run is, after one to two minutes.

    Thread safety: one thread calls :meth:`note`; any may read the attributes.

    Attributes:
        skew_ns: The skew in nanoseconds, positive when our clock is ahead; 0 before any event.
        alarms: How often a skew beyond the threshold began.
    """

    def __init__(self, threshold: float = 1.0, spread: float = 0.5) -> None:
        """Nothing measured yet.

        Args:
            threshold: Seconds of skew, in either direction, that are reported.
            spread: Seconds by which the slices of a steady stretch may differ.
        """
        self._threshold_ns = int(threshold * _NS)
        self._spread_ns = int(spread * _NS)
        self._side = 0  # of the skew that was told of: 1 ahead, -1 behind
        self._known = False
        self._slice = (0, 0)  # from and to, nanoseconds
        self._slice_low = _NEVER
        self._lows: list[int] = []  # of the slices of this stretch that are over
        self._lowest = _NEVER  # of this stretch
        self._second = _NEVER
        self.skew_ns = 0
        self.alarms = 0

    @property
    def skew(self) -> float | None:
        """The skew in seconds, positive when our clock is ahead; ``None`` before any event."""
        return self.skew_ns / _NS if self._known else None

    def note(self, event_ns: int, received_ns: int) -> LatencySignal | None:
        """An event was received; ``clock_skew`` when a skew beyond the threshold begins.

        A clock that is behind is told of at once, one that is ahead after the first steady stretch.
        It is over when less than half of the threshold is left. Events that are late by nature
        (updated and daily bars, history) must not be noted.

        Args:
            event_ns: When it happened; for a bar, the end of its interval.
            received_ns: When it was received, on the data clock.
        """
        offset = received_ns - event_ns
        begin, end = self._slice
        signal = None if begin <= received_ns < end else self._next_slice(received_ns)
        if offset < self._slice_low:  # noqa: PLR1730  # min() would cost a call per event
            self._slice_low = offset
        if offset < self._second:
            return self._fast(offset) or signal
        return signal

    def _fast(self, offset: int) -> LatencySignal | None:
        """One of the two fastest events of this stretch."""
        self._second = max(offset, self._lowest)
        self._lowest = min(offset, self._lowest)
        if not self._known:
            self._known = True
            self.skew_ns = offset
        elif self._second < self.skew_ns:
            self.skew_ns = self._second
        if self._second == _NEVER or not (self._side or self.skew_ns < 0):
            return None
        return self._look()

    def _next_slice(self, received_ns: int) -> LatencySignal | None:
        if self._slice_low != _NEVER:
            self._lows.append(self._slice_low)
        self._slice = (received_ns, received_ns + _SLICE_NS)
        self._slice_low = _NEVER
        if len(self._lows) < _SLICES:
            return None
        steady = max(self._lows) - min(self._lows) < self._spread_ns
        if steady:
            self.skew_ns = self._second
        self._lows = []
        self._lowest = self._second = _NEVER
        return self._look() if steady else None

    def _look(self) -> LatencySignal | None:
        """Whether a skew beyond the threshold has begun, or is over."""
        side = (self.skew_ns > self._threshold_ns) - (self.skew_ns < -self._threshold_ns)
        if side and side != self._side:
            self._side = side
            self.alarms += 1
            return "clock_skew"
        if abs(self.skew_ns) * 2 < self._threshold_ns:
            self._side = 0
        return None


class LatencyMeter:
    """A histogram of latencies, and an alarm.

    The histogram holds what the clocks say, skew included. For the alarm the skew is taken out:
    what counts is the latency minus the skew. So with a clock that is ahead by 12 s, where every
    event looks 12 s old, it stays silent until one is later than that by the threshold; with a
    clock that is behind, the latency is larger than it looks, and the difference is added.

    Thread safety: one thread calls :meth:`note`; any may ask for the figures.
    """

    def __init__(
        self, threshold: float = 10.0, skew: SkewMeter | None = None, run: int = 1
    ) -> None:
        """Nothing measured yet.

        Args:
            threshold: The alarm's seconds.
            skew: Where the skew is measured; several meters may share one.
            run: After how many late events in a row the alarm rises. Single trades are reported
                late by nature, so one of them says nothing; a late bar does.
        """
        self._threshold_ns = int(threshold * _NS)
        self._skew = skew or SkewMeter()
        self._run = run
        self._late = 0  # events in a row beyond the threshold
        self._raised = False
        self._counts = [0] * (len(_BOUNDS) + 1)
        self._highest_ns = -_NEVER
        self.alarms = 0

    def note(self, event_ns: int, now_ns: int, weight: int = 1) -> LatencySignal | None:
        """Events were dealt with; ``latency_high`` when the alarm rises.

        It rises once per onset, and falls with the first event that takes less than half of the
        threshold.

        Args:
            event_ns: When they happened; for a bar, the end of its interval.
            now_ns: Now, on the data clock.
            weight: How many events this stands for; above 0.
        """
        latency = now_ns - event_ns
        self._counts[bisect_left(_BOUNDS, latency)] += weight
        if latency > self._highest_ns:  # noqa: PLR1730  # as above
            self._highest_ns = latency
        latency -= self._skew.skew_ns
        if latency > self._threshold_ns:
            return self._beyond(weight)
        if self._late:
            self._late = 0
        if self._raised and latency * 2 < self._threshold_ns:
            self._raised = False
        return None

    def buckets(self) -> tuple[tuple[float, int], ...]:
        """Each bucket's upper bound (included, seconds) and its count; the last bound is infinite.

        The bounds are the powers of ``2**(1/8)``; the first bucket holds all below 10 us.
        """
        counts = list(self._counts)
        return tuple(zip((*_SECONDS, math.inf), counts, strict=True))

    def info(self) -> LatencyInfo:
        """The figures."""
        counts = list(self._counts)
        count = sum(counts)
        if not count:
            return LatencyInfo(skew=self._skew.skew, alarms=self.alarms)
        highest = self._highest_ns / _NS
        p50, p95, p99 = (_percentile(counts, part, highest) for part in (0.5, 0.95, 0.99))
        return LatencyInfo(count, p50, p95, p99, highest, self._skew.skew, self.alarms)

    def _beyond(self, weight: int) -> LatencySignal | None:
        self._late += weight
        if self._raised or self._late < self._run:
            return None
        self._raised = True
        self.alarms += 1
        return "latency_high"


def _percentile(counts: Sequence[int], part: float, highest: float) -> float:
    """Upper bound of the bucket with the event that ``part`` of all are not slower than."""
    rank = math.ceil(part * sum(counts))
    index = bisect_left(list(accumulate(counts)), rank)
    return min(_SECONDS[index], highest) if index < len(_SECONDS) else highest
