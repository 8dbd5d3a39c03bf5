"""The dispatch thread: everything after the inbox, in order, and all user code."""

from __future__ import annotations

import itertools
import logging
import math
from operator import length_hint
from typing import TYPE_CHECKING, Any, Final, cast

from realtime_stream.errors import CallbackExitError, StreamingError
from realtime_stream.market.channels import CHANNELS
from realtime_stream.market.models import MarketEvent
from realtime_stream.ports import (
    BackfillEvent,
    Checkpoint,
    ConnectionEvent,
    DisconnectEvent,
    ErrorEvent,
    Gap,
    RejectedEvent,
    StaleEvent,
    StateChange,
)
from realtime_stream.runtime.history_worker import HistoryDone, HistoryPart
from realtime_stream.runtime.inbox import EventsDropped, Inbox
from realtime_stream.runtime.notices import (
    Question,
    SessionLost,
    SessionSettled,
    SubscriptionsChanged,
    SupervisorEnded,
)
from realtime_stream.runtime.overflow import Frame, JoinedEvents
from realtime_stream.runtime.series import NEVER_NS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from realtime_stream.clock import Clock
    from realtime_stream.market.models import Bar, Trade
    from realtime_stream.market.validation import Validator, Verdict
    from realtime_stream.runtime.bar_desk import BarDesk
    from realtime_stream.runtime.exchange_clock import ExchangeClock
    from realtime_stream.runtime.gaps import GapTracker
    from realtime_stream.runtime.guard import CallbackGuard
    from realtime_stream.runtime.history_desk import HistoryDesk
    from realtime_stream.runtime.lag import LagMeter
    from realtime_stream.runtime.latency_desk import LatencyDesk
    from realtime_stream.runtime.log import EventLog
    from realtime_stream.runtime.queues import EventQueues
    from realtime_stream.runtime.registry import Registration, Registry, Routes
    from realtime_stream.runtime.screen import Screen
    from realtime_stream.runtime.series import SeriesBoard

__all__ = ["Dispatcher", "Latest"]

Latest = dict[str, dict[str, MarketEvent]]  # newest event per channel and symbol

