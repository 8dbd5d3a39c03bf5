"""One run, from start to stop: its parts, its three threads, and its end."""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from realtime_stream.errors import CallbackExitError, StreamingError
from realtime_stream.market.channels import CHANNELS
from realtime_stream.market.validation import Validator
from realtime_stream.ports import ErrorEvent, MarketDataProvider
from realtime_stream.resilience.failures import Failure, SessionEnd, classify
from realtime_stream.runtime.data_path import DataPath
from realtime_stream.runtime.gaps import GapTracker
from realtime_stream.runtime.guard import CallbackGuard
from realtime_stream.runtime.home import Home
from realtime_stream.runtime.inbox import Inbox
from realtime_stream.runtime.lag import LagMeter
from realtime_stream.runtime.log import EventLog
from realtime_stream.runtime.lookback import LookBack
from realtime_stream.runtime.monitor import Monitor
from realtime_stream.runtime.notices import SupervisorEnded
from realtime_stream.runtime.series import BuilderFactory, SeriesBoard
from realtime_stream.runtime.session import SessionRecorder
from realtime_stream.runtime.staleness import StalenessWatch
from realtime_stream.runtime.storage import Storage
from realtime_stream.runtime.stretch import HistoryMemory
from realtime_stream.runtime.supervisor import GetSymbols, Supervisor

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from realtime_stream.clock import Clock
    from realtime_stream.config import StreamConfig
    from realtime_stream.market.calendar import MarketCalendar
    from realtime_stream.market.models import Bar
    from realtime_stream.ports import HistoryFactory, Sink
    from realtime_stream.recording import Recorder
    from realtime_stream.resilience.circuit_breaker import ConnectionCircuitBreaker
    from realtime_stream.runtime.dispatcher import Latest
    from realtime_stream.runtime.queues import EventQueues
    from realtime_stream.runtime.registry import Registry
    from realtime_stream.runtime.states import StateBoard

__all__ = ["Memory", "Run", "Surroundings"]

# Sinks get what is left of a stop's timeout after the half that delivery may take; or, when the run
# has ended by itself, some seconds.
_STORING_SHARE = 1.8
_LEAST_STORING = 1.0
_STORING_AFTER_FAILURE = 5.0
_LEAST_RECORDING = 0.1
_BEGIN_TIMEOUT = 0.5  # seconds within which a thread that was started begins to run


@dataclass(slots=True)
class Memory:
    """What is known about the market: kept over a restart, forgotten at a fresh start."""

    lookback: LookBack
    series: SeriesBoard
    validator: Validator
    latest: Latest = field(default_factory=lambda: {channel: {} for channel in CHANNELS})
    gaps: GapTracker = field(default_factory=GapTracker)

    history: HistoryMemory = field(default_factory=HistoryMemory)

    def latest_bar(self, symbol: str) -> Bar | None:
        """The newest minute bar, in its updated form if one came."""
        bar, updated = self.latest["bars"].get(symbol), self.latest["updated_bars"].get(symbol)
        if bar is None or (updated is not None and updated.timestamp_ns >= bar.timestamp_ns):
            bar = updated
        return cast("Bar | None", bar)


@dataclass(slots=True)
class Surroundings:
    """What outlives a run and is lent to it."""

    name: str
    config: StreamConfig
    registry: Registry
    board: StateBoard
    breaker: ConnectionCircuitBreaker
    queues: EventQueues
    clock: Clock
    data_clock: Clock
    calendar: MarketCalendar
    rng: random.Random
    get_symbols: GetSymbols | None = None
    new_history: HistoryFactory | None = None
    sinks: tuple[Sink, ...] = ()
    recorder: Recorder | None = None
    home: Home = field(default_factory=Home)

    def new_memory(self) -> Memory:
        """Nothing is known yet."""
        new_builder = BuilderFactory(
            calendar=self.calendar,
            alignment=self.config.bar_alignment,
            grace_ns=int(self.config.bar_grace * 1e9),
        )
        return Memory(
            LookBack(self.config.lookback),
            SeriesBoard(new_builder),
            Validator(self.config.validation, self.config.market),
        )


