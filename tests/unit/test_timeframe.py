from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_stream.errors import ConfigurationError
from realtime_stream.market.calendar import AlwaysOpen, NeverOpen, RegularHours
from realtime_stream.market.timeframe import Alignment, Intervals, parse_timeframe

if TYPE_CHECKING:
    from realtime_stream.market.calendar import SessionCalendar

SECOND = 10**9
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


def texts(interval: tuple[int, int]) -> list[str]:
    return [f"{datetime.fromtimestamp(ns // SECOND, UTC):%m-%d %H:%M:%S}" for ns in interval]


def interval(
    moment: str,
    timeframe: str,
    alignment: Alignment = "session",
    calendar: SessionCalendar | None = None,
) -> list[str]:
    intervals = Intervals(parse_timeframe(timeframe), calendar or RegularHours(), alignment)
    return texts(intervals.of(at(moment)))


@pytest.mark.parametrize(
    ("text", "canonical", "ns"),
    [
        ("1s", "1s", SECOND),
        ("60s", "1m", MINUTE),
        ("90s", "90s", 90 * SECOND),
        ("1m", "1m", MINUTE),
        ("5m", "5m", 5 * MINUTE),
        ("15m", "15m", 15 * MINUTE),
        ("60m", "1h", HOUR),
        ("90m", "90m", 90 * MINUTE),
        ("1h", "1h", HOUR),
        ("12h", "12h", 12 * HOUR),
        ("1d", "1d", None),
        ("24h", "1d", None),
        ("1440m", "1d", None),
    ],
)
def test_a_time(text: str, canonical: str, ns: int | None) -> None:
    spec = parse_timeframe(text)
    assert (spec.text, spec.kind, spec.ns, spec.size) == (canonical, "time", ns, None)
    assert spec.is_day is (ns is None)
    assert parse_timeframe(canonical) == spec


@pytest.mark.parametrize(
    ("text", "canonical", "kind", "size"),
    [
        ("ticks:100", "ticks:100", "ticks", "100"),
        ("ticks:1.0", "ticks:1", "ticks", "1"),
        ("volume:10000", "volume:10000", "volume", "10000"),
        ("volume:0.50", "volume:0.5", "volume", "0.5"),
        ("volume:00.5", "volume:0.5", "volume", "0.5"),
        ("dollars:1000000", "dollars:1000000", "dollars", "1000000"),
    ],
)
def test_a_count(text: str, canonical: str, kind: str, size: str) -> None:
    spec = parse_timeframe(text)
    assert (spec.text, spec.kind, spec.ns, spec.size) == (canonical, kind, None, Decimal(size))
    assert not spec.is_day
    assert parse_timeframe(canonical) == spec


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "5",
            "m",
            "0m",
            "05m",
            "-1m",
            "1.5m",
            "7m",
            "7s",
            "5h",
            "2d",
            "25h",
            "1w",
            "1 m",
            "1M",
        ),
        *("1m\n", "५m", "ticks", "ticks:", "ticks:0", "ticks:1.5", "ticks:-1", "ticks:1e3"),
        *("volume:0.0", "volume:.", "volume:1.2.3", "dollars:nan", "dollars:inf", "trades:5"),
    ],
)
def test_what_is_refused_names_the_setting_and_what_is_allowed(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"timeframe .*divide a day.*1d.*ticks:N"):
        parse_timeframe(text)


def test_what_has_no_intervals() -> None:
    with pytest.raises(ConfigurationError, match="timeframe 'ticks:5'"):
        Intervals(parse_timeframe("ticks:5"), AlwaysOpen())


def test_a_calendar_without_days_serves_the_grid_of_utc_only() -> None:
    class Plain:
        def open_ns(self, start_ns: int, end_ns: int) -> int:
            return end_ns - start_ns

        def is_open(self, at_ns: int) -> bool:
            return True

    assert Intervals(parse_timeframe("5m"), Plain()).of(7 * MINUTE) == (5 * MINUTE, 10 * MINUTE)
    with pytest.raises(ConfigurationError, match="calendar Plain"):
        Intervals(parse_timeframe("1d"), Plain())
    with pytest.raises(ConfigurationError, match="calendar Plain"):
        Intervals(parse_timeframe("5m"), Plain(), "session")


def test_aligned_to_utc() -> None:
    assert interval("2024-03-05 14:34:59", "5m", "utc") == ["03-05 14:30:00", "03-05 14:35:00"]
    assert interval("2024-03-05 14:35:00", "5m", "utc") == ["03-05 14:35:00", "03-05 14:40:00"]
    assert interval("2024-03-05 14:31:00", "4h", "utc") == ["03-05 12:00:00", "03-05 16:00:00"]


