"""The monitor thread: watches and reports. It changes nothing; it asks the supervisor."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from realtime_stream.errors import StaleDataError, StreamingError
from realtime_stream.market.channels import ALL_SYMBOLS
from realtime_stream.ports import ErrorEvent
from realtime_stream.runtime.guard import answer_of
from realtime_stream.runtime.log import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from realtime_stream.clock import Clock
    from realtime_stream.config import StreamConfig
    from realtime_stream.ports import StaleEvent
    from realtime_stream.runtime.dispatcher import Dispatcher, Latest
    from realtime_stream.runtime.guard import CallbackGuard
    from realtime_stream.runtime.inbox import Inbox
    from realtime_stream.runtime.lag import LagMeter
    from realtime_stream.runtime.log import EventLog
    from realtime_stream.runtime.session import SessionRecorder
    from realtime_stream.runtime.staleness import StalenessWatch

__all__ = ["Monitor"]

_LONGEST_PAUSE = 1.0  # seconds between two looks; one look costs some 20 us
_SHORTEST_PAUSE = 0.02


class Monitor:
    """Looks once a second at heartbeat, lag and staleness.

    Thread safety: :meth:`run` is the monitor thread; :meth:`stop` may be called from any thread.
    """

    def __init__(
        self,
        *,
        config: StreamConfig,
        clock: Clock,
        data_clock: Clock,
        watch: StalenessWatch,
        recorder: SessionRecorder,
        dispatcher: Dispatcher,
        inbox: Inbox,
        lag: LagMeter,
        guard: CallbackGuard,
        latest: Latest,
        reconnect: Callable[[StaleDataError, str], None],
        log: EventLog,
    ) -> None:
        """Nothing runs yet.

        Args:
            config: Thresholds, and whether staleness makes a new connection.
            clock: For pauses, heartbeat and lag.
            data_clock: For the age of data.
            watch: Finds what is stale.
            recorder: What the io thread knows.
            dispatcher: Tells when the last event that it delivered was received.
            inbox: Takes reports.
            lag: The lag of the frame in delivery.
            guard: Tells since when a callback has been running.
            latest: The newest events.
            reconnect: Asks for a new session in place of the one named, and says why.
            log: Where records go.
        """
        self._config = config
        self._clock = clock
        self._data_clock = data_clock
        self._watch = watch
        self._recorder = recorder
        self._dispatcher = dispatcher
        self._inbox = inbox
        self._lag = lag
        self._guard = guard
        self._latest = latest
        self._reconnect = reconnect
        self._log = log
        self._throttle = Throttle(clock, config.error_log_interval)
        self._ended = threading.Event()
        self._asked: dict[str, int] = {}  # when silence made a new session, until data come again
        self._next_heartbeat = clock.monotonic() + config.heartbeat
        thresholds = (config.stale_after, config.symbol_stale_after)
        shortest = min((
            config.lag_alarm,
            config.heartbeat,
            *(each / 4 for each in thresholds if each),
        ))
        self._pause = min(max(shortest, _SHORTEST_PAUSE), _LONGEST_PAUSE)

    def stop(self) -> None:
        """Let the thread end. Never blocks."""
        self._ended.set()

    def run(self) -> None:
        """Look until told to stop."""
        while not self._clock.wait(self._ended, self._pause):
            self.look()

    def look(self) -> None:
        """Look once at everything."""
        now = self._clock.monotonic()
        if self._lag.watch(now, self._guard.running_since, idle=not self._inbox.behind):
            self._log.write(logging.WARNING, "realtime_feed_lagging")
            self._inbox.put(ErrorEvent(StreamingError("a callback holds up delivery"), "lag"))
        self._look_for_silence()
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + self._config.heartbeat
            self._beat()

    def _look_for_silence(self) -> None:
        connection_id = self._log.connection_id  # before the view: what is seen is this or newer
        now_ns, view = self._data_clock.utc_now_ns(), self._recorder.view
        behind = self._inbox.behind
        # What waits may turn out to be malformed, but is not silence; what is delivered is data.
        last_ns = self._recorder.last_data_ns if behind else self._dispatcher.last_event_ns
        latest = None if behind else self._latest
        found = answer_of(lambda: self._watch.look(now_ns, view, last_ns, latest))  # asks calendar
        if isinstance(found, Exception):
            if self._throttle.turn("calendar") is not None:
                self._inbox.put(ErrorEvent(found, "calendar"))
            return
        if found:
            self._report(found)
        if self._config.reconnect_when_stale != "never":
            self._consider_reconnect(found, last_ns, connection_id)

    def _report(self, found: Sequence[StaleEvent]) -> None:
        self._log.write(
            logging.WARNING,
            "realtime_feed_stale",
            scope="stream" if found[0].symbol == ALL_SYMBOLS else "symbol",
            count=len(found),
            age_seconds=round(max(event.age for event in found), 3),
        )
        for event in found:
            self._inbox.put(event)
            self._log.write(logging.DEBUG, "realtime_symbol_stale", symbol=event.symbol)

    def _consider_reconnect(
        self, found: Sequence[StaleEvent], last_ns: int, connection_id: str
    ) -> None:
        """Ask for a new session, once for each silence: not again before data have come."""
        now_ns = self._data_clock.utc_now_ns()
        for symbol, asked_ns in list(self._asked.items()):
            data_again = self._last_of(symbol, last_ns) > asked_ns
            if data_again or asked_ns > now_ns:  # or the clock was set back
                del self._asked[symbol]
        wanted = self._config.reconnect_when_stale
        new = [
            event
            for event in found
            if event.symbol not in self._asked
            and (wanted == "symbol" or event.symbol == ALL_SYMBOLS)
        ]
        if not new:
            return
        self._asked |= dict.fromkeys((ALL_SYMBOLS, *self._watch.stale), now_ns)  # one for them all
        what = "the stream" if new[0].symbol == ALL_SYMBOLS else f"{len(new)} symbol(s)"
        error = StaleDataError(f"no data for {what} in {new[0].age:.0f} s of market time")
        self._reconnect(error, connection_id)

    def _last_of(self, symbol: str, last_ns: int) -> int:
        if symbol == ALL_SYMBOLS:
            return last_ns
        found = (symbols.get(symbol) for symbols in self._latest.values())
        return max((event.received_ns for event in found if event is not None), default=0)

    def _beat(self) -> None:
        stale, view = self._watch.stale, self._recorder.view
        last_ns = self._recorder.last_data_ns
        age = (self._data_clock.utc_now_ns() - last_ns) / 1e9 if last_ns else None
        self._log.write(
            logging.INFO,
            "realtime_feed_heartbeat",
            connected=view.connected_since is not None,
            symbols=len({entry.symbol for entry in view.acknowledged}),
            age_seconds=None if age is None else round(age, 3),
            stale=len(stale),
            oldest_age_seconds=round(max(stale.values(), default=0.0), 3),
        )