class Run:
    """The parts and threads between one ``start()`` and its ``stop()``.

    Thread safety: :meth:`start`, :meth:`request_stop`, :meth:`join` and the read-only attributes
    may be used from any thread; the rest belongs to the two threads.
    """

    def __init__(self, around: Surroundings, memory: Memory, provider: MarketDataProvider) -> None:
        """Wire the parts together; no thread runs yet."""
        config, clock = around.config, around.clock
        self._around = around
        self._board = around.board
        self.provider = provider
        self.memory = memory
        self.log = EventLog(around.name)
        self.inbox = Inbox(config.inbox_capacity, clock)
        self.lag = LagMeter(config.lag_alarm)
        self.cause: BaseException | None = None
        self.reported = False  # whether a caller has been told of the cause
        self.finished = threading.Event()
        self.starter = threading.get_ident()  # the thread whose start() this is
        self.started = False
        self._dispatching = threading.Event()
        self._begun: dict[threading.Thread, threading.Event] = {}
        self._ended: dict[threading.Thread, threading.Event] = {}
        self._entered: list[threading.Thread] = []  # threads whose start() was called
        self._abandoned = False
        self.started_at = clock.monotonic()
        self.ended_at: float | None = None
        self._stored_by = math.inf  # until when sinks may write after the end, monotonic seconds
        self.guard = CallbackGuard(
            clock=clock,
            slow=config.slow_callback,
            log_interval=config.error_log_interval,
            dead_letters=config.dead_letters,
            on_error=self._tell_error,
            log=self.log,
        )
        self.recorder = SessionRecorder(
            inbox=self.inbox,
            board=around.board,
            breaker=around.breaker,
            clock=clock,
            data_clock=around.data_clock,
            log=self.log,
            stable_after=config.stable_after,
            rejects=config.rejects,
            log_interval=config.error_log_interval,
        )
        self.supervisor = Supervisor(
            provider=provider,
            config=config,
            registry=around.registry,
            get_symbols=around.get_symbols,
            inbox=self.inbox,
            board=around.board,
            breaker=around.breaker,
            recorder=self.recorder,
            clock=clock,
            data_clock=around.data_clock,
            log=self.log,
            rng=around.rng,
        )
        self.storage = Storage(around, self.inbox, self.log)
        self.path = DataPath(
            around=around,
            memory=memory,
            inbox=self.inbox,
            guard=self.guard,
            lag=self.lag,
            log=self.log,
            takers=self.storage.workers,
            credentials=self.supervisor.credentials,
            on_callback_exit=self._on_callback_exit,
        )
        self.dispatcher = self.path.dispatcher
        self.watch = StalenessWatch(
            around.calendar,
            stream_after=config.stale_after,
            symbol_after=config.symbol_stale_after,
        )
        self.monitor = Monitor(
            config=config,
            clock=clock,
            data_clock=around.data_clock,
            watch=self.watch,
            recorder=self.recorder,
            dispatcher=self.dispatcher,
            inbox=self.inbox,
            lag=self.lag,
            guard=self.guard,
            latest=memory.latest,
            reconnect=self.supervisor.reconnect,
            log=self.log,
        )
        self._threads: tuple[threading.Thread, ...] = (
            self._thread("io", self._io),
            self._thread("dispatch", self._dispatch),
            self._thread("monitor", self.monitor.run),
        )
        worker = self.path.worker
        if worker is not None:
            self._threads += (self._thread("backfill", worker.run),)

    def start(self) -> None:
        """Move the lifecycle to starting and start the threads.

        Raises:
            StreamingError: The system gives no more threads.
        """
        self._around.queues.dropped = 0
        self._board.begin(self.inbox.put, self.log)
        self._board.move_lifecycle("start", self.log)
        try:
            self.storage.start()
            if self._around.recorder is not None:
                self._around.recorder.start()
            for thread in reversed(self._threads):  # io last: dispatch ends what it began
                self._entered.append(thread)
                thread.start()
        except RuntimeError as exc:
            msg = "the system gives no more threads"
            raise StreamingError(msg) from exc
        self.started = True

    def abandon(self) -> None:
        """End a run whose start was cut short, wherever it was cut.

        A thread that was being started may begin a moment later: it is waited for, so that
        :meth:`join` finds it alive, and if it comes later still it does nothing.
        """
        self._abandoned = True
        self.supervisor.stop()
        self._stop_helpers()
        self.inbox.put(SupervisorEnded())  # io may never have begun; dispatch ends with this
        for thread in self._entered:
            self._begun[thread].wait(_BEGIN_TIMEOUT)
        if self._threads[1] not in self._entered or not self._dispatching.wait(_BEGIN_TIMEOUT):
            self._close()

    def request_stop(self, drain: float) -> None:
        """Ask the threads to end; deliver what waits for at most ``drain`` more seconds."""
        now = self._around.clock.monotonic()
        self.dispatcher.drain_until(now + drain)
        self._stored_by = min(self._stored_by, now + max(drain * _STORING_SHARE, _LEAST_STORING))
        self.supervisor.stop()
        self._stop_helpers()

    def join(self, timeout: float) -> bool:
        """Wait for the threads; tell whether they have ended."""
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            if self._is_running(thread):
                self._ended[thread].wait(max(deadline - time.monotonic(), 0.0))
            if thread.is_alive():
                thread.join(max(deadline - time.monotonic(), 0.0))
        recorder = self._around.recorder
        if self.finished.is_set():  # what is still alive was told to end, and lingers
            remaining = max(deadline - time.monotonic(), 0.0)
            self.storage.join(self._around.clock.monotonic() + remaining)
            if recorder is not None:
                recorder.join(max(deadline - time.monotonic(), 0.0))
        return not self.writers() and not any(
            thread.is_alive() or self._is_running(thread) for thread in self._threads
        )

    def in_dispatch_thread(self) -> bool:
        """Whether the caller is a callback of this run."""
        return threading.current_thread() is self._threads[1]

    def threads(self) -> tuple[str, ...]:
        """Names of this run's threads that are alive, and of those its provider left behind."""
        own = tuple(
            thread.name for thread in self._threads if thread.is_alive() or self._is_running(thread)
        )
        return own + self.writers() + self.provider.lingering_threads()

    def writers(self) -> tuple[str, ...]:
        """Names of the threads that store and record and are alive."""
        recorder = self._around.recorder
        return self.storage.threads() + (() if recorder is None else recorder.threads())

    def _is_running(self, thread: threading.Thread) -> bool:
        """Whether a thread of this process has begun and not come to its end.

        ``is_alive()`` may deny it: a ``join()`` that Ctrl-C interrupts marks a thread that runs as
        ended (CPython 3.11).
        """
        begun, ended = self._begun[thread].is_set(), self._ended[thread].is_set()
        return begun and not ended and self._around.home.is_here()

    def _thread(self, role: str, target: Callable[[], None]) -> threading.Thread:
        begun, ended = threading.Event(), threading.Event()

        def body() -> None:
            begun.set()
            try:
                if role == "dispatch" or not self._abandoned:  # dispatch has an end to announce
                    target()
            finally:
                ended.set()

        name = f"realtime-stream/{self._around.name}/{role}"
        thread = threading.Thread(target=body, name=name, daemon=True)
        self._begun[thread], self._ended[thread] = begun, ended
        return thread

    def _io(self) -> None:
        failure: Failure | None = None
        completed = False
        try:
            failure = self.supervisor.run()
            completed = True
        finally:
            try:
                if not completed:  # a defect of ours: fail loudly instead of looking alive
                    failure = classify(SessionEnd(error=sys.exception()))
                    self._board.move_connection("end", self.log)
                if failure is not None:
                    self._fail(failure)
            finally:
                self.inbox.put(SupervisorEnded())

    def _fail(self, failure: Failure) -> None:
        """Nothing will come any more: say so at once, even while a callback holds dispatch up."""
        if self.cause is None:
            self.cause = failure.error
        self.inbox.put(ErrorEvent(self.cause, "session", fatal=True))
        self._board.try_lifecycle("fail", self.log)

    def _dispatch(self) -> None:
        if self.finished.is_set():  # abandoned before it began
            return
        self._dispatching.set()
        completed = False
        try:
            self.dispatcher.run()
            self._end_storage()
            self._finish()
            completed = True
        finally:
            if not completed and self.cause is None:
                self.cause = sys.exception()
            self.supervisor.stop()
            self._close()

    def _stop_helpers(self) -> None:
        """Let those threads end that neither receive nor deliver."""
        self.monitor.stop()
        if self.path.worker is not None:
            self.path.worker.stop()

    def _close(self) -> None:
        self._stop_helpers()
        self._end_storage()
        try:
            self._end_lifecycle()
        finally:
            self._around.queues.end()  # after the final state is set: iterators ask for it
            self.ended_at = self._around.clock.monotonic()
            self.finished.set()
            self._board.wake()

    def _end_storage(self) -> None:
        """Have what was delivered stored; what cannot be is on disk afterwards."""
        latest = self._around.clock.monotonic() + _STORING_AFTER_FAILURE
        recorder = self._around.recorder
        if recorder is not None:
            recorder.request_stop()
        deadline = min(self._stored_by, latest)
        self.storage.end(deadline)
        if recorder is not None:
            recorder.join(max(deadline - self._around.clock.monotonic(), _LEAST_RECORDING))

    def _finish(self) -> None:
        """Publish how the run ended; the last thing a callback hears is the final state."""
        uptime = self._around.clock.monotonic() - self.started_at
        self.log.write(
            logging.INFO if self.cause is None else logging.ERROR,
            "realtime_feed_stopped",
            reason="requested" if self.cause is None else type(self.cause).__name__,
            delivered=sum(self.dispatcher.delivered.values()),
            bars=self.dispatcher.delivered["bars"],
            undelivered=self.dispatcher.undelivered,
            uptime_seconds=round(uptime, 3),
        )
        self._end_lifecycle()
        self.dispatcher.deliver_waiting()

    def _end_lifecycle(self) -> None:
        """Come to rest; in a wanted stop a late failure does not count."""
        triggers = ("stopped", "fail") if self.cause is not None else ("stop", "stopped")
        for trigger in triggers:
            self._board.try_lifecycle(trigger, self.log)

    def _on_callback_exit(self, error: CallbackExitError) -> None:
        self.cause = error
        self.supervisor.stop()

    def _tell_error(self, event: ErrorEvent) -> None:
        self.dispatcher.tell(event)
