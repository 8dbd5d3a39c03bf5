"""The dispatch thread: everything after the inbox, in order, and all user code."""

from __future__ import annotations

import logging
from operator import length_hint
from typing import TYPE_CHECKING, Final

from realtime_stream.errors import CallbackExitError, StreamingError
from realtime_stream.market.channels import CHANNELS
from realtime_stream.market.models import MarketEvent
from realtime_stream.ports import (
    ConnectionEvent,
    DisconnectEvent,
    ErrorEvent,
    Gap,
    StaleEvent,
    StateChange,
)
from realtime_stream.runtime.inbox import BarsDropped, Inbox
from realtime_stream.runtime.notices import (
    Question,
    SessionLost,
    SessionSettled,
    SupervisorEnded,
)
from realtime_stream.runtime.overflow import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from realtime_stream.clock import Clock
    from realtime_stream.runtime.gaps import GapTracker
    from realtime_stream.runtime.guard import CallbackGuard
    from realtime_stream.runtime.lag import LagMeter
    from realtime_stream.runtime.log import EventLog
    from realtime_stream.runtime.queues import EventQueues
    from realtime_stream.runtime.registry import Registry

__all__ = ["Dispatcher", "Latest"]

Latest = dict[str, dict[str, MarketEvent]]  # newest event per channel and symbol

_LISTENER_OF: Final[dict[type, str]] = {
    ConnectionEvent: "connect",
    DisconnectEvent: "disconnect",
    Gap: "gap",
    StaleEvent: "stale",
    ErrorEvent: "error",
    StateChange: "state_change",
}


