"""Bars of any timeframe out of minute bars, as history shows them."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from realtime_stream.simulator.bars import trading_day_start
from realtime_stream.simulator.wire import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["MINUTE", "Fields", "Timeframe", "parse_timeframe", "roll_up"]

Fields = dict[str, Any]
Unit = Literal["Min", "Hour", "Day"]

MINUTE: Final = 60 * SECOND
_HOUR: Final = 60 * MINUTE
_LENGTHS: Final[dict[Unit, int]] = {"Min": MINUTE, "Hour": _HOUR, "Day": 24 * _HOUR}
_MOST: Final[dict[Unit, int]] = {"Min": 59, "Hour": 23, "Day": 1}
# Alpaca's long and short names, and this library's.
_UNITS: Final[dict[str, Unit]] = {
    **{"Min": "Min", "T": "Min", "m": "Min"},
    **{"Hour": "Hour", "H": "Hour", "h": "Hour"},
    **{"Day": "Day", "D": "Day", "d": "Day"},
}
_TIMEFRAME: Final = re.compile(r"([1-9]\d?)(" + "|".join(_UNITS) + r")")
_VWAP_DECIMALS: Final = 6
_VOLUME_DECIMALS: Final = 9


@dataclass(frozen=True, slots=True)
class Timeframe:
    """A length of bars.

    Attributes:
        count: How many units.
        unit: Minutes, hours or days.
    """

    count: int
    unit: Unit

    @property
    def is_minute(self) -> bool:
        """Whether its bars are those of the stream."""
        return (self.count, self.unit) == (1, "Min")

    @property
    def is_day(self) -> bool:
        """Whether its bars are those of days."""
        return self.unit == "Day"

    @property
    def length_ns(self) -> int:
        """Nanoseconds of a bar; of a day with a change of clocks an hour more or less."""
        return self.count * _LENGTHS[self.unit]

    def start_of(self, t_ns: int) -> int:
        """Start of the bar that this time belongs to.

        Bars are counted from midnight in New York, where Alpaca's days begin; for lengths that
        divide an hour that is the same as from any full hour. How Alpaca places others is not
        documented.
        """
        if _HOUR % self.length_ns == 0:
            return t_ns // self.length_ns * self.length_ns
        day = trading_day_start(t_ns)
        return day if self.is_day else day + (t_ns - day) // self.length_ns * self.length_ns


def parse_timeframe(text: str) -> Timeframe:
    """A timeframe as Alpaca writes it (``5Min``, ``5T``, ``1Hour``, ``1Day``) or ``5m``, ``1d``.

    Raises:
        ValueError: It is none: minutes up to 59, hours up to 23, or one day.
    """
    match = _TIMEFRAME.fullmatch(text)
    if match is None or int(match[1]) > _MOST[_UNITS[match[2]]]:
        msg = f"invalid timeframe: {text}"
        raise ValueError(msg)
    return Timeframe(int(match[1]), _UNITS[match[2]])


def roll_up(minutes: Iterable[tuple[int, Mapping[str, Any]]], timeframe: Timeframe) -> list[Fields]:
    """Bars out of pairs of start and minute bar, in the order of their times."""
    by_start = itertools.groupby(minutes, key=lambda pair: timeframe.start_of(pair[0]))
    return [_joined(start, [bar for _, bar in group]) for start, group in by_start]


def _joined(start: int, bars: list[Mapping[str, Any]]) -> Fields:
    volumes = [bar["v"] for bar in bars]
    volume = sum(volumes)
    if isinstance(volume, float):  # coins have eight decimals
        volume = round(math.fsum(volumes), _VOLUME_DECIMALS)
    # Weighted with the volume of the bars, although Alpaca's own averages leave out trades that
    # count for the volume only: all that there is besides the bars.
    weighted = math.fsum(bar["vw"] * bar["v"] for bar in bars)
    return {
        "t": start,
        "o": bars[0]["o"],
        "h": max(bar["h"] for bar in bars),
        "l": min(bar["l"] for bar in bars),
        "c": bars[-1]["c"],
        "v": volume,
        "n": sum(bar["n"] for bar in bars),
        "vw": round(weighted / volume, _VWAP_DECIMALS) if volume else 0.0,
    }
