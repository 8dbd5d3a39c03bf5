"""Bars as Alpaca builds them from trades, in exact integer arithmetic.

Of Alpaca's table of sale conditions only what the generator uses is here: a regular sale counts
for everything, an odd lot ("I") for volume and the number of trades only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from realtime_stream.simulator.wire import SECOND, to_ns

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["PRICE_SCALE", "BarTotals", "Print", "trading_day_start"]

PRICE_SCALE: Final = 10_000  # prices are integers: four decimals
_VWAP_DECIMALS: Final = 6
_NEW_YORK: Final = ZoneInfo("America/New_York")


@dataclass(frozen=True, slots=True)
class Print:
    """What a trade means for bars.

    Attributes:
        price: In ten-thousandths.
        size: In the smallest unit of its market.
        odd_lot: Whether it counts for volume only.
    """

    price: int
    size: int
    odd_lot: bool


@dataclass(slots=True)
class BarTotals:
    """Running totals of one bar; trades are added in the order of their times."""

    open: int = 0
    high: int = 0
    low: int = 0
    close: int = 0
    volume: int = 0
    count: int = 0
    notional: int = 0
    priced_volume: int = 0

    def add(self, trade: Print) -> None:
        """One more trade."""
        self.volume += trade.size
        self.count += 1
        if trade.odd_lot:
            return
        if not self.exists:
            self.open = self.high = self.low = trade.price
        self.high = max(self.high, trade.price)
        self.low = min(self.low, trade.price)
        self.close = trade.price
        self.notional += trade.price * trade.size
        self.priced_volume += trade.size

    @classmethod
    def joined(cls, parts: Iterable[BarTotals]) -> BarTotals:
        """The totals of parts that follow each other."""
        whole = cls()
        for part in parts:
            if part.exists:
                if not whole.exists:
                    whole.open, whole.high, whole.low = part.open, part.high, part.low
                whole.high = max(whole.high, part.high)
                whole.low = min(whole.low, part.low)
                whole.close = part.close
            whole.volume += part.volume
            whole.count += part.count
            whole.notional += part.notional
            whole.priced_volume += part.priced_volume
        return whole

    @property
    def exists(self) -> bool:
        """Whether there is a bar: not before a trade that has a say in its prices."""
        return self.priced_volume > 0

    def message(self, kind: str, symbol: str, t_ns: int, size_scale: int) -> dict[str, Any]:
        """The bar as of now, as the wire has it; ``kind`` is "b", "u" or "d"."""
        vwap = self.notional / (self.priced_volume * PRICE_SCALE)
        return {
            "T": kind,
            "S": symbol,
            "o": self.open / PRICE_SCALE,
            "h": self.high / PRICE_SCALE,
            "l": self.low / PRICE_SCALE,
            "c": self.close / PRICE_SCALE,
            "v": self.volume if size_scale == 1 else self.volume / size_scale,
            "n": self.count,
            "vw": round(vwap, _VWAP_DECIMALS),
            "t": t_ns,
        }


def trading_day_start(t_ns: int) -> int:
    """Midnight in New York before this time: the time of a daily bar."""
    day = datetime.fromtimestamp(t_ns // SECOND, UTC).astimezone(_NEW_YORK).date()
    return to_ns(datetime.combine(day, time(), _NEW_YORK))