class Dispatcher:
    """Takes frames and notices from the inbox and brings them to their callbacks.

    Thread safety: :meth:`run` is the dispatch thread; it owns every attribute. Other threads call
    :meth:`drain_until` and read the counters.
    """

    def __init__(
        self,
        *,
        inbox: Inbox,
        registry: Registry,
        guard: CallbackGuard,
        gaps: GapTracker,
        queues: EventQueues,
        lag: LagMeter,
        clock: Clock,
        data_clock: Clock,
        log: EventLog,
        latest: Latest,
        on_callback_exit: Callable[[CallbackExitError], None],
    ) -> None:
        """Wire the parts together; nothing runs yet."""
        self._inbox = inbox
        self._registry = registry
        self._guard = guard
        self._gaps = gaps
        self._queues = queues
        self._lag = lag
        self._clock = clock
        self._data_clock = data_clock
        self._log = log
        self._latest = latest
        self._on_callback_exit = on_callback_exit
        self._deadline: float | None = None
        self._exit: CallbackExitError | None = None
        self._ended = False  # whether the supervisor has
        self.delivered = dict.fromkeys(CHANNELS, 0)
        self.undelivered = 0
        self.last_event_ns = 0  # when the last event delivered was received
        self._present: Iterator[MarketEvent] = iter(())  # what the present frame still holds
        self.reports_dropped = 0

    @property
    def in_hand(self) -> int:
        """Events of the present frame that are still to be delivered."""
        return length_hint(self._present)

    def drain_until(self, deadline: float) -> None:
        """Deliver until ``deadline`` (monotonic seconds), then only count what is left.

        Of several deadlines the earliest holds.
        """
        before = self._deadline
        self._deadline = deadline if before is None else min(before, deadline)

    def run(self) -> None:
        """Deliver until the supervisor has ended and the inbox is empty."""
        while not self._ended:
            self._handle(self._inbox.get(None))
        self.deliver_waiting()

    def deliver_waiting(self) -> None:
        """Deliver what is in the inbox and return when it is empty."""
        while (item := self._inbox.get(0)) is not None:
            self._handle(item)

    def _handle(self, item: object) -> None:
        if isinstance(item, SupervisorEnded):
            self._ended = True
        elif isinstance(item, Frame):
            self._guarded(self._deliver, item)
        elif isinstance(item, Question):
            self._guarded(self._answer, item)
        elif item is not None:
            self._guarded(self._notice, item)

    def _guarded(self, step: Callable[..., None], item: object) -> None:
        """Run a step; when user code asks to exit, stop calling user code at all."""
        if self._exit is not None:
            self._keep_books(item)
            return
        try:
            step(item)
        except CallbackExitError as exc:
            self._exit = exc
            self._on_callback_exit(exc)

    def _keep_books(self, item: object) -> None:
        """Enter into the accounts what nobody is called about any more."""
        if isinstance(item, Frame):
            self.undelivered += item.count
        elif isinstance(item, SessionLost):  # a restart will report what was missed
            self._gaps.session_ended(item.at_ns, self._latest, item.acknowledged)
        elif isinstance(item, BarsDropped):
            self._gaps.bars_dropped(self._data_clock.utc_now_ns(), item.losses)

    def _deliver(self, frame: Frame) -> None:
        """Bring a frame's events to their callbacks."""
        if self._is_late():
            self.undelivered += frame.count
            return
        behind = self._lag.begin(frame.received, self._clock.monotonic())
        self._present = iter(frame.events)  # decodes
        if self.in_hand != frame.count:
            self._inbox.discount(frame.count - self.in_hand)
        try:
            if behind:
                self._lagging()
            self._guard.begin(self._clock.monotonic())
            self._deliver_each(self._present)
        finally:
            self.undelivered += self.in_hand
            self._present = iter(())
            self._lag.end()

    def _deliver_each(self, events: Iterator[MarketEvent]) -> None:
        """The loop that runs once per event, and therefore is flat."""
        guard, queues, latest, delivered = self._guard, self._queues, self._latest, self.delivered
        gaps, missing = self._gaps, self._gaps.open
        routes = self._registry.routes
        by_symbol = routes.by_symbol
        event, lane = None, ""
        for event in events:
            channel, symbol = event.channel, event.symbol
            if channel is not lane:  # nearly always the same as that of the event before
                lane, known, symbols = channel, latest[channel], by_symbol.get(channel)
            delivered[channel] += 1  # first: whatever comes, it is in the accounts
            if missing:
                gap = gaps.first_after(event)
                if gap is not None:
                    self._report_gap(gap)
            known[symbol] = event
            if routes.stale:
                routes = self._registry.routes
                by_symbol = routes.by_symbol
                symbols = by_symbol.get(channel)
            if symbols is not None:
                found = symbols.get(symbol)
                guard.deliver(routes.of(event) if found is None else found, event)
            if queues.active:
                queues.put(event)
            if self._deadline is not None and self._is_late():
                break
        if event is not None:
            self.last_event_ns = event.received_ns

    def _answer(self, question: Question) -> None:
        try:
            question.answer = self._guard.ask(question.function, question.name)
            question.answered = True
        finally:
            question.done()

    def _notice(self, item: object) -> None:
        if isinstance(item, SessionSettled):
            wanted = self._registry.wanted()
            gap = self._gaps.connection_whole(item.at_ns, item.acknowledged, wanted)
            self.tell(item.event)
            if gap is not None:
                self._report_gap(gap)
        elif isinstance(item, SessionLost):
            self._gaps.session_ended(item.at_ns, self._latest, item.acknowledged)
            if item.event is not None:
                self.tell(item.event)
        elif isinstance(item, BarsDropped):
            self._report_gap(self._gaps.bars_dropped(self._data_clock.utc_now_ns(), item.losses))
        else:
            self.tell(item)

    def tell(self, event: object) -> None:
        """Call the listeners of this kind of event; after the deadline only for what ends a run."""
        if self._is_late() and not _is_final(event):
            self.reports_dropped += 1
            return
        listeners = self._registry.routes.listeners.get(_LISTENER_OF[type(event)])
        if listeners:
            self._guard.begin(self._clock.monotonic())
            self._guard.deliver(listeners, event)

    def _is_late(self) -> bool:
        return self._deadline is not None and self._clock.monotonic() >= self._deadline

    def _report_gap(self, gap: Gap) -> None:
        self._log.write(
            logging.WARNING,
            "realtime_feed_gap",
            cause=gap.cause,
            start=gap.start.isoformat(),
            end=gap.end.isoformat(),
            keys=len(gap.entries),
        )
        self.tell(gap)

    def _lagging(self) -> None:
        self._log.write(logging.WARNING, "realtime_feed_lagging")
        self.tell(ErrorEvent(StreamingError("events are delivered late"), "lag"))


def _is_final(event: object) -> bool:
    if isinstance(event, StateChange):
        return event.machine == "lifecycle"
    return isinstance(event, ErrorEvent) and event.fatal
