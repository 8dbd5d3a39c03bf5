"""Which series of bars a registration asks for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, TypeAlias

from realtime_stream.errors import ConfigurationError
from realtime_stream.market.timeframe import TimeframeSpec, parse_timeframe

__all__ = [
    "BuiltFrom",
    "SeriesSpec",
    "check_origin",
    "checked_look_back",
    "origin_of",
    "series_spec",
]

BuiltFrom: TypeAlias = Literal["bars", "trades"]

_MINUTE_NS: Final = 60 * 10**9
_MOST_BARS: Final = 100_000
_LONGEST: Final = timedelta(days=3653)


@dataclass(frozen=True, slots=True)
class SeriesSpec:
    """A kind of bars that is built here.

    Attributes:
        timeframe: Canonical name, such as ``5m``.
        channel: What it is built of: ``trades``, ``bars`` or ``daily_bars``.
        fill: Whether empty intervals are filled.
    """

    timeframe: str
    channel: Literal["trades", "bars", "daily_bars"]
    fill: bool = False

    @property
    def channels(self) -> tuple[str, ...]:
        """What has to be subscribed to for it."""
        return ("bars", "updated_bars") if self.channel == "bars" else (self.channel,)

    @property
    def origin(self) -> str:
        """Which of several series with the same timeframe this is, for the look-back."""
        return origin_of("trades" if self.channel == "trades" else "bars", fill=self.fill)


def origin_of(built_from: BuiltFrom, *, fill: bool) -> str:
    """The name of a kind of series in the look-back; the feed's own is among those of bars."""
    return f"{built_from}-filled" if fill else built_from


def series_spec(
    timeframe: str, built_from: str | None, *, fill: bool, channels: frozenset[str]
) -> SeriesSpec | None:
    """The series to build, or ``None`` where the feed has it.

    Args:
        timeframe: As the user gave it.
        built_from: ``bars``, ``trades`` or ``None``.
        fill: Whether empty intervals are filled.
        channels: The market's channels.

    Raises:
        ConfigurationError: There is no such timeframe, or it cannot be built that way.
    """
    spec = parse_timeframe(timeframe)
    check_origin(built_from, fill=fill)
    of_bars = _is_of_bars(spec)
    if built_from == "bars" and not of_bars:
        msg = f"built_from: {spec.text} cannot be built of bars, only of trades"
        raise ConfigurationError(msg)
    if built_from == "bars" and "bars" not in channels:
        msg = "built_from: this market has no bars, only trades"
        raise ConfigurationError(msg)
    if fill and spec.kind != "time":
        msg = f"fill: {spec.text} has no empty intervals"
        raise ConfigurationError(msg)
    if of_bars and built_from != "trades" and "bars" in channels:
        if spec.text == "1m" and not fill:
            return None
        return SeriesSpec(spec.text, "daily_bars" if spec.is_day else "bars", fill)
    if "trades" not in channels:
        msg = "timeframe: this market has neither bars nor trades to build bars of"
        raise ConfigurationError(msg)
    return SeriesSpec(spec.text, "trades", fill)


def check_origin(built_from: object, *, fill: object) -> None:
    """Check what says of which series of a timeframe bars are asked for.

    Raises:
        ConfigurationError: It is neither ``bars``, ``trades`` nor ``None``, or ``fill`` no bool.
    """
    if not isinstance(fill, bool):
        msg = f"fill must be True or False, not {ascii(fill)[:30]}"
        raise ConfigurationError(msg)
    if built_from not in [None, "bars", "trades"]:  # a list, as it may be anything
        msg = f"built_from must be 'bars' or 'trades', not {ascii(built_from)[:30]}"
        raise ConfigurationError(msg)


def _is_of_bars(spec: TimeframeSpec) -> bool:
    return spec.is_day or (spec.ns is not None and spec.ns % _MINUTE_NS == 0)


def checked_look_back(history: object, timeframe: str) -> int | timedelta | None:
    """Return ``history`` if it can be fetched.

    Raises:
        ConfigurationError: It is neither a number of bars nor a time, or the timeframe has none.
    """
    if history is None:
        return None
    if not _is_of_bars(parse_timeframe(timeframe)):
        msg = f"history: there is none of {timeframe}; there is of minutes, hours and days"
        raise ConfigurationError(msg)
    if isinstance(history, timedelta) and timedelta() < history <= _LONGEST:
        return history
    if isinstance(history, int) and not isinstance(history, bool) and 0 < history <= _MOST_BARS:
        return history
    msg = (
        "history must be a timedelta above 0 and of at most ten years, "
        f"or a number of bars from 1 to {_MOST_BARS}"
    )
    raise ConfigurationError(msg)
