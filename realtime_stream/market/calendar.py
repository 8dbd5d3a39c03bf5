"""When a market is open, so that silence means something. Pure: every moment is given."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from datetime import tzinfo

__all__ = [
    "AlwaysOpen",
    "MarketCalendar",
    "NeverOpen",
    "RegularHours",
    "SessionCalendar",
    "default_calendar",
    "local_day",
]

_NIGHT_FEEDS: Final = frozenset({"boats", "overnight"})
_OWN_HOURS: Final = _NIGHT_FEEDS | {"test"}
_DAY_NS: Final = 86_400 * 10**9
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL: Final = _EPOCH.toordinal()
_NEW_YORK: Final = ZoneInfo("America/New_York")
_OPEN: Final = time(9, 30)
_CLOSE: Final = time(16)
_EARLY_CLOSE: Final = time(13)
_CLOSED: Final = (0, 0)
_MONDAY, _THURSDAY, _SATURDAY, _SUNDAY = 0, 3, 5, 6
_JULY_3, _CHRISTMAS_EVE = (7, 3), (12, 24)
_ONE_DAY: Final = timedelta(days=1)


class MarketCalendar(Protocol):
    """Tells market time from other time. Implementations are thread-safe.

    Moments are nanoseconds since 1970-01-01T00:00:00Z. The two methods have to agree, and market
    time has to add up: ``open_ns(a, c) == open_ns(a, b) + open_ns(b, c)`` for ``a <= b <= c``.
    They are asked often, once for each silent symbol every few seconds, so they must not block.
    """

    def open_ns(self, start_ns: int, end_ns: int) -> int:
        """Nanoseconds of market time between two moments; 0 when ``end_ns <= start_ns``."""

    def is_open(self, at_ns: int) -> bool:
        """Whether the market is open at a moment: from the opening until before the close."""


@runtime_checkable
class SessionCalendar(MarketCalendar, Protocol):
    """A calendar that also knows days and sessions, which bars are aligned to.

    Implementations are thread-safe. Days follow one another without a gap.
    """

    def day_of(self, at_ns: int) -> tuple[int, int]:
        """Start, and end (which is outside), of the calendar day of a moment.

        It is the day of the exchange: 23 or 25 hours long when daylight saving time changes.
        """

    def session_of(self, at_ns: int) -> tuple[int, int] | None:
        """Opening and close of the session of the calendar day of a moment.

        ``None`` if that day has none. A pause at noon belongs to the session.
        """


class AlwaysOpen:
    """A market that never closes, such as crypto or news. Thread-safe."""

    def open_ns(self, start_ns: int, end_ns: int) -> int:
        """See :class:`MarketCalendar`."""
        return max(end_ns - start_ns, 0)

    def is_open(self, at_ns: int) -> bool:
        """Always ``True``."""
        return True

    def day_of(self, at_ns: int) -> tuple[int, int]:
        """See :class:`SessionCalendar`; a day of UTC."""
        start = at_ns - at_ns % _DAY_NS
        return start, start + _DAY_NS

    def session_of(self, at_ns: int) -> tuple[int, int] | None:
        """See :class:`SessionCalendar`; there is none."""
        return None


class NeverOpen:
    """No market time at all: silence is never reported. Thread-safe."""

    def open_ns(self, start_ns: int, end_ns: int) -> int:
        """See :class:`MarketCalendar`."""
        return 0

    def is_open(self, at_ns: int) -> bool:
        """See :class:`MarketCalendar`."""
        return False

    def day_of(self, at_ns: int) -> tuple[int, int]:
        """See :class:`SessionCalendar`; a day of New York."""
        _, start, end = local_day(at_ns, _NEW_YORK)
        return start, end

    def session_of(self, at_ns: int) -> tuple[int, int] | None:
        """See :class:`SessionCalendar`; there is none."""
        return None


class RegularHours:
    """Regular hours of US equities and options: weekdays from 09:30 to 16:00 in New York.

    The exchange's holidays and its closes at 13:00 follow from its rules as they stand since 2022
    (when Juneteenth was added), for any year. Closures that no rule foretells, such as a day of
    mourning or a storm, are not known here: they count as open. Neither is trading before 09:30
    and after 16:00, in which silence is common.

    Thread safety: every method may be called from any thread.
    """

    def open_ns(self, start_ns: int, end_ns: int) -> int:
        """See :class:`MarketCalendar`; exact, also over a change of daylight saving time."""
        if end_ns <= start_ns:
            return 0
        first, last = start_ns // _DAY_NS, end_ns // _DAY_NS
        opens, closes = _session_of(last)
        if first == last:
            return max(min(end_ns, closes) - max(start_ns, opens), 0)
        on_last = max(min(end_ns, closes) - opens, 0)
        opens, closes = _session_of(first)
        return max(closes - max(start_ns, opens), 0) + _open_on_days(first + 1, last) + on_last

    def is_open(self, at_ns: int) -> bool:
        """See :class:`MarketCalendar`."""
        opens, closes = _session_of(at_ns // _DAY_NS)
        return opens <= at_ns < closes

    def day_of(self, at_ns: int) -> tuple[int, int]:
        """See :class:`SessionCalendar`; a day of New York."""
        _, start, end = local_day(at_ns, _NEW_YORK)
        return start, end

    def session_of(self, at_ns: int) -> tuple[int, int] | None:
        """See :class:`SessionCalendar`."""
        local, _, _ = local_day(at_ns, _NEW_YORK)
        opens, closes = _session_of(local.toordinal() - _EPOCH_ORDINAL)
        return (opens, closes) if closes > opens else None


@lru_cache(maxsize=1024)
def _open_on_days(first: int, end: int) -> int:
    """Market time of whole UTC days, cached as all symbols ask for the same few stretches."""
    return sum(closes - opens for opens, closes in map(_session_of, range(first, end)))


@lru_cache(maxsize=4096)
def _session_of(day: int) -> tuple[int, int]:
    """Opening and close of a UTC day, given in days since the epoch; equal if there is none.

    Regular hours lie between 13:30 and 21:00 UTC all year round, so a UTC day has the session of
    the New York day with the same date.
    """
    local = date.fromordinal(_EPOCH_ORDINAL + day)
    if local.weekday() >= _SATURDAY or local in _holidays(local.year):
        return _CLOSED
    closes = _EARLY_CLOSE if _is_short(local) else _CLOSE
    return _utc_ns(local, _OPEN, _NEW_YORK), _utc_ns(local, closes, _NEW_YORK)


def local_day(at_ns: int, zone: tzinfo) -> tuple[date, int, int]:
    """The calendar day of a moment in a time zone: date, start, and end (which is outside)."""
    local = (_EPOCH + timedelta(microseconds=at_ns // 1000)).astimezone(zone).date()
    return local, _utc_ns(local, time(), zone), _utc_ns(local + _ONE_DAY, time(), zone)


def _utc_ns(local: date, at: time, zone: tzinfo) -> int:
    moment = datetime.combine(local, at, tzinfo=zone)
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def _is_short(session: date) -> bool:
    return (session.month, session.day) in {_JULY_3, _CHRISTMAS_EVE} or session == _thanksgiving(
        session.year
    ) + _ONE_DAY


@lru_cache(maxsize=128)
def _holidays(year: int) -> frozenset[date]:
    """Full holidays of the New York Stock Exchange, as observed."""
    # A New Year's Day on a Saturday is not made up for: the Friday before ends the old year.
    new_year = date(year, 1, 1)
    return frozenset({
        new_year if new_year.weekday() == _SATURDAY else _observed(new_year),
        _nth(year, 1, _MONDAY, 3),  # Martin Luther King Jr. Day
        _nth(year, 2, _MONDAY, 3),  # Washington's Birthday
        _easter(year) - timedelta(days=2),  # Good Friday
        _nth(year, 6, _MONDAY, 1) - timedelta(days=7),  # Memorial Day, the last Monday of May
        _observed(date(year, 6, 19)),  # Juneteenth
        _observed(date(year, 7, 4)),  # Independence Day
        _nth(year, 9, _MONDAY, 1),  # Labor Day
        _thanksgiving(year),
        _observed(date(year, 12, 25)),  # Christmas Day
    })


def _observed(holiday: date) -> date:
    """The Friday before a holiday on a Saturday, the Monday after one on a Sunday."""
    shift = {_SATURDAY: -_ONE_DAY, _SUNDAY: _ONE_DAY}
    return holiday + shift.get(holiday.weekday(), timedelta())


def _thanksgiving(year: int) -> date:
    return _nth(year, 11, _THURSDAY, 4)


def _nth(year: int, month: int, weekday: int, n: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (n - 1))


def _easter(year: int) -> date:
    """Easter Sunday, by the Gregorian computus of Meeus, Jones and Butcher."""
    century, in_century = divmod(year, 100)
    golden = year % 19
    correction = (century - (century + 8) // 25 + 1) // 3
    epact = (19 * golden + century - century // 4 - correction + 15) % 30
    weekday = (32 + 2 * (century % 4) + 2 * (in_century // 4) - epact - in_century % 4) % 7
    late = (golden + 11 * epact + 22 * weekday) // 451
    month, day = divmod(epact + weekday - 7 * late + 114, 31)
    return date(year, month, day + 1)


def default_calendar(market: str, feed: str) -> MarketCalendar:
    """The built-in calendar of a market's feed.

    Args:
        market: ``stocks``, ``crypto``, ``options`` or ``news``.
        feed: The feed; of stocks, the night feeds and the test feed have hours of their own.
    """
    if market in {"stocks", "options"} and feed not in _OWN_HOURS:
        return RegularHours()
    return NeverOpen() if feed in _NIGHT_FEEDS else AlwaysOpen()