_BARS: Final = frozenset({"bars", "updated_bars", "daily_bars"})
_SECOND_NS: Final = 10**9
_MINUTE_NS: Final = 60 * _SECOND_NS
_DELAYED_NS: Final = 600 * _SECOND_NS  # a feed's own delay is a quarter of an hour
_FARTHEST_BEHIND_NS: Final = 900 * _SECOND_NS
_LONGEST_PAUSE: Final = 3600.0  # seconds
_LISTENER_OF: Final[dict[type, str]] = {
    BackfillEvent: "backfill",
    ConnectionEvent: "connect",
    DisconnectEvent: "disconnect",
    Gap: "gap",
    RejectedEvent: "rejected",
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
        exchange: ExchangeClock,
        log: EventLog,
        latest: Latest,
        screen: Screen,
        series: SeriesBoard,
        desk: BarDesk,
        latency: LatencyDesk,
        past: Validator,
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
        self._exchange = exchange
        self._log = log
        self._latest = latest
        self._screen = screen
        self._series = series
        self._desk = desk
        self.history: HistoryDesk  # set before the thread runs; it delivers by way of this object
        self._latency = latency
        self._past = past
        self._on_callback_exit = on_callback_exit
        self._deadline: float | None = None
        self._exit: CallbackExitError | None = None
        self._ended = False  # whether the supervisor has
        self._routes: Routes | None = None  # those that the series were made for
        self._connected = False
        self.delivered = dict.fromkeys(CHANNELS, 0)
        self.invalid = 0
        self.undelivered = 0
        self.last_event_ns = 0  # when the last event delivered was received
        self._present: Iterator[MarketEvent] = iter(())  # what the present frame still holds
        self._ends: list[MarketEvent] = []  # of frames in it that are not measured yet
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
        self._guarded(self._follow_registry, None)
        while not self._ended:
            self._handle(self._next())
        self.deliver_waiting()
        self._guarded(self._finish, None)

    def deliver_waiting(self) -> None:
        """Deliver what is in the inbox and return when it is empty."""
        while (item := self._inbox.get(0)) is not None:
            self._handle(item)

    def _next(self) -> object:
        """The next frame or notice; meanwhile do what time asks for."""
        while True:
            item = self._inbox.get(self._pause())
            if item is not None:
                return item
            # First the clock, then another look: what was received by then is in the inbox.
            now_ns = self._data_clock.utc_now_ns()
            item = self._inbox.get(0)
            if item is not None:
                return item
            self._guarded(self._on_time, now_ns)

    def _pause(self) -> float | None:
        """Seconds until something is due; ``None`` when nothing is."""
        if self._exit is not None:
            return None
        pause = self.history.deadline - self._clock.monotonic()
        due_ns = self._series.due_ns
        if due_ns != NEVER_NS:
            due_ns += self._latency.ahead_ns
            due = (due_ns - self._data_clock.utc_now_ns()) / _SECOND_NS
            pause = min(pause, self._data_clock.real_seconds(due))
        return None if pause == math.inf else min(max(pause, 0.0), _LONGEST_PAUSE)

    def _on_time(self, now_ns: int) -> None:
        now = self._clock.monotonic()
        if now >= self.history.deadline:
            self.history.expire(now)
        self._deliver_built(now_ns)

    def _finish(self, _: object) -> None:
        self.history.finish()
        self._deliver_built(self._data_clock.utc_now_ns())

    def _handle(self, item: object) -> None:
        if isinstance(item, SupervisorEnded):
            self._ended = True
        elif isinstance(item, Frame):
            self._guarded(self._deliver, item)
        elif isinstance(item, Question):
            self._guarded(self._answer, item)
        elif isinstance(item, Checkpoint):
            self._guarded(self._on_time, self._data_clock.utc_now_ns())
            item.reached()
        elif item is not None:
            self._guarded(self._notice, item)

    def _guarded(self, step: Callable[[Any], None], item: object) -> None:
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
        elif isinstance(item, SessionLost):  # a restart will report and fill what was missed
            self._note_lost(item)
        elif isinstance(item, EventsDropped):
            self._note_dropped(item)
        elif isinstance(item, HistoryPart):
            item.taken()

    def _follow_registry(self, _: object) -> None:
        """Build what the present registrations want."""
        routes = self._registry.routes
        if routes is not self._routes:
            self._routes = routes
            self._series.want(routes.series)
            if self._connected:
                # What is asked for now is served in a moment.
                soon_ns = self._exchange.utc_now_ns() + _SECOND_NS
                self._series.watch(self._registry.wanted(), soon_ns)
                self.history.registrations_changed(routes)

    def _deliver(self, frame: Frame) -> None:
        """Bring a frame's events to their callbacks."""
        if self._is_late():
            self.undelivered += frame.count
            return
        now = self._clock.monotonic()
        behind = self._lag.begin(frame.received, now)
        self._present = iter(frame.events)  # decodes
        if self.in_hand != frame.count:
            self._inbox.discount(frame.count - self.in_hand)
        try:
            self._follow_registry(None)
            if now >= self.history.deadline:
                self.history.expire(now)
            if behind:
                self._lagging()
            self._guard.begin(self._clock.monotonic())
            self._ends = frame.events.ends if isinstance(frame.events, JoinedEvents) else []
            self._deliver_each(self._present)
        finally:
            self.undelivered += self.in_hand
            self._present = iter(())
            self._lag.end()

    def _deliver_each(self, events: Iterator[MarketEvent]) -> None:  # noqa: C901, PLR0912  # a call costs more than a branch
        """The loop that runs once per event, and therefore is flat."""
        guard, queues, latest, delivered = self._guard, self._queues, self._latest, self.delivered
        gaps, missing, series = self._gaps, self._gaps.open, self._series
        checks, ahead_ns = self._screen.checks, self._latency.ahead_ns
        due_ns = series.due_ns + ahead_ns
        routes = self._registry.routes
        by_symbol = routes.by_symbol
        event, lane = None, ""
        for event in events:
            channel, symbol = event.channel, event.symbol
            if channel is not lane:  # nearly always the same as that of the event before
                lane, known, symbols = channel, latest[channel], by_symbol.get(channel)
                check, feed, is_bar = (
                    checks.get(channel),
                    series.feeds.get(channel),
                    channel in _BARS,
                )
            if event.received_ns >= due_ns:
                self._before(self._deliver_built, event.received_ns)
                due_ns = series.due_ns + ahead_ns
            if check is not None:
                verdict = check(event)
                if verdict is not None and not self._judge(event, verdict):
                    continue
            if is_bar:
                self._take_bar(cast("Bar", event))
                due_ns = series.due_ns + ahead_ns
                continue
            delivered[channel] += 1  # first: whatever comes, it is in the accounts
            if missing:
                gap = gaps.first_after(event)
                if gap is not None:
                    self._report_gap(gap)
            known[symbol] = event
            if feed is not None:
                takers = feed.get(symbol)
                for take in series.takers(event) if takers is None else takers:
                    take(event)
                due_ns = series.due_ns + ahead_ns
            if routes.stale:
                self._follow_registry(None)
                routes = self._registry.routes
                by_symbol = routes.by_symbol
                symbols = by_symbol.get(channel)
                feed = series.feeds.get(channel)
            if symbols is not None:
                found = symbols.get(symbol)
                guard.deliver(routes.of(event) if found is None else found, event)
            if queues.active:
                queues.put(event)
            if self._deadline is not None and self._is_late():
                break
        if event is not None:
            self._frame_over(event, lane, due_ns)

    def _take_bar(self, bar: Bar) -> None:
        """Deliver a bar, unless it has to wait; bars are few."""
        self._note_frames_before(bar)
        admitted = self.history.admit(bar)
        if admitted is not None:
            self._desk.measure(bar, self._data_clock.utc_now_ns())
            self.deliver_live(admitted, bar)

    def _frame_over(self, event: MarketEvent, lane: str, due_ns: int) -> None:
        """What is done once a frame: its last event stands for all of them."""
        self._note_frames_before(event)
        self.last_event_ns = event.received_ns
        self._series.newest_ns = max(self._series.newest_ns, event.timestamp_ns)
        if event.received_ns >= due_ns:
            self._deliver_built(event.received_ns)
        if lane in _BARS:
            self._latency.seen()
        else:
            now_ns = self._data_clock.utc_now_ns()
            self._latency.tick(lane, event.timestamp_ns, event.received_ns, now_ns)

    def _note_frames_before(self, event: MarketEvent) -> None:
        """Measure the frames that are delivered together with this event's own, and before it.

        So the clocks' difference is the same whether we had fallen behind or not, and therefore
        when the session is replayed.
        """
        ends = self._ends
        if not ends:
            return
        if event is ends[-1]:
            before = len(ends) - 1
        else:
            times = [end.received_ns for end in ends]
            before = times.index(event.received_ns) if event.received_ns in times else len(ends)
        self._latency.passed(ends[:before])
        del ends[:before]

    def _judge(self, event: MarketEvent, verdict: Verdict) -> bool:
        """Whether an event is delivered in spite of what validation found."""
        if verdict.rejected:
            self.invalid += 1  # first: the listener may exit
            self._screen.judge(event, verdict)
        else:
            self._before(self._screen.judge, event, verdict)
        return not verdict.rejected

    def _before(self, step: Callable[..., object], *arguments: object) -> None:
        """Do what comes before an event is counted; if that is the end, it is undelivered."""
        try:
            step(*arguments)
        except CallbackExitError:
            self.undelivered += 1
            raise

    # --- what does not come the straight way ---

    def _deliver_built(self, now_ns: int) -> None:
        """Deliver the bars that are due, by the exchange's clock as far as it is known."""
        now_ns -= self._latency.ahead_ns
        if self._series.due_ns > now_ns or self._is_late():
            return
        for spec, bar in self._series.advance(now_ns):
            self._desk.built(spec, bar, self._data_clock.utc_now_ns())
            routes = self._registry.routes.series.get(spec)
            self._hand_out(bar, () if routes is None else self.history.wait(bar, routes.of(bar)))
            if self._is_late():  # what is not taken yet is there for the next run
                return

    def deliver_live(self, bar: Bar, received: Bar) -> None:
        """See :class:`~realtime_stream.runtime.history_desk.HistoryOutlet`."""
        if self._is_late():
            self.undelivered += 1
            return
        self.delivered[received.channel] += 1
        gap = self._gaps.first_after(received)
        if gap is not None:
            self._report_gap(gap)
        self._latest[bar.channel][bar.symbol] = bar
        self._desk.of_the_feed(bar)
        self._hand_out_bar(bar)

    def pass_over(self, bar: Bar) -> None:
        """See :class:`~realtime_stream.runtime.history_desk.HistoryOutlet`."""
        gap = self._gaps.first_after(bar)
        if gap is not None:
            self._report_gap(gap)

    def deliver_bar(self, bar: Bar) -> None:
        """See :class:`~realtime_stream.runtime.backfill.Outlet`."""
        if self._is_late():
            return
        known = self._latest[bar.channel]
        newest = known.get(bar.symbol)
        if newest is None or newest.timestamp_ns <= bar.timestamp_ns:
            known[bar.symbol] = bar
        self._desk.of_the_feed(bar)
        self._hand_out_bar(bar)

    def deliver_trade(self, trade: Trade, *, meets_live: bool) -> bool:
        """See :class:`~realtime_stream.runtime.backfill.Outlet`."""
        if self._is_late() or self._screen.knows(trade) or not self._is_true(trade):
            return False
        if meets_live:  # else its id would push out those of trades that come live
            self._screen.remember(trade)
        if "trades" in self._series.feeds:
            for take in self._series.takers(trade):
                take(trade)
        self._hand_out(trade, self._registry.routes.of(trade))
        return True

    def deliver_to(self, registration: Registration, bar: Bar) -> None:
        """See :class:`~realtime_stream.runtime.warm_start.WarmStartOutlet`."""
        if self._is_late():
            return
        self._desk.look_back(bar)
        self._guard.begin(self._clock.monotonic())
        self._guard.deliver((registration,), bar)

    def deliver_held(self, registration: Registration, bar: Bar) -> None:
        """See :class:`~realtime_stream.runtime.warm_start.WarmStartOutlet`."""
        if not self._is_late():
            self._guard.begin(self._clock.monotonic())
            self._guard.deliver((registration,), bar)

    def deliver_due(self) -> None:
        """See :class:`~realtime_stream.runtime.warm_start.WarmStartOutlet`."""
        self._deliver_built(self._data_clock.utc_now_ns())

    def is_over(self) -> bool:
        """See :class:`~realtime_stream.runtime.backfill.Outlet`."""
        return self._is_late()

    def accepts(self, bar: Bar) -> bool:
        """See :class:`~realtime_stream.runtime.backfill.Outlet`."""
        return self._is_true(bar)

    def _is_true(self, event: Bar | Trade) -> bool:
        """Whether validation lets an event from history pass."""
        verdict = self._past.check(event)
        self._past.forget_order(event.symbol)  # pages may come in any order, and repeat each other
        return verdict is None or self._screen.judge(event, verdict)

    def _hand_out(self, event: MarketEvent, registrations: Sequence[Registration]) -> None:
        """Call the callbacks for one event."""
        self._guard.begin(self._clock.monotonic())
        self._guard.deliver(registrations, event)
        if self._queues.active:
            self._queues.put(event)

    def _hand_out_bar(self, bar: Bar) -> None:
        self._follow_registry(None)  # who has come since may have to look back first
        self._hand_out(bar, self.history.wait(bar, self._registry.routes.of(bar)))

    # --- notices ---

    def _answer(self, question: Question) -> None:
        try:
            question.answer = self._guard.ask(question.function, question.name)
            question.answered = True
        finally:
            question.done()

    def _notice(self, item: object) -> None:
        match item:
            case SessionSettled():
                self._settled(item)
            case SessionLost():
                self._lost(item)
            case EventsDropped():
                self._dropped(item)
            case HistoryPart():
                self.history.part(item)
            case HistoryDone():
                for symbol in item.job.request.symbols:
                    self._past.forget(symbol)  # the next answer is of another time
                self.history.done(item)
            case SubscriptionsChanged():
                self._follow_registry(None)
            case _:
                self.tell(item)

    def _settled(self, item: SessionSettled) -> None:
        wanted = self._registry.wanted()
        gap = self._gaps.connection_whole(item.at_ns, item.acknowledged, wanted)
        self._connected = True
        self._follow_registry(None)
        self.tell(item.event)
        if gap is not None:
            self._report_gap(gap)
        routes = self._registry.routes
        # Not by the exchange's clock as it was told before, unless the feed is a delayed one: one
        # that had only fallen behind may not be any more.
        exchange_ns = self._exchange.of(item.at_ns)
        is_delayed = item.at_ns - exchange_ns > _DELAYED_NS
        at_ns = exchange_ns if is_delayed else item.at_ns
        self.history.connection_whole(at_ns, item.acknowledged, routes)

    def _lost(self, item: SessionLost) -> None:
        self._note_lost(item)
        if item.event is not None:
            self.tell(item.event)

    def _note_lost(self, item: SessionLost) -> None:
        self._connected = False
        self._gaps.session_ended(item.at_ns, self._latest, item.acknowledged)
        lost_ns = self._seen_until(self._exchange.of(item.at_ns))
        self.history.session_lost(self._gaps.open, lost_ns, self._latest)

    def _seen_until(self, at_ns: int) -> int:
        """From when on something may be missing, where the last frame came at ``at_ns``.

        A feed that had fallen behind has told less by then than the clock says.
        """
        ticks = (
            event.timestamp_ns
            for channel in ("trades", "quotes")
            for event in self._latest[channel].values()
        )
        bars = (event.timestamp_ns + _MINUTE_NS for event in self._latest["bars"].values())
        seen_ns = max(itertools.chain(ticks, bars), default=at_ns)
        return max(min(seen_ns, at_ns), at_ns - _FARTHEST_BEHIND_NS)

    def _dropped(self, item: EventsDropped) -> None:
        gap = self._note_dropped(item)
        if gap is not None:
            self._report_gap(gap)

    def _note_dropped(self, item: EventsDropped) -> Gap | None:
        self.history.events_dropped(item.losses)
        return self._gaps.bars_dropped(self._data_clock.utc_now_ns(), item.losses)

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

    def report_gap(self, gap: Gap) -> None:
        """Keep a gap that history could not fill, and call the listeners for gaps."""
        self._gaps.keep(gap)
        self._report_gap(gap)

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
