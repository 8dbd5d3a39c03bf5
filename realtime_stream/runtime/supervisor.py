"""The io thread: one session after the other, with the breaker asked before each attempt."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

from realtime_stream.config import Credentials
from realtime_stream.errors import AuthenticationError, ConfigurationError, StreamingError
from realtime_stream.ports import DisconnectEvent, ErrorEvent, MarketDataProvider
from realtime_stream.resilience.failures import Failure, FailureKind, SessionEnd, classify
from realtime_stream.runtime.notices import Question, SessionLost, SubscriptionsChanged
from realtime_stream.runtime.registry import callback_name

if TYPE_CHECKING:
    import random

    from realtime_stream.clock import Clock
    from realtime_stream.config import StreamConfig
    from realtime_stream.market.channels import Subscription
    from realtime_stream.resilience.circuit_breaker import ConnectionCircuitBreaker
    from realtime_stream.runtime.inbox import Inbox
    from realtime_stream.runtime.log import EventLog
    from realtime_stream.runtime.registry import Registry
    from realtime_stream.runtime.session import SessionRecorder
    from realtime_stream.runtime.states import StateBoard

__all__ = ["GetSymbols", "Supervisor"]

GetSymbols = Callable[[], Iterable[str]]

_IDLE_REASK = 30.0  # seconds between two questions to get_symbols while nothing is wanted


class Supervisor:
    """Decides when to connect, and what the end of a session means. It alone reconnects.

    Thread safety: :meth:`run` is the io thread and owns every attribute; :meth:`stop`,
    :meth:`reconnect` and :meth:`wanted_changed` may be called from any thread.
    """

    def __init__(
        self,
        *,
        provider: MarketDataProvider,
        config: StreamConfig,
        registry: Registry,
        get_symbols: GetSymbols | None,
        inbox: Inbox,
        board: StateBoard,
        breaker: ConnectionCircuitBreaker,
        recorder: SessionRecorder,
        clock: Clock,
        data_clock: Clock,
        log: EventLog,
        rng: random.Random,
    ) -> None:
        """Wire the parts together; nothing runs yet."""
        self._provider = provider
        self._config = config
        self._registry = registry
        self._get_symbols = get_symbols
        self._inbox = inbox
        self._board = board
        self._breaker = breaker
        self._recorder = recorder
        self._clock = clock
        self._data_clock = data_clock
        self._log = log
        self._rng = rng
        self._wake = threading.Event()  # set: look again (stopped, wanted changed, answer came)
        self._stopping = threading.Event()
        self._wanted_lock = threading.Lock()  # guards the order of set_wanted calls
        self._last_credentials: Credentials | None = None  # holds while the callable is silent
        self._not_before = -math.inf  # monotonic time before which no attempt is made
        self._reason: tuple[StreamingError, str] | None = None  # why a session was given up
        self._same_kind: tuple[FailureKind | None, int] = (None, 0)

    def stop(self) -> None:
        """End the session and the loop. Never blocks."""
        self._stopping.set()
        self._wake.set()
        self._provider.disconnect()

    def reconnect(self, reason: StreamingError, connection_id: str) -> None:
        """End the session with this id as failed, if it still runs. Never blocks."""
        if connection_id == self._log.connection_id:
            self._reason = (reason, connection_id)
            self._provider.end_session()

    def credentials(self) -> Credentials:
        """The key pair for a request beside the session: that of the last session.

        Raises:
            StreamingError: There is none.
        """
        if self._config.credentials is None:
            return self._config.resolve_credentials()
        if self._last_credentials is None:
            msg = "the credentials callable has given no key pair yet"
            raise AuthenticationError(msg)
        return self._last_credentials

    def wanted_changed(self) -> None:
        """Tell the running session, or wake from idleness. Never blocks."""
        self._inbox.put(SubscriptionsChanged())
        self._publish_wanted()
        self._wake.set()

    def run(self) -> Failure | None:
        """Hold the connection until stopped (``None``) or until nothing can help (the failure)."""
        failure = None
        while failure is None and not self._stopping.is_set():
            failure = self._step()
        self._board.move_connection("end", self._log)
        return failure

    def _publish_wanted(self) -> frozenset[Subscription]:
        with self._wanted_lock:
            wanted = self._registry.wanted()
            self._provider.set_wanted(wanted)
        return wanted

    def _step(self) -> Failure | None:
        self._refresh_symbols()
        self._wake.clear()
        wanted = self._publish_wanted()
        if self._stopping.is_set():
            return None
        if not wanted:
            self._idle()
            return None
        if self._not_before > self._clock.monotonic():  # a wait was left while nothing was wanted
            self._hold_back(self._not_before - self._clock.monotonic())
            waits_for = "circuit_open" if self._breaker.retry_in() else "lost"
            self._board.move_connection(waits_for, self._log)
            self._pause()
            return None
        if not self._breaker.can_attempt_connection():
            self._hold_back(self._breaker.retry_in())
            self._board.move_connection("circuit_open", self._log)
            self._pause()
            return None
        return self._attempt(wanted)

    def _idle(self) -> None:
        self._board.move_connection("idle", self._log)
        timeout = None if self._get_symbols is None else _IDLE_REASK
        self._clock.wait(self._wake, timeout)

    def _attempt(self, wanted: frozenset[Subscription]) -> Failure | None:
        recorder = self._recorder
        connection_id = self._log.next_connection()
        recorder.begin()
        self._board.move_connection("connect", self._log)
        self._log.write(
            logging.INFO,
            "realtime_feed_connecting",
            attempt=recorder.view.attempts,
            subscriptions=len(wanted),
        )
        end = self._run_session()
        acknowledged = recorder.view.acknowledged
        connected, stable = recorder.end()
        if self._stopping.is_set() or end.requested:
            failure = None
            self._breaker.release()
        else:
            failure = self._judge(end, stable=stable)
        final = failure is not None and self._is_final(failure)
        if failure is not None and not final:
            self._hold_back(self._delay(failure))
        # The state moves first: whoever is told of the end must not see the old state.
        self._board.move_connection(self._trigger(failure, final=final), self._log)
        self._announce(connection_id, acknowledged, failure, connected=connected)
        if failure is None or final:
            return failure
        self._inbox.put(ErrorEvent(failure.error, "session"))
        self._pause()
        return None

    def _is_final(self, failure: Failure) -> bool:
        exhausted = self._config.reconnect.exhausted(self._recorder.view.consecutive)
        return exhausted or not failure.retryable

    def _trigger(self, failure: Failure | None, *, final: bool) -> str:
        if final or self._stopping.is_set():
            return "end"
        if failure is None:
            return "lost" if self._registry.wanted() else "idle"
        return "circuit_open" if self._breaker.retry_in() else "lost"

    def _run_session(self) -> SessionEnd:
        try:
            credentials = self._credentials()
            if credentials is None:
                return SessionEnd(requested=True)
            end = self._provider.run_session(credentials, self._recorder)
        except StreamingError as exc:
            return SessionEnd(error=exc)
        reason, self._reason = self._reason, None
        if end.requested and reason is not None and reason[1] == self._log.connection_id:
            return SessionEnd(error=reason[0])
        return end

    def _judge(self, end: SessionEnd, *, stable: bool) -> Failure:
        """Classify the end, and enter it into the accounts."""
        failure = classify(end)
        kind, count = self._same_kind
        count = count + 1 if failure.kind is kind else 1
        self._same_kind = (failure.kind, count)
        if count > 1:
            failure = classify(end, consecutive=count)
        if stable:
            self._breaker.release()
        else:
            self._breaker.record_failure()
        self._recorder.update(consecutive=self._recorder.view.consecutive + 1, last_error=failure)
        return failure

    def _announce(
        self,
        connection_id: str,
        acknowledged: frozenset[Subscription],
        failure: Failure | None,
        *,
        connected: bool,
    ) -> None:
        consecutive = self._recorder.view.consecutive
        self._log.write(
            logging.INFO if failure is None else logging.WARNING,
            "realtime_feed_disconnected",
            reason="requested" if failure is None else failure.kind.value,
            code=None if failure is None else failure.code,
            consecutive=consecutive,
        )
        event = DisconnectEvent(connection_id, failure, consecutive) if connected else None
        self._inbox.put(SessionLost(self._recorder.last_received_ns, acknowledged, event))

    def _delay(self, failure: Failure) -> float:
        """As long as policy, server and breaker ask for, in seconds."""
        delay = self._config.reconnect.delay(self._recorder.view.consecutive, self._rng)
        return max(delay, failure.min_wait, self._breaker.retry_in())

    def _hold_back(self, seconds: float) -> None:
        """Make no attempt for so long, whatever happens meanwhile."""
        self._not_before = self._clock.monotonic() + seconds
        self._recorder.update(next_attempt_at=self._not_before)

    def _pause(self) -> None:
        """Wait as held back; ends early when stopped or when nothing is wanted any more."""
        seconds = max(self._not_before - self._clock.monotonic(), 0.0)
        self._log.write(logging.INFO, "realtime_feed_waiting", seconds=round(seconds, 3))
        while not self._stopping.is_set():
            remaining = self._not_before - self._clock.monotonic()
            if remaining <= 0 or not self._clock.wait(self._wake, remaining):
                break
            self._wake.clear()
            if not self._registry.wanted():
                break
        self._recorder.update(next_attempt_at=None)

    def _refresh_symbols(self) -> None:
        if self._get_symbols is None:
            return
        get_symbols = self._get_symbols
        answer = self._ask(lambda: _listed(get_symbols()), get_symbols, "get_symbols")
        if answer is None:
            return
        try:
            self._registry.set_dynamic(cast("tuple[str, ...]", answer))
        except ConfigurationError as exc:
            self._inbox.put(ErrorEvent(exc, "get_symbols"))

    def _credentials(self) -> Credentials | None:
        """The key pair for the next session; ``None`` when stopped meanwhile.

        Raises:
            StreamingError: There is none.
        """
        if self._config.credentials is None:
            return self._config.resolve_credentials()
        resolve = self._config.resolve_credentials
        answer = self._ask(resolve, self._config.credentials, "credentials")
        if isinstance(answer, Credentials):
            self._last_credentials = answer
        elif self._stopping.is_set():
            return None
        elif self._last_credentials is None:
            msg = "the credentials callable gave no key pair"
            raise AuthenticationError(msg)
        return self._last_credentials

    def _ask(
        self, function: Callable[[], object], asked: Callable[..., object], source: str
    ) -> object | None:
        """Have a user function called on the dispatch thread; ``None`` when there is no answer."""
        question = Question(function, callback_name(asked), self._wake.set)
        self._inbox.put(question)
        deadline = self._clock.monotonic() + self._config.symbols_timeout
        while not question.answered and not self._stopping.is_set():
            remaining = deadline - self._clock.monotonic()
            if remaining <= 0:
                error: BaseException = StreamingError(f"{source} did not answer in time")
                self._inbox.put(ErrorEvent(error, source))
                return None
            self._clock.wait(self._wake, remaining)
            self._wake.clear()
        if isinstance(question.answer, Exception):
            self._inbox.put(ErrorEvent(question.answer, source))
            return None
        return question.answer


def _listed(symbols: Iterable[str]) -> tuple[str, ...]:
    """The answer of ``get_symbols``, taken to its end on the thread that may run user code."""
    if isinstance(symbols, str):
        msg = "get_symbols must return several strings, not one"
        raise ConfigurationError(msg)
    return tuple(symbols)
