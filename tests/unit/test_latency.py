from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest

from realtime_stream.ports import LatencyInfo
from realtime_stream.runtime.latency import LatencyMeter, SkewMeter

SECOND = 10**9
MINUTE = 60 * SECOND
START = 1_790_000_000_000_000_000


def ns(seconds: float) -> int:
    return round(seconds * SECOND)


class Feed:
    """Events ten times a second that a clock of ours receives."""

    def __init__(self, meter: SkewMeter) -> None:
        self.meter = meter
        self.now_ns = START
        self.random = random.Random(7)  # noqa: S311  # the same jitter in every run

    def run(
        self, seconds: float, offset: float, *, growth: float = 0.0, jitter: float = 0.05
    ) -> list[str]:
        """Signals while events come ``offset`` seconds late, and later by ``growth`` a second."""
        signals: list[str] = []
        for step in range(int(seconds * 10)):
            late = offset + growth * step / 10 + self.random.uniform(0, jitter)
            self.now_ns += SECOND // 10
            signal = self.meter.note(self.now_ns - ns(late), self.now_ns)
            if signal is not None:
                signals.append(signal)
        return signals


# --- the histogram ---


def test_nothing_was_measured_at_first() -> None:
    meter = LatencyMeter()
    assert meter.info() == LatencyInfo()
    assert sum(count for _, count in meter.buckets()) == 0


def test_bounds_are_close_and_reach_from_microseconds_to_an_hour() -> None:
    bounds = [bound for bound, _ in LatencyMeter().buckets()]
    assert bounds[0] <= 10e-6
    assert bounds[-2] >= 3600
    assert bounds[-1] == math.inf
    assert all(low < high <= low * 1.1 for low, high in pairwise(bounds[:-1]))
    assert 1.0 in bounds  # a power of the base, as OpenTelemetry's exponential histograms have


@pytest.mark.parametrize(
    ("latency", "bucket"),
    [(-5.0, 0), (0.0, 0), (1.0, 133), (1.000_000_001, 134), (5000.0, -1), (1e6, -1)],
)
def test_bounds_belong_to_their_buckets(latency: float, bucket: int) -> None:
    meter = LatencyMeter(1e9)
    meter.note(START, START + ns(latency))
    counts = [count for _, count in meter.buckets()]
    assert counts[bucket] == 1
    assert sum(counts) == 1


