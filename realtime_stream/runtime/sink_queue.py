"""The bars of a sink that wait in memory, and the accounts of all that it was ever given."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from realtime_stream.clock import Clock
    from realtime_stream.market.models import Bar

__all__ = ["Accounts", "SinkQueue"]


@dataclass(frozen=True, slots=True)
class Accounts:
    """One consistent look: ``offered = stored + spooled + dead_lettered + queued``."""

    offered: int
    stored: int
    spooled: int
    dead_lettered: int
    queued: int


class SinkQueue:
    """A bounded queue from the dispatch thread to a sink's worker, with accounts that add up.

    Bars are taken in batches; a batch that was taken stays *in flight*, and counts as queued, until
    it is settled or given back. Whoever closes the queue gets everything, the batch in flight
    included: from then on the worker's attempts to settle it are refused, so each bar is counted
    once, whoever deals with it in the end.

    Thread safety: every method may be called from any thread. Batches are taken by one thread, the
    worker; no call waits for anything but the lock, which is held for a few statements.
    """

    def __init__(self, *, capacity: int, clock: Clock) -> None:
        """Empty and open."""
        self._capacity = capacity
        self._monotonic = clock.monotonic
        self._lock = threading.Lock()  # guards every attribute below
        self._waiting: deque[Bar] = deque()
        self._in_flight: Sequence[Bar] = ()
        self._leaving = 0  # handed out by close() and not yet settled
        self._since = 0.0  # monotonic seconds from which the first waiting bar has waited
        self._closed = False
        self._offered = self._stored = self._spooled = self._dead = 0

    def __len__(self) -> int:
        """Bars that wait and are not in flight."""
        with self._lock:
            return len(self._waiting)

    @property
    def closed(self) -> bool:
        """Whether somebody has taken everything for good."""
        with self._lock:
            return self._closed

    def put(self, bar: Bar) -> int:
        """Take a bar; returns how many wait now, or 0, with nothing counted, when it is refused."""
        with self._lock:
            waiting = len(self._waiting)
            if self._closed or waiting + len(self._in_flight) >= self._capacity:
                return 0
            if not waiting:
                self._since = self._monotonic()
            self._waiting.append(bar)
            self._offered += 1
            return waiting + 1

    def put_on_disk(self, count: int) -> None:
        """Count bars that never were in memory as spooled: call it before they are."""
        with self._lock:
            self._offered += count
            self._spooled += count

    def due_in(self, size: int, delay: float) -> float | None:
        """Seconds until a batch of ``size`` should be taken; ``None`` when nothing waits."""
        with self._lock:
            waiting = len(self._waiting)
            if not waiting:
                return None
            if waiting >= size:
                return 0.0
            return max(self._since + delay - self._monotonic(), 0.0)

    def take(self, size: int) -> Sequence[Bar]:
        """The oldest bars, in flight from now on; none when the queue is closed."""
        with self._lock:
            count = min(size, len(self._waiting))
            self._in_flight = tuple(self._waiting.popleft() for _ in range(count))
            return self._in_flight

    def give_back(self) -> None:
        """What is in flight waits again, before all others."""
        with self._lock:
            self._waiting.extendleft(reversed(self._in_flight))
            self._in_flight = ()

    def settle(self, *, stored: int = 0, dead: int = 0, spooled: int = 0) -> bool:
        """So many of those in flight, from the first, have come there; ``False`` if too late."""
        with self._lock:
            if self._closed:
                return False
            self._in_flight = self._in_flight[stored + dead + spooled :]
            self._count(stored, dead, spooled)
            return True

    def settle_spooled(self, *, stored: int = 0, dead: int = 0) -> bool:
        """So many bars that were on disk have come there; ``False`` if it is too late for that."""
        with self._lock:
            if self._closed:
                return False
            self._count(stored, dead, -stored - dead)
            return True

    def not_spooled(self, count: int) -> None:
        """Bars counted by :meth:`put_on_disk` did not get there; they are dead-lettered."""
        with self._lock:
            self._count(0, count, -count)

    def close(self) -> Sequence[Bar] | None:
        """Everything that is queued; ``None`` when somebody else has got it."""
        with self._lock:
            if self._closed:
                return None
            self._closed = True
            left = (*self._in_flight, *self._waiting)
            self._in_flight = ()
            self._waiting.clear()
            self._leaving = len(left)
            return left

    def settle_left(self, *, dead: int = 0, spooled: int = 0) -> None:
        """So many of what :meth:`close` gave have come there."""
        with self._lock:
            self._leaving -= dead + spooled
            self._count(0, dead, spooled)

    def accounts(self) -> Accounts:
        """One consistent look."""
        with self._lock:
            queued = len(self._waiting) + len(self._in_flight) + self._leaving
            return Accounts(self._offered, self._stored, self._spooled, self._dead, queued)

    def _count(self, stored: int, dead: int, spooled: int) -> None:
        self._stored += stored
        self._dead += dead
        self._spooled += spooled
