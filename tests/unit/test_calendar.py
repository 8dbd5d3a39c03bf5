from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from realtime_stream.market.calendar import (
    AlwaysOpen,
    MarketCalendar,
    NeverOpen,
    RegularHours,
    default_calendar,
)

NEW_YORK: Final = ZoneInfo("America/New_York")
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
SECOND: Final = 10**9
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
WHOLE: Final = 13 * HOUR // 2
SHORT: Final = 7 * HOUR // 2

# As the exchange publishes them: days without a session, and days that end at 13:00.
HOLIDAYS: Final = {
    2022: "01-17 02-21 04-15 05-30 06-20 07-04 09-05 11-24 12-26",
    2023: "01-02 01-16 02-20 04-07 05-29 06-19 07-04 09-04 11-23 12-25",
    2024: "01-01 01-15 02-19 03-29 05-27 06-19 07-04 09-02 11-28 12-25",
    2025: "01-01 01-20 02-17 04-18 05-26 06-19 07-04 09-01 11-27 12-25",
    2026: "01-01 01-19 02-16 04-03 05-25 06-19 07-03 09-07 11-26 12-25",
    2027: "01-01 01-18 02-15 03-26 05-31 06-18 07-05 09-06 11-25 12-24",
    2028: "01-17 02-21 04-14 05-29 06-19 07-04 09-04 11-23 12-25",
}
SHORT_DAYS: Final = {
    2022: "11-25",
    2023: "07-03 11-24",
    2024: "07-03 11-29 12-24",
    2025: "07-03 11-28 12-24",
    2026: "11-27 12-24",
    2027: "11-26",
    2028: "07-03 11-24",
}

moments = st.integers(
    min_value=int(datetime(2021, 12, 30, tzinfo=UTC).timestamp()) * SECOND,
    max_value=int(datetime(2029, 1, 2, tzinfo=UTC).timestamp()) * SECOND,
)
nearby = st.integers(min_value=-10 * DAY, max_value=10 * DAY)


