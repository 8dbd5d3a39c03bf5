"""Jumps of the price, against a rolling median."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Final

from realtime_stream.market.validation.findings import Finding
from realtime_stream.market.validation.memory import make_room

if TYPE_CHECKING:
    from realtime_stream.market.models import Bar, Trade

__all__ = ["Outliers"]

_FEWEST: Final = 5  # prices before a median says something
_OWN: Final = Context(prec=28, traps=[])  # a callback may have changed that of the thread


class Outliers:
    """Finds prices that are far from the median of the last ones of their symbol.

    Trades and bars have windows of their own; that of the bars holds their closes. While there are
    fewer than five prices nothing is found.

    A price that is rejected does not enter the window. But when that happens to more in a row than
    half a window holds, the market has moved: the window starts anew with the last of them, or
    nothing would ever be accepted again.

    Not thread-safe.
    """

    def __init__(self, limit: Decimal, size: int, *, keep: bool) -> None:
        """Nothing seen.

        Args:
            limit: Highest distance from the median, as a fraction of it.
            size: How many prices the median is taken of.
            keep: Whether outliers are delivered, so that they enter the window like any price.
        """
        self._limit = limit
        self._size = size
        self._keep = keep
        self._trades: dict[str, _Window] = {}
        self._bars: dict[str, _Window] = {}

    def of_trade(self, trade: Trade) -> Finding | None:
        """Whether a trade's price is an outlier; then it is taken in."""
        return self._of(self._trades, trade.symbol, trade.price, price=trade.price)

    def of_bar(self, bar: Bar) -> Finding | None:
        """Whether a bar's high or low is an outlier; then its close is taken in."""
        return self._of(self._bars, bar.symbol, bar.close, high=bar.high, low=bar.low)

    def forget(self, symbol: str) -> None:
        """Forget a symbol."""
        self._trades.pop(symbol, None)
        self._bars.pop(symbol, None)

    def _of(
        self, windows: dict[str, _Window], symbol: str, level: Decimal, **prices: Decimal
    ) -> Finding | None:
        if not all(map(_is_price, (level, *prices.values()))):
            return None  # another rule's affair, which the policy lets pass
        window = windows.get(symbol)
        if window is None:
            make_room(windows)
            window = windows[symbol] = _Window(self._size)
        median = window.median()
        if median is not None:
            for name, price in prices.items():
                if _distance(price, median) > _OWN.multiply(self._limit, median):
                    if self._keep:
                        window.add(level)
                    else:
                        window.leave_out(level)
                    text = f"{name} is far from the median of {median}"
                    return Finding("outlier", name, price, text)
        window.add(level)
        return None


class _Window:
    __slots__ = ("_in_a_row", "_newest", "_size", "_sorted")

    def __init__(self, size: int) -> None:
        self._size = size
        self._newest: deque[Decimal] = deque()
        self._sorted: list[Decimal] = []
        self._in_a_row = 0

    def median(self) -> Decimal | None:
        """The median (of an even number the higher one); ``None`` if there are too few."""
        count = len(self._sorted)
        return self._sorted[count // 2] if count >= _FEWEST else None

    def add(self, price: Decimal) -> None:
        """Take a price in; let the oldest go when the window is full."""
        self._in_a_row = 0
        if len(self._newest) == self._size:
            del self._sorted[bisect_left(self._sorted, self._newest.popleft())]
        self._newest.append(price)
        insort(self._sorted, price)

    def leave_out(self, price: Decimal) -> None:
        """Note a price that was rejected."""
        self._in_a_row += 1
        if self._in_a_row > self._size // 2:
            self._newest.clear()
            self._sorted.clear()
            self.add(price)


def _distance(price: Decimal, median: Decimal) -> Decimal:
    return _OWN.subtract(price, median).copy_abs()


def _is_price(value: object) -> bool:
    return isinstance(value, Decimal) and value.is_finite() and value > 0
