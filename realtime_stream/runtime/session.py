"""What the io thread notes about the session that runs, and shows to everybody else."""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from realtime_stream.errors import StreamingError, SubscriptionRefusedError
from realtime_stream.ports import (
    Acknowledged,
    Authenticated,
    Checkpoint,
    Connected,
    ConnectionEvent,
    Control,
    ErrorEvent,
    Refused,
    RejectedMessage,
    ServerReport,
    Settled,
)
from realtime_stream.resilience.failures import Failure, harmless, server_error
from realtime_stream.runtime.log import Throttle
from realtime_stream.runtime.notices import SessionSettled

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from realtime_stream.clock import Clock
    from realtime_stream.market.channels import Subscription
    from realtime_stream.market.models import MarketEvent
    from realtime_stream.resilience.circuit_breaker import ConnectionCircuitBreaker
    from realtime_stream.runtime.inbox import Inbox
    from realtime_stream.runtime.log import EventLog
    from realtime_stream.runtime.states import StateBoard

__all__ = ["SessionRecorder", "SessionView"]


@dataclass(frozen=True, slots=True)
class SessionView:
    """The supervisor's side of the status; replaced as a whole by the io thread."""

    attempts: int = 0
    sessions: int = 0
    consecutive: int = 0
    last_error: Failure | None = None
    next_attempt_at: float | None = None
    connected_since: float | None = None
    acknowledged: frozenset[Subscription] = frozenset()
    refused: Mapping[Subscription, str] = field(default_factory=dict)