@pytest.mark.parametrize(
    ("moment", "begins", "ends"),
    [
        ("2024-03-05 04:59:59", "03-04 05:00:00", "03-05 05:00:00"),
        ("2024-03-10 12:00:00", "03-10 05:00:00", "03-11 04:00:00"),  # 23 hours
        ("2024-11-03 12:00:00", "11-03 04:00:00", "11-04 05:00:00"),  # 25 hours
    ],
)
@pytest.mark.parametrize("calendar", [RegularHours(), NeverOpen()])
@pytest.mark.parametrize("alignment", ["utc", "session"])
def test_a_day_is_one_of_new_york(
    moment: str, begins: str, ends: str, calendar: SessionCalendar, alignment: Alignment
) -> None:
    assert interval(moment, "1d", alignment, calendar) == [begins, ends]


def test_a_day_is_one_of_utc_where_the_market_never_closes() -> None:
    found = interval("2024-03-10 12:00:00", "1d", "utc", AlwaysOpen())
    assert found == ["03-10 00:00:00", "03-11 00:00:00"]


@pytest.mark.parametrize(
    ("moment", "timeframe", "begins", "ends"),
    [
        ("2024-03-05 14:30:00", "1h", "03-05 14:30:00", "03-05 15:30:00"),  # the open
        ("2024-03-05 20:59:59", "1h", "03-05 20:30:00", "03-05 21:00:00"),  # cut at the close
        ("2024-03-05 14:29:59", "1h", "03-05 14:00:00", "03-05 14:30:00"),  # cut at the open
        ("2024-03-05 21:00:00", "1h", "03-05 21:00:00", "03-05 22:00:00"),
        ("2024-03-05 21:00:00", "4h", "03-05 21:00:00", "03-06 00:00:00"),  # cut at the close
        ("2024-03-05 12:00:00", "12h", "03-05 12:00:00", "03-05 14:30:00"),
        ("2024-03-05 22:00:00", "12h", "03-05 21:00:00", "03-06 00:00:00"),
        ("2024-07-03 16:59:00", "1h", "07-03 16:30:00", "07-03 17:00:00"),  # a close at 13:00
        ("2024-07-04 16:59:00", "1h", "07-04 16:00:00", "07-04 17:00:00"),  # no session
        ("2024-03-11 13:30:00", "4h", "03-11 13:30:00", "03-11 17:30:00"),  # summer time
        ("2024-03-05 14:37:00", "5m", "03-05 14:35:00", "03-05 14:40:00"),
    ],
)
def test_aligned_to_the_session(moment: str, timeframe: str, begins: str, ends: str) -> None:
    assert interval(moment, timeframe) == [begins, ends]


def test_without_a_session_it_is_the_grid_of_utc() -> None:
    found = interval("2024-03-05 14:31:00", "4h", "session", AlwaysOpen())
    assert found == ["03-05 12:00:00", "03-05 16:00:00"]


class Early:
    """Days from 15:00 to 15:00 UTC with a session that opens at 23:00, as in Tokyo."""

    def open_ns(self, start_ns: int, end_ns: int) -> int:
        raise NotImplementedError

    def is_open(self, at_ns: int) -> bool:
        raise NotImplementedError

    def day_of(self, at_ns: int) -> tuple[int, int]:
        start = at_ns - (at_ns - 15 * HOUR) % DAY
        return start, start + DAY

    def session_of(self, at_ns: int) -> tuple[int, int] | None:
        start, _ = self.day_of(at_ns)
        return start + 8 * HOUR, start + 15 * HOUR


def test_the_next_days_session_cuts_too() -> None:
    # At 13:00 UTC it is still the day before the one whose session opens at 23:00.
    found = interval("2024-03-05 13:00:00", "12h", "session", Early())
    assert found == ["03-05 12:00:00", "03-05 23:00:00"]


@given(
    st.integers(at("2024-01-01"), at("2025-01-01")),
    st.sampled_from(["1s", "1m", "90s", "15m", "1h", "4h", "12h", "1d"]),
    st.sampled_from(["utc", "session"]),
    st.sampled_from([RegularHours(), AlwaysOpen(), NeverOpen(), Early()]),
)
def test_intervals_follow_one_another(
    moment: int, timeframe: str, alignment: Alignment, calendar: SessionCalendar
) -> None:
    intervals = Intervals(parse_timeframe(timeframe), calendar, alignment)
    start, end = intervals.of(moment)
    assert start <= moment < end
    assert intervals.of(start) == intervals.of(end - 1) == (start, end)
    assert intervals.of(end)[0] == end
    assert intervals.of(start - 1)[1] == start
