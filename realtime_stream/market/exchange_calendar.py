"""The schedules of the exchange-calendars package as a market calendar.

Imported by name only, and by nobody in this library: the package behind it loads pandas.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import timedelta
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from realtime_stream.clock import datetime_from_ns
from realtime_stream.errors import ConfigurationError
from realtime_stream.market.calendar import local_day

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import date, tzinfo
    from typing import Any

__all__ = ["ExchangeCalendar"]

_MARGIN: Final = timedelta(days=366)


class ExchangeCalendar:
    """Regular hours of one of the exchanges that exchange-calendars knows.

    Unlike :class:`~realtime_stream.RegularHours` it knows past closures that followed no rule, and
    the pauses that some exchanges make at noon. Closures that are announced after a release of the
    package come with a later one.

    The schedule is read once, from 20 years back to a year ahead. When a moment beyond it is asked
    for, it is read again, until a year after that moment, as far as the package allows.

    Thread safety: every method may be called from any thread.
    """

    def __init__(self, name: str = "XNYS") -> None:
        """Read the schedule; this takes a moment.

        Args:
            name: The exchange's code (``XNYS`` is New York), or another name that the package has.

        Raises:
            ConfigurationError: The package is not installed, or does not know the name.
        """
        self._name = name
        # Replaced as a whole, never changed: two threads that both need more read it twice.
        self._schedule = _read(name)

    def open_ns(self, start_ns: int, end_ns: int) -> int:
        """See :class:`~realtime_stream.MarketCalendar`.

        Raises:
            ConfigurationError: The package has no schedule for that time.
        """
        if end_ns <= start_ns:
            return 0
        schedule = self._covering(start_ns, end_ns)
        return schedule.open_before(end_ns) - schedule.open_before(start_ns)

    def is_open(self, at_ns: int) -> bool:
        """See :class:`~realtime_stream.MarketCalendar`.

        Raises:
            ConfigurationError: The package has no schedule for that time.
        """
        return self._covering(at_ns, at_ns).is_open(at_ns)

    def day_of(self, at_ns: int) -> tuple[int, int]:
        """See :class:`~realtime_stream.SessionCalendar`; a day of the exchange's time zone."""
        _, start, end = local_day(at_ns, self._schedule.zone)
        return start, end

    def session_of(self, at_ns: int) -> tuple[int, int] | None:
        """See :class:`~realtime_stream.SessionCalendar`.

        Raises:
            ConfigurationError: The package has no schedule for that time.
        """
        schedule = self._covering(at_ns, at_ns)
        local, _, _ = local_day(at_ns, schedule.zone)
        return schedule.sessions.get(local)

    def _covering(self, start_ns: int, end_ns: int) -> _Schedule:
        schedule = self._schedule
        if schedule.covers(start_ns, end_ns):
            return schedule
        first, last = datetime_from_ns(start_ns).date(), datetime_from_ns(end_ns).date()
        schedule = _read(
            self._name, min(first - _MARGIN, schedule.first), max(last + _MARGIN, schedule.last)
        )
        if not schedule.covers(start_ns, end_ns):
            msg = f"{self._name} has sessions from {schedule.first} to {schedule.last} only: " + (
                f"asked for {first} to {last}"
            )
            raise ConfigurationError(msg)
        self._schedule = schedule
        return schedule


@dataclass(frozen=True, slots=True)
class _Schedule:
    """Stretches of market time, in order and apart, and the sum of those before each.

    ``sessions`` has opening and close of each date's session, a pause included.
    """

    first: date
    last: date
    opens: tuple[int, ...]
    closes: tuple[int, ...]
    before: tuple[int, ...]
    sessions: Mapping[date, tuple[int, int]]
    zone: tzinfo

    def covers(self, start_ns: int, end_ns: int) -> bool:
        return self.opens[0] <= start_ns and end_ns < self.closes[-1]

    def open_before(self, at_ns: int) -> int:
        index = bisect_right(self.opens, at_ns) - 1
        return self.before[index] + min(at_ns, self.closes[index]) - self.opens[index]

    def is_open(self, at_ns: int) -> bool:
        return at_ns < self.closes[bisect_right(self.opens, at_ns) - 1]


def _read(name: str, first: date | None = None, last: date | None = None) -> _Schedule:
    package = _load()
    try:
        if first is not None and last is not None:
            first, last = _within_bounds(package.get_calendar(name), first, last)
        calendar = package.get_calendar(name, start=first, end=last)
    except (ValueError, package.errors.CalendarError) as exc:
        msg = f"exchange-calendars gives no schedule for {name!r}: {exc}"
        raise ConfigurationError(msg) from exc
    schedule = calendar.schedule
    stretches = list(_stretches(schedule))
    lengths = (closes - opens for opens, closes in stretches)
    return _Schedule(
        first=calendar.first_session.date(),
        last=calendar.last_session.date(),
        opens=tuple(opens for opens, _ in stretches),
        closes=tuple(closes for _, closes in stretches),
        before=tuple(accumulate(lengths, initial=0)),
        sessions=dict(_sessions(schedule)),
        zone=calendar.tz,
    )


def _load() -> Any:
    try:
        import exchange_calendars  # noqa: PLC0415  # loads pandas, and only some users have it
    except ImportError as exc:
        msg = "ExchangeCalendar needs exchange-calendars: pip install 'realtime-stream[calendars]'"
        raise ConfigurationError(msg) from exc
    return exchange_calendars


def _within_bounds(calendar: Any, first: date, last: date) -> tuple[date, date]:
    earliest, latest = calendar.bound_min(), calendar.bound_max()
    return (
        first if earliest is None else max(first, earliest.date()),
        last if latest is None else min(last, latest.date()),
    )


def _stretches(schedule: Any) -> Iterator[tuple[int, int]]:
    """Openings and closes, with the sessions that have a pause cut in two."""
    columns = (_ns(schedule[name]) for name in ("open", "break_start", "break_end", "close"))
    for opens, pauses, resumes, closes in zip(*columns, strict=True):
        if opens < pauses:  # no pause is NaT, the smallest integer
            yield opens, pauses
            yield resumes, closes
        else:
            yield opens, closes


def _sessions(schedule: Any) -> Iterator[tuple[date, tuple[int, int]]]:
    """The date of each session, with its opening and close."""
    columns = (_ns(schedule[name]) for name in ("open", "close"))
    for label, opens, closes in zip(schedule.index, *columns, strict=True):
        yield label.date(), (opens, closes)


def _ns(column: Any) -> list[int]:
    # Asked for in nanoseconds, as what pandas keeps depends on its release.
    numbers: list[int] = column.to_numpy("datetime64[ns]").astype("int64").tolist()
    return numbers
