from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from realtime_stream.clock import FakeClock, ScaledClock, SystemClock, datetime_from_ns

START = datetime(2024, 3, 4, 14, 30, tzinfo=UTC)
START_NS = 1_709_562_600_000_000_000


@pytest.mark.parametrize(
    ("nanoseconds", "expected"),
    [
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (999, datetime(1970, 1, 1, tzinfo=UTC)),
        (1_999, datetime(1970, 1, 1, microsecond=1, tzinfo=UTC)),
        (59_999_999_999, datetime(1970, 1, 1, 0, 0, 59, 999_999, tzinfo=UTC)),
        (START_NS + 123_456_789, START + timedelta(microseconds=123_456)),
    ],
)
def test_nanoseconds_are_cut_to_microseconds_never_rounded(
    nanoseconds: int, expected: datetime
) -> None:
    assert datetime_from_ns(nanoseconds) == expected
    assert datetime_from_ns(nanoseconds).tzinfo is UTC


def test_system_clock_gives_the_time_of_the_machine() -> None:
    clock = SystemClock()
    before = (time.monotonic(), time.time_ns())
    now = (clock.monotonic(), clock.utc_now_ns())
    after = (time.monotonic(), time.time_ns())
    assert before[0] <= now[0] <= after[0]
    assert before[1] <= now[1] <= after[1]


def test_system_clock_waits_for_the_event_or_the_timeout() -> None:
    clock, event = SystemClock(), threading.Event()
    assert not clock.wait(event, 0.001)
    event.set()
    assert clock.wait(event, None)


def test_scaled_clock_starts_at_its_start_and_runs_faster() -> None:
    before = time.monotonic_ns()
    clock = ScaledClock(START, speed=1000)
    data = clock.utc_now_ns() - START_NS
    seconds = clock.monotonic()
    upper = time.monotonic_ns()
    assert 0 <= data <= (upper - before) * 1000
    assert 0 <= seconds <= (upper - before) * 1000 / 1e9


def test_scaled_clock_takes_any_zone() -> None:
    new_york = START.astimezone(timezone(timedelta(hours=-5)))
    assert ScaledClock(new_york, speed=1e-9).utc_now_ns() == START_NS


def test_scaled_clock_waits_in_data_seconds() -> None:
    clock, event = ScaledClock(START, speed=60_000), threading.Event()
    began = time.monotonic()
    assert not clock.wait(event, 60)
    assert time.monotonic() - began < 5
    event.set()
    assert clock.wait(event, None)


def test_scaled_clock_refuses_a_naive_start() -> None:
    with pytest.raises(ValueError, match="timezone-aware"):
        ScaledClock(datetime(2024, 1, 1), speed=1)  # noqa: DTZ001  # naive is the point


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_scaled_clock_refuses_a_speed_that_is_not_above_zero(speed: float) -> None:
    with pytest.raises(ValueError, match="speed must be above 0"):
        ScaledClock(START, speed=speed)


def test_fake_clock_stands_still_until_it_is_advanced() -> None:
    clock = FakeClock(START)
    assert (clock.monotonic(), clock.utc_now_ns()) == (0.0, START_NS)
    clock.advance(1.5)
    assert (clock.monotonic(), clock.utc_now_ns()) == (1.5, START_NS + 1_500_000_000)


def test_fake_clock_passes_a_wait_in_one_jump_and_notes_it() -> None:
    clock, event = FakeClock(), threading.Event()
    assert not clock.wait(event, 30.0)
    assert not clock.wait(event, None)
    assert clock.monotonic() == 30.0
    event.set()
    assert clock.wait(event, 10.0)
    assert clock.monotonic() == 30.0
    assert clock.waits() == (30.0, None, 10.0)
