"""The newest bars of every series, for a bot that looks back while it streams."""

from __future__ import annotations

import threading
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from realtime_stream.market.models import Bar

__all__ = ["DELIVERED", "LookBack"]

# The feed's own bars as they were delivered to everybody who wants them, whatever somebody's
# look-back has brought besides; so many are kept that a gap can be told from what was delivered.
DELIVERED: Final = "delivered"
_DELIVERED_KEPT: Final = 500


class LookBack:
    """Per (symbol, timeframe, origin) the newest bars in the order of their starts.

    A bar with the start of one that is there takes its place; an older one goes where it belongs,
    unless the series is full and it is older than all of it.

    Thread safety: every method may be called from any thread.
    """

    def __init__(self, capacity: int) -> None:
        """Start empty.

        Args:
            capacity: Bars kept per series.
        """
        self._capacity = capacity
        self._lock = threading.Lock()  # guards the series and what they hold
        self._series: dict[tuple[str, str, str], list[Bar]] = {}

    def put(self, bar: Bar, origin: str) -> None:
        """Keep a bar; ``origin`` tells series of the same timeframe apart."""
        key = (bar.symbol, bar.timeframe, origin)
        capacity = _DELIVERED_KEPT if origin == DELIVERED else self._capacity
        with self._lock:
            kept = self._series.get(key)
            if kept is None:
                self._series[key] = [bar]
            elif bar.timestamp_ns > kept[-1].timestamp_ns:
                kept.append(bar)
                if len(kept) >= capacity + capacity // 8 + 16:  # now and then, not for each bar
                    del kept[:-capacity]
            else:
                self._put_older(kept, bar, capacity)

    @staticmethod
    def _put_older(kept: list[Bar], bar: Bar, capacity: int) -> None:
        at = bisect_left(kept, bar.timestamp_ns, key=_start)
        if kept[at].timestamp_ns == bar.timestamp_ns:
            kept[at] = bar
        elif at or len(kept) < capacity:
            kept.insert(at, bar)
            if len(kept) > capacity + capacity // 8 + 16:
                del kept[0]

    def find(self, symbol: str, timeframe: str, origin: str, start_ns: int) -> Bar | None:
        """The bar with this start, if it is kept."""
        with self._lock:
            kept = self._series.get((symbol, timeframe, origin), [])
            at = bisect_left(kept, start_ns, key=_start)
            if at < len(kept) and kept[at].timestamp_ns == start_ns:
                return kept[at]
            return None

    def begins_before(self, bar: Bar, origin: str) -> bool:
        """Whether an older bar of the same series is kept."""
        with self._lock:
            kept = self._series.get((bar.symbol, bar.timeframe, origin))
            return kept is not None and kept[0].timestamp_ns < bar.timestamp_ns

    def newest(self, symbol: str, timeframe: str, origin: str) -> Bar | None:
        """The newest bar of a series."""
        with self._lock:
            kept = self._series.get((symbol, timeframe, origin))
            return kept[-1] if kept else None

    def recent(self, symbol: str, n: int, timeframe: str, origins: Iterable[str]) -> list[Bar]:
        """The newest ``n`` bars, oldest first.

        Args:
            symbol: Symbol.
            n: How many at most.
            timeframe: Canonical timeframe.
            origins: What the series is made of; the first that has any bar is taken.
        """
        with self._lock:
            for each in origins:
                kept = self._series.get((symbol, timeframe, each))
                if kept:
                    return kept[-min(n, self._capacity) :]
            return []


def _start(bar: Bar) -> int:
    return bar.timestamp_ns