def ns(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


def at(text: str) -> int:
    """A moment on New York's clocks."""
    return ns(datetime.fromisoformat(text).replace(tzinfo=NEW_YORK))


def market_day(day: date) -> int:
    """Market time of a New York day, from midnight to midnight."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=NEW_YORK)
    return RegularHours().open_ns(ns(midnight), ns(midnight + timedelta(days=1)))


@pytest.mark.parametrize("year", HOLIDAYS)
def test_every_day_of_the_year_has_the_hours_the_exchange_publishes(year: int) -> None:
    closed = {date.fromisoformat(f"{year}-{day}") for day in HOLIDAYS[year].split()}
    short = {date.fromisoformat(f"{year}-{day}") for day in SHORT_DAYS[year].split()}
    days = (date(year, 1, 1) + timedelta(days=n) for n in range(366))
    for day in (day for day in days if day.year == year):
        expected = SHORT if day in short else WHOLE
        if day.weekday() >= 5 or day in closed:
            expected = 0
        assert market_day(day) == expected, day


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2024-03-05T09:29:59.999999", False),
        ("2024-03-05T09:30", True),
        ("2024-03-05T15:59:59.999999", True),
        ("2024-03-05T16:00", False),
        ("2024-03-05T20:30", False),  # the next day in UTC
        ("2024-03-09T12:00", False),  # Saturday
        ("2024-03-10T12:00", False),  # Sunday, and clocks go forward
        ("2024-03-11T09:30", True),
        ("2024-11-01T15:59", True),
        ("2024-11-03T12:00", False),  # Sunday, and clocks go back
        ("2024-11-04T09:29", False),
        ("2024-11-04T09:30", True),
        ("2024-02-29T12:00", True),  # leap day
        ("2024-11-29T12:59", True),  # day after Thanksgiving
        ("2024-11-29T13:00", False),
        ("2021-12-31T15:00", True),  # New Year's Day on a Saturday is not made up for
    ],
)
def test_open_from_the_opening_until_before_the_close(moment: str, is_open: bool) -> None:
    assert RegularHours().is_open(at(moment)) is is_open


@pytest.mark.parametrize(
    ("opening", "utc"),
    [
        ("2024-03-08T09:30", "2024-03-08T14:30+00:00"),
        ("2024-03-11T09:30", "2024-03-11T13:30+00:00"),
        ("2024-11-01T09:30", "2024-11-01T13:30+00:00"),
        ("2024-11-04T09:30", "2024-11-04T14:30+00:00"),
    ],
)
def test_the_opening_follows_new_york_over_daylight_saving_time(opening: str, utc: str) -> None:
    assert at(opening) == ns(datetime.fromisoformat(utc))
    assert not RegularHours().is_open(at(opening) - 1)
    assert RegularHours().is_open(at(opening))


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("2024-03-05T10:00", "2024-03-05T10:02", 2 * MINUTE),
        ("2024-03-05T08:00", "2024-03-05T09:31", MINUTE),
        ("2024-03-05T15:59", "2024-03-05T18:00", MINUTE),
        ("2024-03-05T17:00", "2024-03-06T09:00", 0),  # overnight
        ("2024-03-05T21:00", "2024-03-06T09:31", MINUTE),
        ("2024-03-05T15:59", "2024-03-06T09:31", 2 * MINUTE),
        ("2024-03-05T00:00", "2024-03-06T00:00", WHOLE),
        ("2024-03-08T15:59", "2024-03-11T09:31", 2 * MINUTE),  # weekend, clocks go forward
        ("2024-11-01T15:59", "2024-11-04T09:31", 2 * MINUTE),  # weekend, clocks go back
        ("2024-03-28T15:59", "2024-04-01T09:31", 2 * MINUTE),  # Good Friday
        ("2024-07-03T12:00", "2024-07-05T10:00", 3 * HOUR // 2),  # early close, then a holiday
        ("2024-02-28T16:00", "2024-03-01T09:30", WHOLE),  # leap day
        ("2025-02-28T16:00", "2025-03-03T09:30", 0),  # no leap day
        ("2024-01-01T00:00", "2025-01-01T00:00", 249 * WHOLE + 3 * SHORT),
    ],
)
def test_market_time_between_two_moments(start: str, end: str, expected: int) -> None:
    calendar = RegularHours()
    assert calendar.open_ns(at(start), at(end)) == expected
    assert calendar.open_ns(at(end), at(start)) == 0
    assert calendar.open_ns(at(start), at(start)) == 0


def test_single_nanoseconds_count() -> None:
    calendar, opening = RegularHours(), at("2024-03-05T09:30")
    assert calendar.open_ns(opening - 5, opening + 3) == 3
    assert calendar.open_ns(opening + WHOLE - 2, opening + WHOLE + 7) == 2
    assert calendar.open_ns(opening + WHOLE - 1, opening + DAY + 1) == 2


def test_a_closure_that_no_rule_foretells_counts_as_open() -> None:
    assert market_day(date(2025, 1, 9)) == WHOLE


@given(start=moments, steps=st.lists(st.integers(0, 5 * DAY), max_size=6))
def test_market_time_adds_up_over_any_split(start: int, steps: list[int]) -> None:
    calendar = RegularHours()
    cuts = [start]
    for step in steps:
        cuts.append(cuts[-1] + step)
    parts = [calendar.open_ns(a, b) for a, b in pairwise(cuts)]
    assert sum(parts) == calendar.open_ns(cuts[0], cuts[-1])


@given(start=moments, end=moments, more=st.integers(0, 4 * DAY))
def test_market_time_grows_with_the_stretch_and_never_faster_than_time(
    start: int, end: int, more: int
) -> None:
    calendar = RegularHours()
    found = calendar.open_ns(start, end)
    assert 0 <= found <= max(end - start, 0)
    assert found <= calendar.open_ns(start, end + more) <= found + more
    assert found <= calendar.open_ns(start - more, end) <= found + more


@given(minute=st.integers(0, 2**23), length=st.integers(0, 4 * 24 * 60))
@example(minute=(at("2024-03-08T00:00") - at("2022-01-01T00:00")) // MINUTE, length=5760)
@example(minute=(at("2024-11-01T00:00") - at("2022-01-01T00:00")) // MINUTE, length=5760)
@example(minute=(at("2024-02-28T00:00") - at("2022-01-01T00:00")) // MINUTE, length=4320)
def test_market_time_is_the_minutes_that_are_open(minute: int, length: int) -> None:
    calendar = RegularHours()
    start = at("2022-01-01T00:00") + minute * MINUTE
    counted = sum(calendar.is_open(start + n * MINUTE) for n in range(length))
    assert calendar.open_ns(start, start + length * MINUTE) == counted * MINUTE


@given(at_ns=moments)
def test_open_is_where_market_time_passes(at_ns: int) -> None:
    calendar = RegularHours()
    assert calendar.open_ns(at_ns, at_ns + 1) == int(calendar.is_open(at_ns))


@given(at_ns=moments, offset=nearby)
def test_a_market_that_never_closes_counts_all_time(at_ns: int, offset: int) -> None:
    calendar = AlwaysOpen()
    assert calendar.is_open(at_ns)
    assert calendar.open_ns(at_ns, at_ns + offset) == max(offset, 0)


def test_both_are_calendars() -> None:
    calendars: list[MarketCalendar] = [AlwaysOpen(), RegularHours()]
    assert [calendar.open_ns(0, -1) for calendar in calendars] == [0, 0]


def test_decades_are_summed_up_once_for_all_symbols() -> None:
    calendar, now = RegularHours(), at("2024-03-11T12:00")
    starts = range(30_000)
    # Day by day for each of them this would take an hour, and the test would time out.
    assert len({calendar.open_ns(start, now) for start in starts}) == 1


def test_never_open_has_no_market_time() -> None:
    assert NeverOpen().open_ns(0, 10**18) == 0
    assert not NeverOpen().is_open(0)


@pytest.mark.parametrize(
    ("market", "feed", "kind"),
    [
        ("stocks", "iex", RegularHours),
        ("stocks", "sip", RegularHours),
        ("options", "opra", RegularHours),
        ("stocks", "test", AlwaysOpen),
        ("stocks", "overnight", NeverOpen),
        ("stocks", "boats", NeverOpen),
        ("crypto", "us", AlwaysOpen),
        ("news", "news", AlwaysOpen),
    ],
)
def test_each_market_has_its_own_by_default(market: str, feed: str, kind: type) -> None:
    assert type(default_calendar(market, feed)) is kind