class SessionRecorder:
    """The listener of one run's sessions: hands frames over and keeps the view up to date.

    Thread safety: the io thread calls everything; :attr:`view` and the counters are read by all,
    and :meth:`note_stability` may be called, and malformed messages told of, by any thread.
    """

    def __init__(
        self,
        *,
        inbox: Inbox,
        board: StateBoard,
        breaker: ConnectionCircuitBreaker,
        clock: Clock,
        data_clock: Clock,
        log: EventLog,
        stable_after: float,
        rejects: int,
        log_interval: float,
    ) -> None:
        """Start with no session."""
        self._throttle = Throttle(clock, log_interval)
        self._inbox = inbox
        self._board = board
        self._breaker = breaker
        self._clock = clock
        self._data_clock = data_clock
        self._log = log
        self._stable_after = stable_after
        self._lock = threading.Lock()  # guards _stable_at, rejected, and the replacement of view
        self._stable_at: float | None = None
        self.view = SessionView()
        self.rejected = 0
        self.rejects: deque[RejectedMessage] = deque(maxlen=rejects)
        self.last_received_ns = 0  # of the last frame, or when the attempt began
        self.last_data_ns = 0  # of the last frame
        self._handlers: dict[type, Callable[[Any], None]] = {
            Connected: self._on_connected,
            Authenticated: self._on_authenticated,
            Acknowledged: self._on_acknowledged,
            Refused: self._on_refused,
            Settled: self._on_settled,
            ServerReport: self._on_server_report,
            RejectedMessage: self._on_rejected,
            Checkpoint: inbox.put,
        }

    def update(self, **changes: Any) -> None:  # checked by replace()
        """Replace fields of the view."""
        with self._lock:
            self.view = replace(self.view, **changes)

    def begin(self) -> None:
        """A new attempt begins."""
        self.last_received_ns = self._data_clock.utc_now_ns()
        self.update(
            attempts=self.view.attempts + 1,
            next_attempt_at=None,
            acknowledged=frozenset(),
            refused={},
        )

    def end(self) -> tuple[bool, bool]:
        """The session has ended: was it connected, and long enough to count as a success?"""
        self.note_stability()
        with self._lock:
            connected = self.view.connected_since is not None
            stable = connected and self._stable_at is None
            self._stable_at = None
            self.view = replace(self.view, connected_since=None, acknowledged=frozenset())
        return connected, stable

    def note_stability(self) -> None:
        """Record the session's success once it has been connected long enough."""
        with self._lock:
            if self._stable_at is None or self._clock.monotonic() < self._stable_at:
                return
            self._stable_at = None
            self.view = replace(self.view, consecutive=0)
        self._breaker.record_success()

    def on_frame(self, events: Collection[MarketEvent], received_ns: int) -> None:
        """See :class:`~realtime_stream.ports.SessionListener`."""
        now = self._clock.monotonic()
        self.last_received_ns = self.last_data_ns = received_ns
        if self._log.is_debug():  # before it is handed over: one thread at a time has a frame
            self._log_frame(events)
        dropped = self._inbox.put_frame(events, now)
        if dropped:
            self._overflowed(dropped)
        stable_at = self._stable_at
        if stable_at is not None and now >= stable_at:
            self.note_stability()

    def on_control(self, control: Control) -> None:
        """See :class:`~realtime_stream.ports.SessionListener`."""
        self._handlers[type(control)](control)

    def _overflowed(self, dropped: int) -> None:
        suppressed = self._throttle.turn("overflow")
        if suppressed is None:
            return
        self._log.write(
            logging.WARNING, "realtime_inbox_overflow", dropped=dropped, suppressed=suppressed
        )
        text = f"the callbacks are too slow: {dropped} events were dropped"
        self._inbox.put(ErrorEvent(StreamingError(text), "inbox"))

    def _log_frame(self, events: Collection[MarketEvent]) -> None:
        now_ns = self._data_clock.utc_now_ns()
        for event in events:
            if event.channel == "bars":
                self._log.write(
                    logging.DEBUG,
                    "realtime_bar_received",
                    symbol=event.symbol,
                    timestamp=event.timestamp.isoformat(),
                    latency_seconds=(now_ns - event.timestamp_ns) / 1e9 - 60,
                )

    def _on_connected(self, _: Connected) -> None:
        self._log.write(logging.DEBUG, "realtime_feed_greeted")

    def _on_authenticated(self, _: Authenticated) -> None:
        self._log.write(logging.DEBUG, "realtime_feed_authenticated")

    def _on_acknowledged(self, control: Acknowledged) -> None:
        self.update(acknowledged=control.subscriptions)

    def _on_refused(self, control: Refused) -> None:
        why = f"{control.code}: {harmless(control.text)}"
        refused = {**self.view.refused, **dict.fromkeys(control.subscriptions, why)}
        self.update(refused=refused)
        self._log.write(
            logging.WARNING,
            "realtime_subscription_refused",
            code=control.code,
            count=len(control.subscriptions),
        )
        named = ", ".join(f"{s.channel} {s.symbol}" for s in sorted(control.subscriptions)[:20])
        text = f"the server refused {named}: {why}"
        error = SubscriptionRefusedError(text, code=control.code)
        self._inbox.put(ErrorEvent(error, "subscription"))

    def _on_settled(self, _: Settled) -> None:
        if self.view.connected_since is not None:
            return
        now = self._clock.monotonic()
        with self._lock:
            view = self.view
            self._stable_at = now + self._stable_after
            self.view = replace(view, connected_since=now, sessions=view.sessions + 1)
        self._board.move_connection("settled", self._log)
        self._log.write(
            logging.INFO, "realtime_feed_connected", subscriptions=len(view.acknowledged)
        )
        event = ConnectionEvent(self._log.connection_id, view.sessions + 1, view.sessions > 0)
        at_ns = self._data_clock.utc_now_ns()
        self._inbox.put(SessionSettled(at_ns, view.acknowledged, event))

    def _on_server_report(self, control: ServerReport) -> None:
        suppressed = self._throttle.turn(f"server error {control.code}")
        if suppressed is None:
            return
        self._log.write(
            logging.WARNING, "realtime_server_error", code=control.code, suppressed=suppressed
        )
        error = server_error(control.code, control.text)
        self._inbox.put(ErrorEvent(error, "session"))

    def _on_rejected(self, control: RejectedMessage) -> None:
        with self._lock:
            self.rejected += control.count
            self.rejects.append(control)
