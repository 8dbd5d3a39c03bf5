"""The bounded hand-off from the io thread to the dispatch thread."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from realtime_stream.market.channels import Subscription
from realtime_stream.ports import ErrorEvent
from realtime_stream.runtime.overflow import Frame, JoinedEvents, compact, decode_all

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from realtime_stream.clock import Clock
    from realtime_stream.market.models import MarketEvent

__all__ = ["EventsDropped", "Inbox", "InboxCounts", "LostEvents"]

# Events up to which small frames are handed over together: with more of them the first waits longer
# for the last to be decoded, with fewer each frame costs more.
_JOINED = 16
_MAX_ERRORS = 1000  # reports of errors that may wait behind a stuck callback


@dataclass(slots=True)
class LostEvents:
    """What was given up of one (channel, symbol).

    Attributes:
        first_ns: Earliest time of one.
        last_ns: Latest time of one.
        received_ns: When the first was received.
        received_until_ns: When the last was received.
        count: How many.
    """

    first_ns: int
    last_ns: int
    received_ns: int
    received_until_ns: int
    count: int = 1


@dataclass(frozen=True, slots=True)
class EventsDropped:
    """Notice that compactions gave up bars or trades; one such notice waits at a time."""

    losses: Mapping[Subscription, LostEvents]


@dataclass(frozen=True, slots=True)
class InboxCounts:
    """A consistent look at the inbox."""

    received: int
    waiting: int
    dropped: dict[tuple[str, str], int]
    notices_dropped: int
    oldest: float | None


_EVENTS_WERE_DROPPED = object()  # stands in the queue for what _losses holds when it is taken


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
        self._lock = threading.Lock()  # guards every attribute below
        self._condition = threading.Condition(self._lock)
        self._items: deque[object] = deque()
        self._waiting = 0
        self._errors = 0
        self._losses: dict[Subscription, LostEvents] = {}
        self._consumer_waits = False
        self._taken = False  # whether the consumer is at a frame that it took
        self._received = 0
        self._dropped: Counter[tuple[str, str]] = Counter()
        self._notices_dropped = 0

    def put_frame(self, events: Collection[MarketEvent], received: float) -> int:
        """Append the events of one frame; return how many had to be dropped. Never blocks."""
        dropped = 0
        frame = Frame(events, received, len(events))
        with self._lock:
            self._items.append(frame)
            self._received += frame.count
            self._waiting += frame.count
            if self._waiting > self._capacity:
                dropped = self._compact()
            if self._consumer_waits:
                self._condition.notify()
        return dropped

    def put(self, notice: object) -> None:
        """Append a notice. Never blocks.

        What sessions and states are told by is never dropped: it is little, because attempts are
        spaced. Errors are, once a thousand of them wait.
        """
        with self._lock:
            if isinstance(notice, ErrorEvent) and not notice.fatal:
                if self._errors >= _MAX_ERRORS:
                    self._notices_dropped += 1
                    return
                self._errors += 1
            self._items.append(notice)
            if self._consumer_waits:
                self._condition.notify()

    def get(self, timeout: float | None) -> object | None:
        """The next frame or notice; ``None`` after ``timeout`` seconds without one."""
        with self._lock:
            self._taken = False
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
                return self._with_those_behind(item)
            if isinstance(item, ErrorEvent) and not item.fatal:
                self._errors -= 1
            elif item is _EVENTS_WERE_DROPPED:
                losses, self._losses = self._losses, {}
                return EventsDropped(losses)
            return item

    @property
    def behind(self) -> bool:
        """Whether events wait or are being delivered; a glance without the lock."""
        return self._waiting > 0 or self._taken

    def _with_those_behind(self, frame: Frame) -> Frame:
        """A frame and, while they are few, the events of the frames right behind it.

        What a frame costs beside its events is then paid once for many small ones, which is what
        a consumer that has fallen behind needs most.
        """
        items = self._items
        if items and frame.count < _JOINED and isinstance(items[0], Frame):
            parts, count = [frame.events], frame.count
            while items and count < _JOINED and isinstance(behind := items[0], Frame):
                parts.append(behind.events)
                count += behind.count
                items.popleft()
            frame = Frame(JoinedEvents(parts), frame.received, count)
        self._taken = True  # before it waits no more: a glance must not see it nowhere
        self._waiting -= frame.count
        return frame

    def discount(self, malformed: int) -> None:
        """So many messages of a frame that was taken turned out to be no events."""
        with self._lock:
            self._received -= malformed

    def counts(self) -> InboxCounts:
        """Totals, consistent with each other."""
        with self._lock:
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
        malformed = decode_all(frames)
        self._received -= malformed
        self._waiting -= malformed
        if self._waiting <= self._capacity:  # a frame had said that it holds more than it does
            return 0
        overflow = compact(frames, self._capacity // 2)
        self._dropped.update(overflow.dropped)
        self._items = deque(
            item for item in self._items if not isinstance(item, Frame) or item.count
        )
        self._waiting = sum(frame.count for frame in frames)
        for event in overflow.missed:
            self._note_lost(event)
        return overflow.dropped.total()

    def _note_lost(self, event: MarketEvent) -> None:
        if not self._losses:
            self._items.appendleft(_EVENTS_WERE_DROPPED)  # what went was older than what stays
        key = Subscription(event.channel, event.symbol)
        lost = self._losses.get(key)
        if lost is None:
            self._losses[key] = LostEvents(
                event.timestamp_ns, event.timestamp_ns, event.received_ns, event.received_ns
            )
        else:
            lost.first_ns = min(lost.first_ns, event.timestamp_ns)
            lost.last_ns = max(lost.last_ns, event.timestamp_ns)
            lost.received_until_ns = event.received_ns
            lost.count += 1
