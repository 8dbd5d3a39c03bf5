"""From the dispatch thread to a sink: in batches, tried again, by way of the disk when need be.

**What goes first.** While the sink works, a batch from memory and one from disk take turns: a new
bar waits for one replayed batch at most, and replay goes on however fast new bars come. Only while
more than ``spool_above`` bars wait in memory does the disk wait, as more bars would end there. So a
replayed bar may reach the sink after a newer version of itself; the sink knows which one wins.

**Where a bar can be.** In memory, on disk, stored, or dead-lettered; it is counted in exactly one.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Protocol

from realtime_stream.ports import LatencyInfo, SinkInfo
from realtime_stream.resilience.circuit_breaker import ConnectionCircuitBreaker
from realtime_stream.runtime.sink_disk import SinkDisk
from realtime_stream.runtime.sink_queue import SinkQueue
from realtime_stream.runtime.sink_writing import Answer, text_of, write_batch
from realtime_stream.runtime.spool_records import unfit

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from realtime_stream.clock import Clock
    from realtime_stream.errors import SinkError
    from realtime_stream.market.models import Bar
    from realtime_stream.ports import Sink
    from realtime_stream.runtime.sink_reports import SinkReports
    from realtime_stream.runtime.sink_settings import SinkLimits

__all__ = ["LatencyRecorder", "SinkDelivery"]

_DISK_PAUSE: Final = 10.0  # seconds until a disk that could not be read is asked again
_SHORTEST_PAUSE: Final = 0.01  # seconds, where another caller holds the breaker's permit
_LEFT_AT_ONCE: Final = 1_000  # bars spooled at once at the end


class LatencyRecorder(Protocol):
    """Takes times from the end of a bar to its storage; its ``info()`` is thread-safe."""

    def note(self, event_ns: int, now_ns: int, weight: int = 1) -> str | None:
        """What ended at ``event_ns`` is stored at ``now_ns``; not ``None`` if an alarm rises."""

    def info(self) -> LatencyInfo:
        """What was measured so far."""


class SinkDelivery:
    """All that a sink's worker does, but for the thread it does it on.

    Thread safety: :meth:`offer` belongs to the dispatch thread, :meth:`turn` to the worker;
    :meth:`finish` and :meth:`info` may be called from any thread. The attributes without a lock of
    their own belong to the worker. No lock is held while the sink writes.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        folder: Path,
        limits: SinkLimits,
        latency: LatencyRecorder,
        bar_end_ns: Callable[[Bar], int | None],
        clock: Clock,
        data_clock: Clock,
        rng: random.Random,
        reports: SinkReports,
    ) -> None:
        """Take up what an earlier run has left in the folder.

        Args:
            sink: Where bars go.
            folder: Its own folder, for the spool and the dead-letter file.
            limits: Sizes and waits.
            latency: Takes the time from the end of a bar to its storage; of bars that are not late
                by nature, which history, updates and those of an earlier run are.
            bar_end_ns: When a bar's interval ended, or ``None`` if that is not known; never raises.
            clock: For waits.
            data_clock: For latency and the dead letters' times.
            rng: Where the jitter of waits comes from.
            reports: Where reports go.

        Raises:
            ConfigurationError: The folder is in use, or cannot be used.
        """
        self._sink = sink
        self._limits = limits
        self._latency = latency
        self._bar_end_ns = bar_end_ns
        self._clock = clock
        self._data_clock = data_clock
        self._rng = rng
        self._reports = reports
        self._breaker = ConnectionCircuitBreaker(limits.breaker, clock=clock)
        self._queue = SinkQueue(capacity=limits.capacity, clock=clock)
        self._disk = SinkDisk(
            folder,
            sink=sink.name,
            limits=limits,
            clock=clock,
            data_clock=data_clock,
            reports=reports,
        )
        self._queue.put_on_disk(self._disk.waiting)
        # Set when there is more to do than turn() knew when it said how long to wait.
        self.wake: Final = threading.Event()
        self._worth_waking: Final = frozenset({1, limits.batch_size, limits.spool_above + 1})
        self._failures = 0  # writes in a row
        self._retry_at = 0.0  # monotonic seconds before which nothing is written
        self._replay_at = 0.0  # and before which the disk is not read
        self._disk_is_next = False
        self._retries = 0  # written by the worker, read by all
        self._last_error = ""  # written by the worker, read by all

    # --- the dispatch thread ---

    def offer(self, bar: Bar) -> None:
        """Take a bar. Never waits for the sink, and never raises.

        When memory is full, which is when the worker waits for the sink to answer, the bar is
        appended to the spool here; when the spool is full as well, to the dead-letter file. That
        is also where one goes that no file could hold, of a provider that makes its own.
        """
        reason = unfit(bar)
        if reason:
            self._queue.put_on_disk(1)
            self._queue.not_spooled(1)
            self._disk.bury_unfit(reason, bar)
            return
        waiting = self._queue.put(bar)
        if waiting in self._worth_waking:
            self.wake.set()
        elif not waiting:
            self._overflow(bar)

    def _overflow(self, bar: Bar) -> None:
        self._queue.put_on_disk(1)  # before the worker can find it there
        appended = self._disk.append((bar,))
        if appended.count:
            self._reports.spooled(1)
        else:
            self._queue.not_spooled(1)
            self._disk.bury({appended.reason: (bar,)})

    # --- the worker ---

    def turn(self, *, flush: bool = False) -> float | None:
        """Do what is to be done now: write one batch, or move bars to disk.

        Args:
            flush: Write what waits in memory now, and only that; nothing if the sink is down.

        Returns:
            Seconds until there is more to do, 0 if there is now; ``None`` when there is nothing
            until :attr:`wake` is set.
        """
        if self._queue.closed:
            return None
        letters = self._disk.retry()
        pause = self._step(flush)
        if pause is None or letters is None:
            return letters if pause is None else pause
        return min(pause, letters)

    def _step(self, flush: bool) -> float | None:
        due = 0.0 if flush and len(self._queue) else self._due_in()
        replay = None if flush else self._replay_in()
        first = min((pause for pause in (due, replay) if pause is not None), default=None)
        if first != 0:
            return first
        pause = self._forbidden_for()
        if pause:
            if not flush:
                self._relieve()
            return pause
        if replay == 0 and (due != 0 or self._disk_is_next):
            self._disk_is_next = False
            self._replay()
        else:
            self._disk_is_next = True
            self._write_waiting()
        return 0.0

    def _due_in(self) -> float | None:
        return self._queue.due_in(self._limits.batch_size, self._limits.batch_delay)

    def _replay_in(self) -> float | None:
        if not self._disk.waiting or len(self._queue) > self._limits.spool_above:
            return None
        return max(self._replay_at - self._clock.monotonic(), 0.0)

    def _forbidden_for(self) -> float:
        """Seconds until a write may be tried; 0 takes the breaker's permit."""
        pause = self._retry_at - self._clock.monotonic()
        if pause > 0:
            return pause
        if self._breaker.can_attempt_connection():
            return 0.0
        return max(self._breaker.retry_in(), _SHORTEST_PAUSE)

    def _relieve(self) -> None:
        """Move the oldest bars to disk, as the sink is down and too many wait in memory."""
        if len(self._queue) <= self._limits.spool_above:
            return
        moved = 0
        while len(self._queue) > self._limits.spool_above // 2:
            bars = self._queue.take(self._limits.batch_size)
            appended = self._disk.append(bars)
            if not self._queue.settle(spooled=appended.count):
                return  # whoever closed the queue has these bars, too
            moved += appended.count
            self._queue.give_back()
            if appended.reason:  # they stay in memory while there is room
                break
        self._disk.sync()
        if moved:
            self._reports.spooled(moved)

    def _write_waiting(self) -> None:
        bars = self._queue.take(self._limits.batch_size)
        answer = self._write(bars)
        if answer.error is not None:
            self._queue.give_back()
        elif self._queue.settle(stored=len(answer.stored), dead=len(bars) - len(answer.stored)):
            self._disk.bury(answer.refused)
            self._note_stored(answer.stored)
            self._reports.inserted(answer.stored)

    def _replay(self) -> None:
        batch = self._disk.read(self._limits.batch_size)
        if batch is None:
            self._replay_at = self._clock.monotonic() + _DISK_PAUSE
            self._breaker.release()
            return
        answer = self._write(batch.bars)
        if answer.error is not None:
            return
        stored = len(answer.stored)
        if self._queue.settle_spooled(stored=stored, dead=batch.records - stored):
            self._disk.bury(answer.refused)
            self._disk.acknowledge(batch)
            if not batch.taken_up:  # else they are late because nothing ran
                self._note_stored(answer.stored)
            self._reports.inserted(answer.stored)

    def _write(self, bars: Sequence[Bar]) -> Answer:
        if not bars:  # nothing on disk could be read, or the queue was closed meanwhile
            self._breaker.release()
            return Answer()
        if self._failures:
            self._retries += 1
        answer = write_batch(self._sink, bars)
        if answer.error is None:
            self._worked()
        else:
            self._failed(answer.error)
        return answer

    def _failed(self, error: SinkError) -> None:
        self._breaker.record_failure()
        self._failures += 1
        pause = max(self._limits.retry.delay(self._failures, self._rng), self._breaker.retry_in())
        self._retry_at = self._clock.monotonic() + pause
        self._last_error = text_of(error)
        self._reports.failed(error, self._failures, pause)

    def _worked(self) -> None:
        self._breaker.record_success()
        if self._failures:
            self._reports.recovered(self._failures)
            self._failures, self._last_error = 0, ""

    def _note_stored(self, bars: Sequence[Bar]) -> None:
        now = self._data_clock.utc_now_ns()
        for bar in bars:
            if bar.bar_kind != "regular" or bar.source == "backfill" or bar.is_late:
                continue  # late by nature
            end = self._bar_end_ns(bar)
            if end is not None and self._latency.note(end, now) is not None:
                self._reports.late()

    # --- any thread ---

    def finish(self) -> None:
        """Move what is left in memory to disk and let go of the folder; for the end.

        Takes what is in flight, too: should the sink store it after all, it is stored twice, which
        does no harm. Of several callers the first does it, and the others find it begun.
        """
        left = self._queue.close()
        if left is None:
            return
        spooled = 0
        for start in range(0, len(left), _LEFT_AT_ONCE):
            bars = left[start : start + _LEFT_AT_ONCE]
            appended = self._disk.append(bars)
            spooled += appended.count
            self._queue.settle_left(spooled=appended.count, dead=len(bars) - appended.count)
            self._disk.bury({appended.reason: bars[appended.count :]})
        self._disk.close()
        if spooled:
            self._reports.spooled(spooled)

    def info(self) -> SinkInfo:
        """How the sink stands; the accounts in it are of one moment."""
        accounts = self._queue.accounts()
        return SinkInfo(
            offered=accounts.offered,
            stored=accounts.stored,
            queued=accounts.queued,
            spooled=accounts.spooled,
            dead_lettered=accounts.dead_lettered,
            retries=self._retries,
            circuit=self._breaker.info().state.value,
            last_error=self._last_error,
            latency=self._latency.info(),
        )
