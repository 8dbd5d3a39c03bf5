"""The thread that writes to one sink."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from realtime_stream.runtime.sink_delivery import SinkDelivery
from realtime_stream.runtime.sink_reports import SinkReports
from realtime_stream.runtime.sink_settings import SinkLimits

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from realtime_stream.clock import Clock
    from realtime_stream.market.models import Bar
    from realtime_stream.ports import ErrorEvent, Sink, SinkInfo
    from realtime_stream.runtime.log import EventLog
    from realtime_stream.runtime.sink_delivery import LatencyRecorder

__all__ = ["SinkWorker"]

_RESERVE: Final = 1.0  # seconds kept, of the time to stop, for moving what is left to disk


class SinkWorker:
    """Writes bars to a sink on a thread of its own; for one run, from start to stop.

    It holds its folder from its making to the end of :meth:`join`, started or not.

    Thread safety: :meth:`offer` belongs to the dispatch thread, :meth:`start`, :meth:`begin_stop`
    and :meth:`join` to whoever starts and stops; the others may be called from any thread.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        manager: str,
        folder: Path,
        limits: SinkLimits | None = None,
        latency: LatencyRecorder,
        bar_end_ns: Callable[[Bar], int | None],
        clock: Clock,
        data_clock: Clock,
        rng: random.Random,
        tell: Callable[[ErrorEvent], None],
        log: EventLog,
    ) -> None:
        """Take up what an earlier run has left in the folder; nothing is written yet.

        Args:
            sink: Where bars go.
            manager: Name of the manager, for the thread's name.
            folder: The sink's own folder, for its spool and its dead-letter file.
            limits: Sizes and waits.
            latency: Takes the time from a bar's end to its storage.
            bar_end_ns: When a bar's interval ended, nanoseconds since the epoch, or ``None`` if
                that is not known; must not raise.
            clock: For waits.
            data_clock: For latency and the dead letters' times.
            rng: Where the jitter of waits comes from.
            tell: Takes errors for the user's listeners, from any thread; never blocks.
            log: Where records go.

        Raises:
            ConfigurationError: The folder is in use, or cannot be used.
        """
        limits = limits or SinkLimits()
        self._sink = sink
        self._clock = clock
        self._reports = SinkReports(
            sink.name, clock=clock, interval=limits.report_interval, tell=tell, log=log
        )
        self._delivery = SinkDelivery(
            sink,
            folder=folder,
            limits=limits,
            latency=latency,
            bar_end_ns=bar_end_ns,
            clock=clock,
            data_clock=data_clock,
            rng=rng,
            reports=self._reports,
        )
        self._thread = threading.Thread(
            target=self._run, name=f"realtime-stream/{manager}/sink-{sink.name}", daemon=True
        )
        # Written before _stopping is set and read after it.
        self._deadline = 0.0  # monotonic seconds at which it has to be over
        self._flush_until = 0.0  # monotonic seconds after which no write is begun
        self._take_over_at = 0.0  # and at which whoever joins takes what is left
        self._stopping = threading.Event()

    @property
    def thread_name(self) -> str:
        """Name of the thread."""
        return self._thread.name

    @property
    def alive(self) -> bool:
        """Whether the thread runs; after :meth:`join`, whether it lingers in the sink."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def offer(self, bar: Bar) -> None:
        """Take a bar. Never waits for the sink, and never raises."""
        self._delivery.offer(bar)

    def info(self) -> SinkInfo:
        """How the sink stands."""
        return self._delivery.info()

    def begin_stop(self, deadline: float, *, moving: float = 0.0) -> None:
        """Have it write what waits, and end. Never blocks; only the first call counts.

        If the sink is down at that moment, or fails once, what waits goes to disk at once.

        Args:
            deadline: When it has to be over, monotonic seconds.
            moving: Seconds that it may take to move what waits to disk; those of all sinks, where
                one after the other is moved by the same deadline.
        """
        if self._stopping.is_set():
            return
        left = deadline - self._clock.monotonic()
        reserve = min(_RESERVE + moving, left / 2)
        self._deadline = deadline
        self._take_over_at = deadline - max(reserve / 2, min(moving, left * 3 / 4))
        self._flush_until = min(deadline - reserve, self._take_over_at)
        self._stopping.set()
        self._delivery.wake.set()

    def take_over(self) -> None:
        """Wait for the thread until late; then move what it has not stored to disk in its place."""
        if self._thread.ident is None:
            return  # join() ends it
        self._thread.join(max(self._take_over_at - self._clock.monotonic(), 0.0))
        self._delivery.finish()

    def join(self, deadline: float | None = None) -> bool:
        """:meth:`take_over`, and wait; ``False`` if the sink holds the thread longer.

        What is not stored by then is on disk in either case.

        Args:
            deadline: Monotonic seconds until which it waits; ``None`` for the one it was told to
                end by.
        """
        if self._thread.ident is None:
            self._delivery.finish()
            return True
        self.take_over()
        if deadline is None:
            deadline = self._deadline
        self._thread.join(max(deadline - self._clock.monotonic(), 0.0))
        return not self._thread.is_alive()

    def stop(self, deadline: float) -> bool:
        """:meth:`begin_stop` and :meth:`join`."""
        self.begin_stop(deadline)
        return self.join(deadline)

    def _run(self) -> None:
        delivery = self._delivery
        try:
            while not self._stopping.is_set():
                pause = delivery.turn()
                if pause != 0:
                    self._clock.wait(delivery.wake, pause)
                    delivery.wake.clear()
            while self._clock.monotonic() < self._flush_until and delivery.turn(flush=True) == 0:
                pass
        finally:
            if not self._stopping.is_set():
                self._reports.died()
            delivery.finish()
