"""Live bars that wait until history has brought what belongs before them."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtime_stream.market.models import Bar

__all__ = ["Holder", "HoldingPen"]


class Holder(Protocol):
    """A reason for the bars of a symbol to wait.

    Attributes:
        symbol: Symbol.
        held_until: Until when, monotonic seconds; infinite while that is not known yet.
    """

    symbol: str
    held_until: float


class HoldingPen:
    """Keeps live bars of the symbols that somebody holds; gives them out in order.

    Thread safety: used by the dispatch thread; :attr:`waiting` may be read by any.

    Attributes:
        waiting: How many bars wait.
        soonest: When the first holder may be overdue because of a bar that came, monotonic seconds;
            whoever looks after holders resets it.
    """

    def __init__(self, capacity: int, deliver: Callable[[Bar], None]) -> None:
        """Nothing waits.

        Args:
            capacity: Bars of a symbol that may wait; more end the wait.
            deliver: Delivers a bar.
        """
        self._capacity = capacity
        self._deliver = deliver
        self._holders: dict[str, list[Holder]] = {}
        self._bars: dict[str, deque[Bar]] = {}
        self._overfull: set[str] = set()
        self.waiting = 0
        self.soonest = math.inf

    def hold(self, holder: Holder) -> None:
        """Let the bars of the holder's symbol wait; again does nothing."""
        holders = self._holders.setdefault(holder.symbol, [])
        if holder not in holders:
            holders.append(holder)

    def let_go(self, holder: Holder) -> None:
        """The holder has no reason any more; without another one, the bars are delivered."""
        holders = self._holders.get(holder.symbol, [])
        if holder in holders:
            holders.remove(holder)
        if not holders:
            self._holders.pop(holder.symbol, None)
            bars = self._bars.get(holder.symbol)
            while bars:
                self.waiting -= 1
                self._deliver(bars.popleft())
            self._bars.pop(holder.symbol, None)
            self._overfull.discard(holder.symbol)

    def takes(self, bar: Bar, until: float) -> bool:
        """Whether a live bar has to wait; a wait without an end gets this one."""
        holders = self._holders.get(bar.symbol)
        if not holders:
            return False
        bars = self._bars.setdefault(bar.symbol, deque())
        bars.append(bar)
        self.waiting += 1
        for holder in holders:
            if holder.held_until == math.inf:
                holder.held_until = until
                self._note(until)
        if len(bars) > self._capacity:
            self._overfull.add(bar.symbol)
            self._note(-math.inf)
        return True

    def waits(self, symbol: str) -> bool:
        """Whether bars of a symbol wait."""
        return bool(self._bars.get(symbol))

    def oldest(self, symbol: str, since_ns: int) -> int | None:
        """Start of the oldest regular bar that waits and was received since then.

        Both are nanoseconds since the epoch.
        """
        waiting = self._bars.get(symbol, ())
        starts = (
            bar.timestamp_ns
            for bar in waiting
            if bar.bar_kind == "regular" and bar.received_ns >= since_ns
        )
        return min(starts, default=None)

    def is_overdue(self, holder: Holder, now: float) -> bool:
        """Whether a holder has held long enough, or too many."""
        return holder.held_until <= now or holder.symbol in self._overfull

    def start_over(self) -> None:
        """All holders have been looked after, but for those that hold too many."""
        self.soonest = -math.inf if self._overfull else math.inf

    def _note(self, deadline: float) -> None:
        self.soonest = min(self.soonest, deadline)
