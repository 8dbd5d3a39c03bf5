"""Pull beside push: bounded queues that a bot iterates over in its own thread."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator

from realtime_stream.market.models import MarketEvent

__all__ = ["EventQueues", "EventStream"]


class EventStream(Iterator[MarketEvent]):
    """Iterates over delivered events, oldest first.

    Ends when the manager stops, or when no event comes within the timeout; raises
    :class:`~realtime_stream.StreamFailedError` when the manager fails. When more events wait than
    fit, the oldest is dropped and counted.

    Thread safety: one thread iterates; :meth:`close` may be called from any.
    """

    def __init__(
        self,
        capacity: int,
        timeout: float | None,
        *,
        check: Callable[[], None],
        before_wait: Callable[[], None],
    ) -> None:
        """Made by ``manager.events()``.

        Args:
            capacity: Events that may wait.
            timeout: Seconds to wait for the next event; ``None`` waits until the stream ends.
            check: Raises if the manager has failed.
            before_wait: Raises if the caller must not wait (a callback waits for itself).
        """
        self._timeout = timeout
        self._check = check
        self._before_wait = before_wait
        self._condition = threading.Condition()  # guards every attribute below
        self._events: deque[MarketEvent] = deque(maxlen=capacity)
        self._ended = False
        self.dropped = 0

    def put(self, event: MarketEvent) -> bool:
        """Append an event (dispatch thread); tell whether the oldest had to go."""
        with self._condition:
            full = len(self._events) == self._events.maxlen
            self.dropped += full
            self._events.append(event)
            self._condition.notify()
        return full

    def close(self) -> None:
        """End the iteration once the waiting events are taken."""
        with self._condition:
            self._ended = True
            self._condition.notify_all()

    def __next__(self) -> MarketEvent:
        """The next event.

        Raises:
            StopIteration: None came in time, or the manager is stopped.
            StreamFailedError: The manager has failed.
            CallbackContextError: Called from a callback while no event waits.
        """
        with self._condition:
            if not self._events and not self._ended:
                self._before_wait()
                self._condition.wait_for(lambda: self._events or self._ended, self._timeout)
            if self._events:
                return self._events.popleft()
            ended = self._ended
        if ended:
            self._check()
        raise StopIteration


class EventQueues:
    """The open streams of one manager; a stream that is no longer referenced goes away by itself.

    Thread safety: every method may be called from any thread. ``active`` is replaced, never
    changed, so the dispatch thread reads it without the lock.
    """

    def __init__(self) -> None:
        """No streams yet."""
        self._lock = threading.Lock()  # guards the replacement of active
        self.dropped = 0  # counted by the dispatch thread
        self.active: tuple[weakref.ref[EventStream], ...] = ()

    def open(self, stream: EventStream) -> None:
        """Let ``stream`` see every event delivered from now on."""
        with self._lock:
            alive = tuple(ref for ref in self.active if ref() is not None)
            self.active = (*alive, weakref.ref(stream))

    def put(self, event: MarketEvent) -> None:
        """Hand an event to every open stream (dispatch thread)."""
        for reference in self.active:
            stream = reference()
            if stream is not None and stream.put(event):
                self.dropped += 1

    def end(self) -> None:
        """Close every stream: the run is over."""
        with self._lock:
            streams = [stream for ref in self.active if (stream := ref()) is not None]
            self.active = ()
        for stream in streams:
            stream.close()
