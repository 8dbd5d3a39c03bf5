"""One manager's lifecycle: starts and ends runs, safely from any thread and from callbacks."""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING

from realtime_stream.errors import (
    CallbackContextError,
    StartTimeoutError,
    StopTimeoutError,
    StreamFailedError,
    StreamingError,
    StreamStoppedError,
)
from realtime_stream.ports import (
    ConnectionState,
    LifecycleState,
    MarketDataProvider,
    ProviderFactory,
)
from realtime_stream.runtime.run import Run, Surroundings
from realtime_stream.runtime.states import ALIVE

if TYPE_CHECKING:
    from realtime_stream.runtime.queues import EventStream

__all__ = ["Engine"]

_ABORT_TIMEOUT = 2.0  # seconds that a start which failed may take to clean up
_EXIT_TIMEOUT = 2.0  # seconds for all managers together at interpreter exit

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


class Engine:
    """Starts, stops and restarts runs; see the manager's table of methods and states.

    Thread safety: every method may be called from any thread, several at once.
    """

    def __init__(self, around: Surroundings, new_provider: ProviderFactory) -> None:
        """Nothing runs yet."""
        self._around = around
        self._board = around.board
        self._new_provider = new_provider
        self._lock = (
            threading.Lock()
        )  # guards the exchange of run and memory; a run starts outside it
        self.run: Run | None = None
        self.memory = around.new_memory()

    def wanted_changed(self) -> None:
        """Tell the present run that registrations or subscriptions changed."""
        run = self.run
        if run is not None and not run.finished.is_set():
            run.supervisor.wanted_changed()

    def start(self, timeout: float, *, keep_memory: bool = False) -> ConnectionState:
        """Begin a run, or join the one that is there, and wait until it is connected or idle.

        Raises:
            StreamingError: See ``RealTimeStreamManager.start``.
        """
        self.forbid_in_callback("start()")
        deadline = time.monotonic() + timeout
        before = self.run
        try:
            run, mine = self._begin(deadline, keep_memory=keep_memory)
            if timeout == 0:
                if mine:
                    self._board.try_lifecycle("ready", run.log)
                return self._board.connection
            ready = self._board.wait(lambda: self._settled(run), deadline - time.monotonic())
            return self._started(run, ready=ready, mine=mine, timeout=timeout)
        except BaseException:  # Ctrl-C too: whatever ends this call, the run it began ends with it
            if self.run is not before:
                self._abort()
            raise

    def stop(self, timeout: float) -> None:
        """End the run within ``timeout`` seconds; from a callback, ask for it and return.

        Raises:
            StopTimeoutError: A thread is still alive.
            StreamFailedError: The manager had failed and nobody has been told yet.
            ForkedProcessError: In a forked child.
        """
        if not self._around.home.is_here():
            self._complain(self._around.home.error())
            return
        run = self.run
        if run is None:
            return
        self._board.try_lifecycle("stop", run.log)
        run.request_stop(timeout / 2)
        if run.in_dispatch_thread():
            return
        deadline = time.monotonic() + timeout
        finished = run.finished.wait(timeout)
        if not (run.join(max(deadline - time.monotonic(), 0.0)) and finished):
            error = _still_running(run, timeout)
            run.log.write(logging.ERROR, "realtime_stop_incomplete", error=str(error))
            self._complain(error)
        elif run.cause is not None and not run.reported:
            run.reported = True
            self._complain(_failed(run))

    def ask_to_stop(self) -> None:
        """Ask the present run to end, and return."""
        if not self._around.home.is_here():  # at the exit of a forked child
            return
        run = self.run
        if run is not None:
            self._board.try_lifecycle("stop", run.log)
            run.request_stop(0.0)

    def restart(self, timeout: float) -> ConnectionState:
        """Stop if running, then start, keeping what is known about the market.

        Raises:
            StreamingError: As :meth:`stop` and :meth:`start`.
        """
        self.forbid_in_callback("restart()")
        deadline = time.monotonic() + timeout
        if self.run is not None:
            self.run.reported = True  # a restart is an answer to a failure
            self.stop(timeout / 2)
        return self.start(max(deadline - time.monotonic(), 0.001), keep_memory=True)

    def wait_until_connected(self, timeout: float | None) -> bool:
        """Wait for the connection; ``False`` on timeout or when stopped.

        Raises:
            StreamFailedError: The manager has failed.
            CallbackContextError: Called from a callback.
        """
        self.forbid_in_callback("wait_until_connected()")
        board = self._board
        board.wait(
            lambda: board.connected.is_set() or board.lifecycle not in ALIVE,
            timeout,
        )
        self.check()
        return board.connected.is_set()

    def wait_until_stopped(self, timeout: float | None) -> bool:
        """Wait until no thread of the run is left; ``False`` on timeout.

        Raises:
            StreamFailedError: The manager has failed.
            CallbackContextError: Called from a callback.
        """
        self.forbid_in_callback("wait_until_stopped()")
        run = self.run
        if run is None:
            return True
        ended = run.finished.wait(timeout)
        if ended:
            run.join(_ABORT_TIMEOUT)  # the threads have nothing more to do but end
        self.check()
        return ended

    def open_stream(self, stream: EventStream) -> None:
        """Let ``stream`` see what is delivered; it ends with the run, or at once without one."""
        self._around.queues.open(stream)
        if self._board.lifecycle in {LifecycleState.STOPPED, LifecycleState.FAILED}:
            stream.close()

    def check(self) -> None:
        """Raise if the manager has failed.

        Raises:
            StreamFailedError: With the first cause chained.
            ForkedProcessError: In a forked child.
        """
        self._around.home.check()
        run = self.run
        if run is not None and self._board.lifecycle is LifecycleState.FAILED:
            run.reported = True
            error = _failed(run)
            raise error from run.cause

    def _begin(self, deadline: float, *, keep_memory: bool) -> tuple[Run, bool]:
        """The run to wait for, and whether this call began it."""
        self._await_writers(deadline)
        provider = self._new_provider()
        board = self._board
        while True:
            run, mine = self._claim(provider, keep_memory=keep_memory)
            if mine:
                self._around.breaker.reset()
                _engines.add(self)
                _stop_all_at_exit()
                run.start()
                return run, True
            # Somebody else's run: join it once it is starting, or wait until it has ended.
            over = run.finished.is_set
            board.wait(lambda: board.lifecycle in ALIVE or over(), deadline - time.monotonic())  # noqa: B023  # called before the next turn
            if board.lifecycle in ALIVE:
                return run, False
            if not over():
                msg = "the run before is still stopping"
                raise StartTimeoutError(msg)

    def _await_writers(self, deadline: float) -> None:
        """Wait for threads of the run before that linger in a sink, or at a recording."""
        run = self.run
        if run is None or not run.finished.is_set() or not run.writers():
            return
        run.join(max(deadline - time.monotonic(), 0.0))
        if run.writers():
            msg = f"the run before is still writing: {', '.join(run.writers())}"
            raise StartTimeoutError(msg)

    def _claim(self, provider: MarketDataProvider, *, keep_memory: bool) -> tuple[Run, bool]:
        """The run that is there, or a new one that is the caller's to start."""
        with self._lock:
            run = self.run
            if run is not None and not run.finished.is_set():
                return run, False
            if not keep_memory:
                self.memory = self._around.new_memory()
            self.run = Run(self._around, self.memory, provider)
            return self.run, True

    def _settled(self, run: Run) -> bool:
        return (
            self._board.connection in {ConnectionState.CONNECTED, ConnectionState.IDLE}
            or run.finished.is_set()
            or self._board.lifecycle not in ALIVE
        )

    def _started(self, run: Run, *, ready: bool, mine: bool, timeout: float) -> ConnectionState:
        if not ready:
            last = run.recorder.view.last_error
            why = "" if last is None else f"; the last failure was: {last.text}"
            msg = f"not connected within {timeout:g} s{why}"
            raise StartTimeoutError(msg) from (None if last is None else last.error)
        if self._board.lifecycle is LifecycleState.FAILED and run.cause is not None:
            run.reported = True
            run.finished.wait(_ABORT_TIMEOUT)
            run.join(_ABORT_TIMEOUT)
            if mine:
                raise run.cause
            raise _failed(run) from run.cause
        if run.finished.is_set() or self._board.lifecycle is LifecycleState.STOPPING:
            msg = "stopped while starting"
            raise StreamStoppedError(msg)
        self._board.try_lifecycle("ready", run.log)
        return self._board.connection

    def _abort(self) -> None:
        """Leave no thread behind a start of this thread's that did not succeed."""
        run = self.run
        if run is None or run.starter != threading.get_ident() or run.finished.is_set():
            return
        run.reported = True
        if not run.started:
            run.abandon()
        with contextlib.suppress(StopTimeoutError):  # a stuck callback; it is in the log
            self.stop(_ABORT_TIMEOUT)

    def forbid_in_callback(self, what: str) -> None:
        """Raise if the caller is a callback of the present run.

        Raises:
            CallbackContextError: It is.
            ForkedProcessError: In a forked child, where nothing would ever come.
        """
        self._around.home.check()
        run = self.run
        if run is not None and run.in_dispatch_thread():
            msg = f"{what} must not be called from a callback: it would wait for itself"
            raise CallbackContextError(msg)

    def _complain(self, error: StreamingError) -> None:
        """Raise ``error``, unless the caller is already handling an exception: then add a note."""
        current = sys.exception()
        if current is None:
            raise error from (None if self.run is None else self.run.cause)
        current.add_note(f"while stopping the stream: {error}")


def _failed(run: Run) -> StreamFailedError:
    return StreamFailedError(f"the stream has failed: {run.cause}")


def _still_running(run: Run, timeout: float) -> StopTimeoutError:
    threads, callback = run.threads(), run.guard.running
    what = f"callback {callback} is still running" if callback else "still alive: "
    names = "" if callback else ", ".join(threads)
    msg = f"not stopped within {timeout:g} s: {what}{names}"
    return StopTimeoutError(msg, callback=callback, threads=threads)


def _stop_all() -> None:
    """End every manager's run within one and the same time."""
    engines = list(_engines)
    for engine in engines:
        engine.ask_to_stop()
    deadline = time.monotonic() + _EXIT_TIMEOUT
    for engine in engines:
        with contextlib.suppress(StreamingError):  # nobody is left to hear of it
            engine.stop(max(deadline - time.monotonic(), 0.0))


@functools.cache  # two registrations, if two first starts meet, do no harm
def _stop_all_at_exit() -> None:
    atexit.register(_stop_all)
