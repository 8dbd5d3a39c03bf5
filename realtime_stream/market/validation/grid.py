"""Where a bar may start."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from realtime_stream.errors import ConfigurationError
from realtime_stream.market.timeframe import parse_timeframe

if TYPE_CHECKING:
    from realtime_stream.market.timeframe import TimeframeSpec

__all__ = ["interval_ns", "is_aligned"]

_NS: Final = 1_000_000_000
_NEW_YORK: Final = ZoneInfo("America/New_York")
_CHICAGO: Final = ZoneInfo("America/Chicago")
_OPENING_NS: Final = 34_200 * _NS  # 09:30; on a day of trading no clock is changed before it


def interval_ns(timeframe: str) -> int:
    """Length of an interval within a day; 0 for days, and for bars that are not of time.

    0 makes the end of such a bar its start: a daily bar comes while its day still runs.
    """
    spec = _spec(timeframe)
    return 0 if spec is None or spec.ns is None else spec.ns


@lru_cache(maxsize=4096)
def is_aligned(start_ns: int, timeframe: str, market: str) -> bool:
    """Whether a bar may start then. Bars that are not of time may start at any moment.

    Cached, as the bars of all symbols start at the same few moments.
    """
    spec = _spec(timeframe)
    if spec is None or spec.kind != "time":
        return True
    crypto = market == "crypto"
    try:
        if spec.ns is None:
            zones: tuple[tzinfo, ...] = (UTC, _CHICAGO) if crypto else (_NEW_YORK,)
            return any(_since_midnight(start_ns, zone) == 0 for zone in zones)
        if start_ns % spec.ns == 0:
            return True
        since = _since_midnight(start_ns, _NEW_YORK)
    except (ValueError, OverflowError):  # not a day of the years 1 to 9999 everywhere
        return False
    return not crypto and (since % spec.ns == 0 or (since - _OPENING_NS) % spec.ns == 0)


@lru_cache(maxsize=256)
def _spec(timeframe: str) -> TimeframeSpec | None:
    """What a timeframe means; ``None`` if it is not one of ours, such as a week."""
    try:
        return parse_timeframe(timeframe)
    except ConfigurationError:
        return None


def _since_midnight(at_ns: int, zone: tzinfo) -> int:
    seconds, rest = divmod(at_ns, _NS)
    local = datetime.fromtimestamp(seconds, zone)
    return (local.hour * 3600 + local.minute * 60 + local.second) * _NS + rest