@pytest.mark.parametrize("seed", range(20))
def test_percentiles_are_at_most_a_tenth_above_the_exact_ones(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311  # data to measure
    meter, latencies = LatencyMeter(1e9), []
    for _ in range(rng.choice([1, 2, 19, 100, 2_000])):
        latencies.append(ns(rng.lognormvariate(-3, 2) + 1e-5))
        meter.note(START, START + latencies[-1])
    latencies.sort()
    info = meter.info()
    assert info.count == len(latencies)
    assert info.highest == latencies[-1] / SECOND
    for part, shown in ((0.5, info.p50), (0.95, info.p95), (0.99, info.p99)):
        exact = latencies[math.ceil(part * len(latencies)) - 1] / SECOND
        assert exact * (1 - 1e-9) <= shown <= exact * 1.1


def test_a_figure_stands_for_as_many_events_as_it_weighs() -> None:
    meter = LatencyMeter()
    meter.note(START, START + SECOND, weight=99)
    meter.note(START, START + 4 * SECOND)
    info = meter.info()
    assert (info.count, info.p50, info.p99, info.highest) == (100, 1.0, 1.0, 4.0)


def test_what_is_beyond_the_last_bound_is_shown_as_the_highest() -> None:
    meter = LatencyMeter(1e9)
    meter.note(START, START + 9_000 * SECOND)
    info = meter.info()
    assert (info.p50, info.p99, info.highest) == (9_000.0, 9_000.0, 9_000.0)


def test_latencies_below_zero_are_told_as_they_are() -> None:
    meter = LatencyMeter()
    meter.note(START, START - SECOND)
    meter.note(START, START - 2 * SECOND)
    info = meter.info()
    assert (info.count, info.p50, info.highest) == (2, -1.0, -1.0)


# --- the alarm ---


def test_the_alarm_rises_once_per_onset() -> None:
    meter = LatencyMeter(threshold=10.0)
    signals = [meter.note(START, START + ns(late)) for late in (10, 10.1, 12, 5.1, 30, 4.9, 11)]
    assert signals == [None, "latency_high", None, None, None, None, "latency_high"]
    assert meter.info().alarms == 2


def test_single_late_events_are_no_lag() -> None:
    meter = LatencyMeter(threshold=10.0, run=3)
    lates = (60, 60, 0.1, 60, 60, 0.1, 60, 60, 60, 60)
    signals = [meter.note(START, START + ns(late)) for late in lates]
    assert signals == [None] * 8 + ["latency_high", None]


def test_events_that_are_counted_together_are_late_together() -> None:
    meter = LatencyMeter(threshold=10.0, run=20)
    assert meter.note(START, START + 11 * SECOND, weight=19) is None
    assert meter.note(START, START + 11 * SECOND, weight=1) == "latency_high"


def test_a_clock_that_is_ahead_is_no_latency() -> None:
    skew = SkewMeter()
    meter = LatencyMeter(10.0, skew)
    feed = Feed(skew)
    for _ in range(3):
        feed.run(10, 12.0)
        assert meter.note(feed.now_ns, feed.now_ns + ns(12.5)) is None
        assert meter.note(feed.now_ns, feed.now_ns + ns(21.9)) is None
    assert meter.note(feed.now_ns, feed.now_ns + ns(22.1)) == "latency_high"
    info = meter.info()
    assert info.skew == pytest.approx(12.0, abs=0.01)
    assert info.highest == 22.1  # what the clocks say


def test_with_a_clock_that_is_behind_the_latency_is_larger_than_it_looks() -> None:
    skew = SkewMeter()
    meter = LatencyMeter(10.0, skew)
    feed = Feed(skew)
    feed.run(10, -3.0)
    assert meter.note(feed.now_ns, feed.now_ns + ns(6.9)) is None
    assert meter.note(feed.now_ns, feed.now_ns + ns(7.1)) == "latency_high"


# --- the skew ---


def test_no_skew_is_known_at_first() -> None:
    skew = SkewMeter()
    assert (skew.skew, skew.skew_ns) == (None, 0)
    skew.note(START, START + SECOND)
    assert skew.skew == 1.0


def test_the_fastest_way_here_is_all_that_is_left_in_a_right_clock() -> None:
    skew = SkewMeter()
    assert Feed(skew).run(300, 0.02, jitter=3.0) == []
    assert skew.skew == pytest.approx(0.02, abs=0.05)


def test_a_clock_that_is_behind_is_told_of_at_once_and_once() -> None:
    skew = SkewMeter(threshold=1.0)
    feed = Feed(skew)
    assert feed.run(1, -1.27, jitter=0.01) == ["clock_skew"]
    assert feed.run(600, -1.27) == []
    assert skew.skew == pytest.approx(-1.27, abs=0.01)
    assert skew.alarms == 1


def test_a_clock_that_is_ahead_is_told_of_after_a_steady_stretch_and_once() -> None:
    skew = SkewMeter(threshold=1.0)
    feed = Feed(skew)
    assert feed.run(55, 12.0) == []
    assert feed.run(10, 12.0) == ["clock_skew"]
    assert feed.run(600, 12.0) == []


def test_a_clock_that_is_set_right_is_right_at_once() -> None:
    skew = SkewMeter()
    feed = Feed(skew)
    feed.run(120, 12.0)
    feed.run(1, 0.02)
    assert skew.skew == pytest.approx(0.02, abs=0.05)
    assert feed.run(120, 0.02) == []
    assert feed.run(180, 12.0) == ["clock_skew"]  # a new onset
    assert skew.alarms == 2


def test_a_clock_that_is_set_wrong_is_found_out_within_two_minutes() -> None:
    skew = SkewMeter()
    meter = LatencyMeter(10.0, skew)
    feed = Feed(skew)
    feed.run(90, 0.02)
    feed.run(10, 12.0)
    assert meter.note(feed.now_ns, feed.now_ns + 12 * SECOND) == "latency_high"
    assert feed.run(130, 12.0) == ["clock_skew"]
    assert meter.note(feed.now_ns, feed.now_ns + 12 * SECOND) is None
    assert meter.note(feed.now_ns, feed.now_ns + 23 * SECOND) == "latency_high"


@pytest.mark.parametrize("growth", [0.02, 0.1, 1.0])
def test_a_growing_queue_is_not_taken_for_skew(growth: float) -> None:
    skew = SkewMeter()
    meter = LatencyMeter(10.0, skew)
    feed = Feed(skew)
    feed.run(90, 0.02)
    assert feed.run(600, 0.02, growth=growth) == []
    assert skew.skew == pytest.approx(0.02, abs=0.05)
    assert meter.note(feed.now_ns - ns(600 * growth), feed.now_ns) == "latency_high"


def test_a_skew_to_the_other_side_is_another_one() -> None:
    skew = SkewMeter()
    feed = Feed(skew)
    assert feed.run(90, 12.0) == ["clock_skew"]
    assert feed.run(90, -3.0) == ["clock_skew"]
    assert feed.run(90, -3.0) == []


def test_a_single_event_from_the_future_changes_nothing() -> None:
    skew = SkewMeter()
    feed = Feed(skew)
    feed.run(90, 0.02)
    assert skew.note(feed.now_ns + 3600 * SECOND, feed.now_ns) is None
    assert feed.run(300, 0.02) == []
    assert skew.skew == pytest.approx(0.02, abs=0.05)


def test_an_old_event_that_comes_first_is_no_skew() -> None:
    skew = SkewMeter()
    skew.note(START - MINUTE, START)
    feed = Feed(skew)
    assert feed.run(120, 0.02) == []
    assert skew.skew == pytest.approx(0.02, abs=0.05)


def test_bars_alone_show_the_skew_too() -> None:
    skew = SkewMeter()
    signals = [
        skew.note(START + n * MINUTE, START + n * MINUTE + ns(12.1 + n % 3 / 100))
        for n in range(11)
    ]
    assert signals == [None] * 10 + ["clock_skew"]
    assert skew.skew == pytest.approx(12.1, abs=0.02)


def test_a_clock_that_is_set_back_by_an_hour_goes_on() -> None:
    skew = SkewMeter()
    feed = Feed(skew)
    feed.run(90, 3600.0)
    feed.now_ns -= 3600 * SECOND
    feed.run(1, 0.02)
    assert skew.skew == pytest.approx(0.02, abs=0.05)
    assert feed.run(200, 5.0) == ["clock_skew"]  # slices go on ending
