from __future__ import annotations

import importlib.util
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_stream.market.calendar import AlwaysOpen, NeverOpen, RegularHours, SessionCalendar
from realtime_stream.market.exchange_calendar import ExchangeCalendar

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_extra = pytest.mark.skipif(
    importlib.util.find_spec("exchange_calendars") is None,
    reason="the extra `calendars` is not installed",
)
pytestmark = [
    # exchange-calendars 4.13 uses what pandas 3.1 deprecates; our own module stays strict.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:exchange_calendars"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:pandas"),
]

SECOND = 10**9
HOUR = 3600 * SECOND
DAY = 24 * HOUR


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


def texts(stretch: tuple[int, int] | None) -> list[str] | None:
    if stretch is None:
        return None
    return [f"{datetime.fromtimestamp(ns // SECOND, UTC):%m-%d %H:%M}" for ns in stretch]


def each_hour(first: str, days: int) -> Iterator[int]:
    return iter(range(at(first) + 1, at(first) + days * DAY, HOUR // 2))


@pytest.mark.parametrize(
    ("moment", "day", "session"),
    [
        ("2024-03-05 04:59", ["03-04 05:00", "03-05 05:00"], ["03-04 14:30", "03-04 21:00"]),
        ("2024-03-05 05:00", ["03-05 05:00", "03-06 05:00"], ["03-05 14:30", "03-05 21:00"]),
        ("2024-03-10 12:00", ["03-10 05:00", "03-11 04:00"], None),  # 23 hours, a Sunday
        ("2024-03-11 04:00", ["03-11 04:00", "03-12 04:00"], ["03-11 13:30", "03-11 20:00"]),
        ("2024-11-03 12:00", ["11-03 04:00", "11-04 05:00"], None),  # 25 hours, a Sunday
        ("2024-07-03 12:00", ["07-03 04:00", "07-04 04:00"], ["07-03 13:30", "07-03 17:00"]),
        ("2024-07-04 12:00", ["07-04 04:00", "07-05 04:00"], None),
    ],
)
def test_days_and_sessions_of_new_york(
    moment: str, day: list[str], session: list[str] | None
) -> None:
    calendar = RegularHours()
    assert texts(calendar.day_of(at(moment))) == day
    assert texts(calendar.session_of(at(moment))) == session
    assert texts(NeverOpen().day_of(at(moment))) == day
    assert NeverOpen().session_of(at(moment)) is None


def test_a_market_that_never_closes_has_the_days_of_utc() -> None:
    assert texts(AlwaysOpen().day_of(at("2024-03-10 23:59"))) == ["03-10 00:00", "03-11 00:00"]
    assert AlwaysOpen().session_of(at("2024-03-10 23:59")) is None


@pytest.mark.parametrize("calendar", [AlwaysOpen(), NeverOpen(), RegularHours()])
def test_what_ships_has_days_and_sessions(calendar: object) -> None:
    assert isinstance(calendar, SessionCalendar)


@given(st.integers(at("2000-01-01"), at("2040-01-01")))
def test_days_follow_one_another_and_hold_their_session(moment: int) -> None:
    calendar = RegularHours()
    start, end = calendar.day_of(moment)
    assert start <= moment < end
    assert calendar.day_of(start) == calendar.day_of(end - 1) == (start, end)
    assert calendar.day_of(end)[0] == end
    session = calendar.session_of(moment)
    assert calendar.open_ns(start, end) == (session[1] - session[0] if session else 0)
    if session is not None:
        assert start < session[0] < session[1] < end
        assert calendar.is_open(session[0])
        assert not calendar.is_open(session[1])


@needs_extra
def test_the_exchanges_schedule_agrees_with_the_rule() -> None:
    rule, calendar = RegularHours(), ExchangeCalendar()
    assert isinstance(calendar, SessionCalendar)
    for moment in each_hour("2024-02-28", 14):
        assert calendar.day_of(moment) == rule.day_of(moment)
        assert calendar.session_of(moment) == rule.session_of(moment)


@needs_extra
def test_a_pause_at_noon_belongs_to_the_session() -> None:
    hong_kong = ExchangeCalendar("XHKG")
    noon = at("2024-03-05 04:30")
    assert not hong_kong.is_open(noon)
    assert texts(hong_kong.session_of(noon)) == ["03-05 01:30", "03-05 08:00"]
    assert texts(hong_kong.day_of(noon)) == ["03-04 16:00", "03-05 16:00"]
    assert hong_kong.session_of(at("2024-03-02 04:30")) is None  # a Saturday


@needs_extra
def test_a_session_long_ago_has_the_schedule_read_again() -> None:
    long_ago = datetime.now(UTC) - timedelta(days=25 * 365)
    monday = long_ago.date() - timedelta(days=long_ago.weekday() - 7)
    calendar = ExchangeCalendar()
    moments = [at(str(monday + timedelta(days=n))) + 12 * HOUR for n in range(5)]
    assert any(calendar.session_of(moment) for moment in moments)
