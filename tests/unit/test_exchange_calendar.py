from __future__ import annotations

import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from threading import Barrier
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_stream.errors import ConfigurationError
from realtime_stream.market.calendar import MarketCalendar, RegularHours
from realtime_stream.market.exchange_calendar import ExchangeCalendar

needs_extra = pytest.mark.skipif(
    importlib.util.find_spec("exchange_calendars") is None,
    reason="the extra `calendars` is not installed",
)
pytestmark = [
    # exchange-calendars 4.13 uses what pandas 3.1 deprecates; our own module stays strict.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:exchange_calendars"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:pandas"),
]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
HOUR: Final = 3600 * 10**9
DAY: Final = 24 * HOUR
TUESDAY: Final = "2024-03-05"


def at(text: str) -> int:
    """A moment in UTC."""
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


def xnys() -> Any:
    import exchange_calendars  # noqa: PLC0415  # only where the extra is installed

    return exchange_calendars.get_calendar("XNYS", start="2022-01-01", end="2035-12-31")


@pytest.fixture(scope="module")
def new_york() -> ExchangeCalendar:
    return ExchangeCalendar()


@pytest.fixture(scope="module")
def hong_kong() -> ExchangeCalendar:
    return ExchangeCalendar("XHKG")  # 09:30-12:00 and 13:00-16:00 in Hong Kong


@needs_extra
def test_the_rule_agrees_with_the_exchange_but_for_closures_no_rule_foretells() -> None:
    rule, calendar = RegularHours(), xnys()
    schedule = calendar.schedule
    sessions = {
        opens.date(): (at(opens.strftime("%Y-%m-%dT%H:%M")), at(closes.strftime("%Y-%m-%dT%H:%M")))
        for opens, closes in zip(schedule["open"], schedule["close"], strict=True)
    }
    differing = []
    first = datetime(2022, 1, 1, tzinfo=UTC).date()
    for day in (first + timedelta(days=n) for n in range(14 * 365)):
        midnight = at(day.isoformat())
        opens, closes = sessions.get(day, (midnight, midnight))
        same = rule.open_ns(midnight, midnight + DAY) == closes - opens
        if opens < closes:
            edges = [opens - 1, opens, closes - 1, closes]
            same &= [rule.is_open(edge) for edge in edges] == [False, True, True, False]
        if not same:
            differing.append(day)
    assert "2025-01-09" in {day.isoformat() for day in differing}  # a day of mourning
    assert set(differing) <= {stamp.date() for stamp in calendar.adhoc_holidays}


@needs_extra
@given(
    start=st.integers(at("2022-01-01"), at("2025-01-08")),
    length=st.integers(0, 30 * DAY),
)
def test_both_count_the_same_market_time(
    new_york: ExchangeCalendar, start: int, length: int
) -> None:
    end = min(start + length, at("2025-01-08"))
    expected = RegularHours().open_ns(start, end)
    assert new_york.open_ns(start, end) == expected
    assert new_york.is_open(start) is RegularHours().is_open(start)


@needs_extra
def test_a_day_of_mourning_is_closed() -> None:
    calendar: MarketCalendar = ExchangeCalendar()
    assert calendar.open_ns(at("2025-01-09"), at("2025-01-10")) == 0
    assert not calendar.is_open(at("2025-01-09T17:00"))
    assert calendar.open_ns(at("2025-01-10"), at("2025-01-09")) == 0


@needs_extra
def test_a_pause_at_noon_is_not_market_time(hong_kong: ExchangeCalendar) -> None:
    calendar, day = hong_kong, at(TUESDAY)
    edges = [day + hours * HOUR // 2 for hours in (3, 8, 10, 16)]
    assert [calendar.is_open(edge) for edge in edges] == [True, False, True, False]
    assert [calendar.is_open(edge - 1) for edge in edges] == [False, True, False, True]
    assert calendar.open_ns(day, day + DAY) == 11 * HOUR // 2
    assert calendar.open_ns(edges[1] - 1, edges[2] + 2) == 3
    assert calendar.open_ns(edges[1] + 5, edges[2] - 5) == 0


@needs_extra
def test_a_session_may_begin_on_the_day_before() -> None:
    calendar = ExchangeCalendar("CMES")  # from Sunday 17:00 in Chicago
    opening = at("2024-03-03T23:00")
    assert not calendar.is_open(opening - 1)
    assert calendar.is_open(opening)
    assert calendar.open_ns(opening - HOUR, opening + 3 * HOUR) == 3 * HOUR


@needs_extra
def test_sessions_without_a_break_between_them_add_up() -> None:
    calendar = ExchangeCalendar("24/7")
    start = at("2024-03-01")
    assert calendar.open_ns(start - 5, start + 100 * DAY) == 100 * DAY + 5
    assert all(calendar.is_open(start + n) for n in (-1, 0, 1))


@needs_extra
@given(
    start=st.integers(at("2015-01-01"), at("2026-01-01")),
    steps=st.lists(st.integers(0, 40 * DAY), max_size=5),
)
def test_market_time_adds_up_over_any_split(
    new_york: ExchangeCalendar, hong_kong: ExchangeCalendar, start: int, steps: list[int]
) -> None:
    cuts = [start]
    for step in steps:
        cuts.append(cuts[-1] + step)
    for calendar in (new_york, hong_kong):
        parts = [calendar.open_ns(a, b) for a, b in pairwise(cuts)]
        assert sum(parts) == calendar.open_ns(cuts[0], cuts[-1])
        assert calendar.open_ns(start, start + 1) == int(calendar.is_open(start))


@needs_extra
@pytest.mark.parametrize("moment", ["1995-03-07T17:00", "2060-03-09T17:00"])
def test_a_moment_beyond_the_schedule_extends_it(moment: str) -> None:
    calendar = ExchangeCalendar()
    assert calendar.is_open(at(moment))
    assert calendar.open_ns(at(moment), at(moment) + DAY) == 13 * HOUR // 2
    # What was known before is still known.
    assert calendar.open_ns(at("2025-01-08"), at("2025-01-11")) == 13 * HOUR


# The package silences this warning with a filter that all threads share.
@pytest.mark.filterwarnings("ignore::pandas.errors.PerformanceWarning")
@needs_extra
def test_threads_may_extend_the_schedule_at_the_same_time() -> None:
    calendar = ExchangeCalendar()
    together = Barrier(4, timeout=30)

    def ask(year: int) -> int:
        together.wait()
        start = at(f"{year}-03-01")
        return calendar.open_ns(start, start + 7 * DAY)

    years = [1993, 2055, 2062, 1999]
    with ThreadPoolExecutor(len(years)) as pool:
        found = list(pool.map(ask, years))
    assert found == [5 * 13 * HOUR // 2] * len(years)


@needs_extra
def test_a_moment_the_package_does_not_know_is_refused() -> None:
    calendar = ExchangeCalendar("XHKG")
    with pytest.raises(ConfigurationError, match=r"XHKG has sessions from .* asked for 2096-10-02"):
        calendar.is_open(at("2096-10-02"))
    with pytest.raises(ConfigurationError, match="XNYS"):
        ExchangeCalendar().open_ns(at("2024-01-01"), 2**63 - 1)  # beyond what pandas can count
    assert calendar.is_open(at("2024-03-05T02:00"))


@needs_extra
def test_an_unknown_exchange_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'NOWHERE'"):
        ExchangeCalendar("NOWHERE")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "exchange_calendars", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'realtime-stream\[calendars\]'"):
        ExchangeCalendar()
