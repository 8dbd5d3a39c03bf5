"""Time frames of bars, and the intervals they cut time into. Pure: every moment is given."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Final, Literal, TypeAlias

from realtime_stream.errors import ConfigurationError
from realtime_stream.market.calendar import MarketCalendar, SessionCalendar

__all__ = ["Alignment", "Intervals", "TimeframeKind", "TimeframeSpec", "parse_timeframe"]

Alignment: TypeAlias = Literal["utc", "session"]
TimeframeKind: TypeAlias = Literal["time", "ticks", "volume", "dollars"]

_DAY_SECONDS: Final = 86_400
_SECOND_NS: Final = 10**9
_DAY_NS: Final = _DAY_SECONDS * _SECOND_NS
_TIME: Final = re.compile(r"([1-9][0-9]{0,5})([smhd])", re.ASCII)
_COUNTED: Final = re.compile(r"(ticks|volume|dollars):([0-9.]{1,40})", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": _DAY_SECONDS}
_KINDS: Final[dict[str, TimeframeKind]] = {
    "ticks": "ticks",
    "volume": "volume",
    "dollars": "dollars",
}
_ALLOWED: Final = (
    "allowed are 1s, 1m, 1h and multiples of them that divide a day evenly (5m, 15m, 4h), 1d, "
    "and ticks:N, volume:N and dollars:N with N above 0"
)


@dataclass(frozen=True, slots=True)
class TimeframeSpec:
    """What the text of a time frame means.

    Attributes:
        text: The one way it is written: ``60s`` is ``1m``, ``60m`` is ``1h``, ``24h`` is ``1d``.
        kind: ``time``, or what is counted until a bar is full.
        ns: Nanoseconds of an interval; ``None`` for a day, which may be 23 or 25 hours long, and
            for what is counted.
        size: How many ticks, shares or dollars fill a bar; ``None`` for time.
    """

    text: str
    kind: TimeframeKind
    ns: int | None = None
    size: Decimal | None = None

    @property
    def is_day(self) -> bool:
        """Whether an interval is a calendar day."""
        return self.kind == "time" and self.ns is None


def parse_timeframe(text: str) -> TimeframeSpec:
    """Read a time frame, such as ``5m``, ``1d`` or ``ticks:100``. Thread-safe.

    Raises:
        ConfigurationError: It is not one, or does not divide a day evenly.
    """
    given: object = text
    if not isinstance(given, str):
        raise _refused(ascii(given)[:30])
    return _parsed(given)


@lru_cache(maxsize=256)
def _parsed(text: str) -> TimeframeSpec:
    if match := _TIME.fullmatch(text):
        return _of_seconds(text, int(match[1]) * _SECONDS[match[2]])
    if match := _COUNTED.fullmatch(text):
        return _of_count(text, match[1], match[2])
    raise _refused(text)


def _of_seconds(text: str, seconds: int) -> TimeframeSpec:
    if seconds > _DAY_SECONDS or _DAY_SECONDS % seconds:
        raise _refused(text)
    if seconds == _DAY_SECONDS:
        return TimeframeSpec("1d", "time")
    unit = next(unit for unit in "hms" if seconds % _SECONDS[unit] == 0)
    return TimeframeSpec(f"{seconds // _SECONDS[unit]}{unit}", "time", seconds * _SECOND_NS)


def _of_count(text: str, kind: str, number: str) -> TimeframeSpec:
    try:
        size = Decimal(number)
    except InvalidOperation:
        raise _refused(text) from None
    if not size or (kind == "ticks" and size != int(size)):
        raise _refused(text)
    digits = f"{size:f}"
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    digits = digits.lstrip("0")
    canonical = f"{kind}:{'0' * digits.startswith('.')}{digits}"
    return TimeframeSpec(canonical, _KINDS[kind], size=Decimal(digits))


def _refused(text: str) -> ConfigurationError:
    return ConfigurationError(f"timeframe {text!r} is not one that bars can have: {_ALLOWED}")


class Intervals:
    """The intervals of one time frame: which one a moment lies in.

    Aligned to UTC, intervals are counted from midnight UTC; a day is the calendar's own, such as
    midnight to midnight in New York. Aligned to the session, they are counted from the session's
    open, and the last one ends at its close; before the open and after the close they are those of
    UTC, cut at the open and at the close.

    Thread safety: one thread at a time, as the last interval is kept.
    """

    __slots__ = ("_end", "_ns", "_sessions", "_start", "calendar", "spec")

    def __init__(
        self, spec: TimeframeSpec, calendar: MarketCalendar, alignment: Alignment = "utc"
    ) -> None:
        """Begin with no interval kept.

        Args:
            spec: A time frame of the kind ``time``.
            calendar: Has the days and the sessions.
            alignment: ``utc`` or ``session``.

        Raises:
            ConfigurationError: The time frame is counted, or the calendar has neither days nor
                sessions while they are needed.
        """
        if spec.kind != "time":
            msg = f"timeframe {spec.text!r} has no intervals: its bars are counted"
            raise ConfigurationError(msg)
        self.spec = spec
        self.calendar = calendar
        self._sessions: SessionCalendar | None = None
        if spec.is_day or alignment == "session":
            if not isinstance(calendar, SessionCalendar):
                msg = (
                    f"calendar {type(calendar).__name__} lacks day_of and session_of, which "
                    f"timeframe {spec.text!r} aligned to {alignment!r} needs"
                )
                raise ConfigurationError(msg)
            self._sessions = calendar
        self._ns = spec.ns or _DAY_NS
        self._start = self._end = 0

    @property
    def length_ns(self) -> int:
        """Nanoseconds of an ordinary interval; a day counts as 24 hours."""
        return self._ns

    def of(self, timestamp_ns: int) -> tuple[int, int]:
        """Start, and end (which is outside), of the interval that holds a moment.

        Args:
            timestamp_ns: Nanoseconds since the epoch, UTC.
        """
        if not self._start <= timestamp_ns < self._end:
            self._start, self._end = self._find(timestamp_ns)
        return self._start, self._end

    def _find(self, at_ns: int) -> tuple[int, int]:
        if self._sessions is None:
            start = at_ns - at_ns % self._ns
            return start, start + self._ns
        if self.spec.is_day:
            return self._sessions.day_of(at_ns)
        return self._aligned_to_session(self._sessions, at_ns)

    def _aligned_to_session(self, calendar: SessionCalendar, at_ns: int) -> tuple[int, int]:
        start = at_ns - at_ns % self._ns
        end = start + self._ns
        day_start, day_end = calendar.day_of(at_ns)
        # An interval of UTC may reach into the sessions of the days before and after.
        for moment in (day_start - 1, at_ns, day_end):
            session = calendar.session_of(moment)
            if session is None:
                continue
            opens, closes = session
            if opens <= at_ns < closes:
                start = at_ns - (at_ns - opens) % self._ns
                return start, min(start + self._ns, closes)
            if closes <= at_ns:
                start = max(start, closes)
            else:
                end = min(end, opens)
        return start, end
