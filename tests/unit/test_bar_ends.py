"""When a bar's interval ends."""

from __future__ import annotations

from realtime_stream.market.calendar import AlwaysOpen, RegularHours
from realtime_stream.runtime.bar_ends import BarEnds
from tests.unit.test_history_desk import MINUTE, START, minute

HOUR = 60 * MINUTE


def test_a_bar_ends_with_its_interval() -> None:
    ends = BarEnds(AlwaysOpen(), "utc")
    assert ends(minute(3)) == START + 4 * MINUTE
    assert ends(minute(0, timeframe="15m")) == START + 15 * MINUTE
    assert ends.of("1h", START) == START + 45 * MINUTE
    assert ends.start_of("1h", START) == START - 15 * MINUTE


def test_a_bar_that_counts_trades_ends_when_it_is_made() -> None:
    ends = BarEnds(AlwaysOpen(), "utc")
    bar = minute(0, timeframe="ticks:5", received_ns=START + 7)
    assert ends(bar) == START + 7
    assert ends.of("ticks:5", START) is None
    assert ends.start_of("ticks:5", START) is None


def test_a_bar_of_a_timeframe_of_the_providers_own_ends_when_it_comes() -> None:
    ends = BarEnds(AlwaysOpen(), "utc")
    assert ends(minute(0, timeframe="1w", received_ns=START + 7)) == START + 7


def test_a_session_cuts_its_last_interval() -> None:
    close_ns = START + 345 * MINUTE  # 20:00 UTC, 16:00 in New York
    ends = BarEnds(RegularHours(), "session")
    assert ends.start_of("1h", START) == START - 45 * MINUTE
    assert ends.of("1h", close_ns - 1) == close_ns
    assert ends.start_of("1h", close_ns - 1) == close_ns - HOUR // 2


def test_a_day_is_the_calendars() -> None:
    midnight_ns = START - 855 * MINUTE
    assert BarEnds(AlwaysOpen(), "utc").of("1d", START) == midnight_ns + 24 * HOUR
    assert BarEnds(RegularHours(), "utc").of("1d", START) == midnight_ns + 28 * HOUR
