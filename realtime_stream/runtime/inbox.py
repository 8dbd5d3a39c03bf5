"""The bounded hand-off from the io thread to the dispatch thread."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from realtime_stream.runtime.overflow import Frame, compact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from realtime_stream.clock import Clock
    from realtime_stream.market.models import MarketEvent

__all__ = ["BarsDropped", "Inbox", "InboxCounts"]

_MAX_NOTICES = 10_000  # a session that flaps behind a stuck callback must not fill the memory


@dataclass(frozen=True, slots=True)
class BarsDropped:
    """Notice that a compaction gave up these bars."""

    bars: tuple[MarketEvent, ...]


@dataclass(frozen=True, slots=True)
class InboxCounts:
    """A consistent look at the inbox."""

    received: int
    waiting: int
    dropped: dict[tuple[str, str], int]
    notices_dropped: int
    oldest: float | None


class Inbox:
    """Frames and notices in order; one hand-off per frame, none while the consumer is behind.

    Nothing is dropped until ``capacity`` events wait; then one compaction to half of it follows
    the policy of :func:`~realtime_stream.runtime.overflow.compact`, and every drop is counted.
    Notices (state changes, gaps, requests) keep their place among the frames.

    Thread safety: any thread may put; one thread gets.
    """

    def __init__(self, capacity: int, clock: Clock) -> None:
        """Start empty."""
        self._capacity = capacity
        self._clock = clock
        self._condition = threading.Condition(threading.Lock())  # guards every attribute below
        self._items: deque[object] = deque()
        self._waiting = 0
        self._notices = 0
        self._consumer_waits = False
        self._received = 0
        self._dropped: Counter[tuple[str, str]] = Counter()
        self._notices_dropped = 0

    def put_frame(self, events: Sequence[MarketEvent], received: float) -> int:
        """Append the events of one frame; return how many had to be dropped. Never blocks."""
        dropped = 0
        with self._condition:
            self._items.append(Frame(events, received))
            self._received += len(events)
            self._waiting += len(events)
            if self._waiting > self._capacity:
                dropped = self._compact()
            if self._consumer_waits:
                self._condition.notify()
        return dropped

    def put(self, notice: object) -> None:
        """Append a notice. Never blocks."""
        with self._condition:
            if self._notices >= _MAX_NOTICES:
                self._drop_oldest_notice()
            self._items.append(notice)
            self._notices += 1
            if self._consumer_waits:
                self._condition.notify()

    def get(self, timeout: float | None) -> object | None:
        """The next frame or notice; ``None`` after ``timeout`` seconds without one."""
        with self._condition:
            if not self._items:
                self._consumer_waits = True
                try:
                    self._condition.wait_for(lambda: bool(self._items), timeout)
                finally:
                    self._consumer_waits = False
                if not self._items:
                    return None
            item = self._items.popleft()
            if isinstance(item, Frame):
                self._waiting -= len(item.events)
            else:
                self._notices -= 1
            return item

    def counts(self) -> InboxCounts:
        """Totals, consistent with each other."""
        with self._condition:
            return InboxCounts(
                self._received,
                self._waiting,
                dict(self._dropped),
                self._notices_dropped,
                self._oldest(),
            )

    def _oldest(self) -> float | None:
        # Notices are few and short-lived; the first frame is among the first items.
        return next((item.received for item in self._items if isinstance(item, Frame)), None)

    def _compact(self) -> int:
        frames = [item for item in self._items if isinstance(item, Frame)]
        overflow = compact(frames, self._capacity // 2)
        self._dropped.update(overflow.dropped)
        self._items = deque(
            item for item in self._items if not isinstance(item, Frame) or item.events
        )
        self._waiting = sum(len(frame.events) for frame in frames)
        if overflow.bars:
            self._items.append(BarsDropped(tuple(overflow.bars)))
            self._notices += 1
        return overflow.dropped.total()

    def _drop_oldest_notice(self) -> None:
        index = next(i for i, item in enumerate(self._items) if not isinstance(item, Frame))
        del self._items[index]
        self._notices -= 1
        self._notices_dropped += 1
