"""Gaps filled from history: what is asked for, what waits meanwhile, and when it is over."""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Final, Literal, Protocol

import msgspec

from realtime_stream.errors import (
    HistoryRefusedError,
    HistoryUnavailableError,
    StreamingError,
)
from realtime_stream.market.channels import ALL_SYMBOLS, Subscription
from realtime_stream.ports import BackfillEvent, BackfillInfo, Gap, GapEntry, HistoryRequest
from realtime_stream.runtime.history_worker import HistoryDone, HistoryJob, HistoryPart
from realtime_stream.runtime.lookback import DELIVERED
from realtime_stream.runtime.news import may_be_news, same
from realtime_stream.runtime.stretch import (
    CLOCKS_DIFFER_NS,
    MINUTE_NS,
    NOT_IN_TIME,
    BackfillSettings,
    HistoryMemory,
    Missing,
    Stretch,
    real_seconds,
    retry_pause,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from realtime_stream.clock import Clock
    from realtime_stream.market.models import Bar, Trade
    from realtime_stream.runtime.holding import HoldingPen
    from realtime_stream.runtime.inbox import LostEvents
    from realtime_stream.runtime.lookback import LookBack
    from realtime_stream.runtime.series import SeriesBoard

__all__ = ["Backfill", "Outlet"]

_Key = tuple[str, str]  # channel and symbol

# How far apart stretches may begin that are asked for together: some are then asked for twice.
_TOGETHER_NS: Final = {"bars": 6 * 60 * MINUTE_NS, "trades": 30 * MINUTE_NS}
# A trade of so long before the end of a gap may come live as well: a feed that has fallen behind
# goes on where it was. No farther back does a later gap reach either.
_MEETING_NS: Final = 960 * 10**9


class Outlet(Protocol):
    """Where events go that did not come the straight way: the dispatcher."""

    def deliver_bar(self, bar: Bar) -> None:
        """Deliver a bar from history."""

    def deliver_trade(self, trade: Trade, *, meets_live: bool) -> bool:
        """Deliver a trade from history, unless it had been delivered; tell whether it was news.

        Args:
            trade: The trade.
            meets_live: Whether it may come live as well, now or later.
        """

    def accepts(self, bar: Bar) -> bool:
        """Whether validation lets a bar from history pass."""

    def tell(self, event: object) -> None:
        """Call the listeners of this kind of event."""

    def report_gap(self, gap: Gap) -> None:
        """Call the listeners for gaps."""

    def is_over(self) -> bool:
        """Whether the run's time is up, so that nothing is delivered any more."""


@dataclass(slots=True)
class _Counts:
    filled: int = 0
    failed: int = 0
    bars: int = 0
    trades: int = 0
    late: int = 0
    superseded: int = 0


class Backfill:
    """Knows every stretch that history is to fill.

    While a stretch of bars is open, live bars of its symbol wait, so that each series comes in
    order: for at most ``hold`` seconds or ``hold_bars`` bars. What history brings later still
    comes, marked late.

    Thread safety: used by the dispatch thread; :meth:`info` by any.

    """

    def __init__(
        self,
        *,
        settings: BackfillSettings,
        ask: Callable[[HistoryJob], None] | None,
        series: SeriesBoard,
        lookback: LookBack,
        pen: HoldingPen,
        clock: Clock,
        data_clock: Clock,
        outlet: Outlet,
        memory: HistoryMemory,
    ) -> None:
        """What the run before has left open is open.

        Args:
            settings: What is filled, and how long is waited.
            ask: Has a job fetched; ``None`` without a history: then gaps only leave their mark.
            series: Keeps bars open that a gap touches.
            lookback: Which bars were delivered.
            pen: Where live bars wait.
            clock: For waits.
            data_clock: The one that says when history was asked.
            outlet: Delivers.
            memory: What is missing, and what outlives a run besides.
        """
        self._settings = settings
        self._ask = ask
        self._channels = settings.channels if ask is not None else frozenset[str]()
        self._series = series
        self._lookback = lookback
        self._pen = pen
        self._clock = clock
        self._data_clock = data_clock
        self._outlet = outlet
        self._memory = memory
        self._stretches = memory.stretches
        self._of_job: dict[HistoryJob, set[Stretch]] = {}
        self._counts = _Counts()
        self._answering: HistoryJob | None = None
        self._answered_ns = 0  # when the answer before that said what it said
        for stretch in self._stretches.values():  # of the run before
            self._lose(stretch)

    def session_lost(self, keys: Iterable[Subscription], at_ns: int, seen: Iterable[_Key]) -> None:
        """A session has ended: from ``at_ns`` on events of these keys may be missing."""
        watched = set(seen)
        for channel, symbol in keys:
            if symbol == ALL_SYMBOLS or channel not in {"bars", "trades", "daily_bars"}:
                continue
            self._series.open_gap(channel, symbol, at_ns)
            if channel not in self._channels:
                continue
            lost = Stretch.lost_at(
                _kind(channel), symbol, at_ns, watched=(channel, symbol) in watched
            )
            stretch = self._stretches.setdefault((channel, symbol), lost)
            stretch.lost_again(lost)
            self._lose(stretch)

    def connection_whole(self, at_ns: int, served: Callable[[_Key], bool]) -> None:
        """The connection is whole again: ask for what was missed of what is served."""
        now, ready = self._clock.monotonic(), []
        for key in self._series.open_gaps():
            if key not in self._stretches:
                # Running totals of a day hold what was missed.
                self._series.close_gap(*key, at_ns, filled=key[0] == "daily_bars")
        for key, stretch in list(self._stretches.items()):
            if not served(key):
                self._end(stretch, filled=False)
                continue
            if stretch.whole_ns is None:
                stretch.whole(at_ns)
                self._set_limits(stretch, now)
                stretch.failures = 0
                ready.append(stretch)
        self._fetch(ready, now)

    def events_dropped(self, losses: Mapping[Subscription, LostEvents]) -> None:
        """The inbox had to give up events: as good as a gap."""
        now, ready = self._clock.monotonic(), set[Stretch]()
        for (dropped, symbol), lost in losses.items():
            channel = "bars" if dropped == "updated_bars" else dropped
            self._series.open_gap(channel, symbol, lost.first_ns)
            end_ns = lost.last_ns + (MINUTE_NS if channel == "bars" else 1)
            stretch = self._stretches.get((channel, symbol))
            if stretch is not None:
                self._forget_job(stretch)
                stretch.holding = True  # again, if it had waited long enough
            elif channel in self._channels:
                stretch = Stretch(
                    _kind(channel), symbol, lost.first_ns, lost.first_ns, whole_ns=end_ns
                )
                self._stretches[channel, symbol] = stretch
            else:
                self._series.close_gap(channel, symbol, end_ns, filled=channel == "daily_bars")
                continue
            stretch.dropped(lost.first_ns, end_ns, lost.received_until_ns)
            self._hold(stretch)
            if stretch.whole_ns is not None:
                self._set_limits(stretch, now)
                ready.add(stretch)
        self._fetch(ready, now)

    def compared(self, bar: Bar) -> Bar | None:
        """A live bar beside what is known of it: ``None`` if it is old news.

        An update of a bar that was lost with the connection comes as the regular bar that it is for
        those who have not seen that.
        """
        if "bars" not in self._channels:
            return bar
        known = self._lookback.find(bar.symbol, "1m", DELIVERED, bar.timestamp_ns)
        if known is None:
            return self._as_first(bar)
        if known.source != "backfill":
            return bar
        if same(known, bar) or not may_be_news(
            bar, known, known.received_ns, self._settings.lag_ns
        ):
            self._counts.superseded += 1
            return None
        # Whoever keeps both, keeps the one that is the newer by its time.
        received_ns = max(bar.received_ns, known.received_ns)
        return msgspec.structs.replace(bar, bar_kind="updated", received_ns=received_ns)

    def part(self, notice: HistoryPart) -> None:
        """A page has come: deliver what is new in it."""
        if notice.job is not self._answering:
            self._answering, self._answered_ns = notice.job, self._memory.answered_ns
        self._memory.answered_ns = self._data_clock.utc_now_ns()
        try:
            for bar in notice.page.bars:
                stretch = self._stretches.get(("bars", bar.symbol))
                if stretch is not None and not self._outlet.is_over():
                    self._take_bar(stretch, bar, notice.asked_ns)
            for trade in notice.page.trades:
                stretch = self._stretches.get(("trades", trade.symbol))
                if stretch is not None and not self._outlet.is_over():
                    self._take_trade(stretch, trade)
        finally:
            notice.taken()

    def done(self, notice: HistoryDone) -> None:
        """A fetch has ended: its stretches are complete, or are asked for again."""
        now, again = self._clock.monotonic(), []
        self._answering = None
        waiting = self._of_job.pop(notice.job, set())
        self._note_progress(notice)
        for stretch in sorted(waiting, key=_symbol):
            stretch.job = None
            if notice.error is not None:
                stretch.failures += 1
                stretch.problem = str(notice.error)
                if self._is_final(notice.error, stretch, now):
                    self._give_up(stretch, str(notice.error))
                else:
                    again.append(stretch)
            elif self._missing(stretch).is_there(
                stretch.newest_ns, notice.asked_ns, self._settings.lag_ns
            ):
                self._complete(stretch)
            elif now >= stretch.give_up_at:
                self._give_up(stretch, NOT_IN_TIME)
            else:
                stretch.failures, stretch.problem = 0, ""
                again.append(stretch)
        if again:
            self._fetch(again, now + min(self._pause(stretch, notice) for stretch in again))

    def _note_progress(self, notice: HistoryDone) -> None:
        """What an answer has brought need not be asked for again, though more is missing."""
        known_ns = min(notice.job.request.end_ns, notice.asked_ns - self._settings.lag_ns)
        for stretch, begins_ns in notice.job.begins.items():
            if self._stretches.get((stretch.channel, stretch.symbol)) is not stretch:
                continue
            stretch.fetches += 1
            if notice.error is None and stretch.ask_from_ns >= begins_ns:  # not moved back since
                stretch.has_until(known_ns)

    @property
    def deadline(self) -> float:
        """When :meth:`expire` has something to do, monotonic seconds."""
        return min(
            (
                min(each.give_up_at, each.held_until if each.holding else math.inf)
                for each in self._stretches.values()
            ),
            default=math.inf,
        )

    def expire(self, now: float) -> None:
        """Let go what has held up others long enough, and give up what takes too long."""
        for stretch in list(self._stretches.values()):
            if stretch.holding and self._pen.is_overdue(stretch, now):
                if stretch.whole_ns is None:
                    self._let_through(stretch)
                else:
                    self._stop_holding(stretch)
            if stretch.give_up_at <= now:
                self._give_up(stretch, stretch.problem or NOT_IN_TIME)

    def finish(self) -> None:
        """The run ends: deliver what waits. What is open stays so, for the next run to fill."""
        for stretch in list(self._stretches.values()):
            if stretch.holding:
                self._let_go(stretch)

    def info(self) -> BackfillInfo:
        """Counters."""
        counts = self._counts
        return BackfillInfo(
            pending=len(self._stretches),
            filled=counts.filled,
            failed=counts.failed,
            bars=counts.bars,
            trades=counts.trades,
            late=counts.late,
            held=self._pen.waiting,
            superseded=counts.superseded,
        )

    # --- fetching ---

    def _fetch(self, stretches: Iterable[Stretch], not_before: float) -> None:
        """One job for all stretches of a channel that begin at about the same time."""
        # Those first that have had the fewest answers, so that nobody waits for ever while a
        # connection comes and goes.
        for group in sorted(_groups(stretches), key=lambda group: min(s.fetches for s in group)):
            request = HistoryRequest(
                group[0].channel,
                tuple(each.symbol for each in group),
                group[0].ask_from_ns,
                max(map(self._end_of, group)),
            )
            begins = {stretch: stretch.ask_from_ns for stretch in group}
            job = HistoryJob(request, not_before, begins=begins)
            self._of_job[job] = set(group)
            for stretch in group:
                stretch.job = job
            if self._ask is not None:
                self._ask(job)

    def _end_of(self, stretch: Stretch) -> int:
        if stretch.channel == "bars":
            return stretch.needed_until_ns
        return stretch.needed_until_ns + CLOCKS_DIFFER_NS

    def _pause(self, stretch: Stretch, notice: HistoryDone) -> float:
        """Seconds until the next attempt."""
        now_ns = self._data_clock.utc_now_ns()
        error = notice.error
        if isinstance(error, HistoryUnavailableError):  # by the server's clock
            return max(real_seconds(self._data_clock, error.available_ns - now_ns), 1.0)
        if error is not None:
            return retry_pause(stretch.failures)
        missing = self._missing(stretch)
        until_ns = missing.sent_ns + self._settings.lag_ns - now_ns
        pause = real_seconds(self._data_clock, until_ns)
        if missing.last_ns is not None and not missing.shows(stretch.newest_ns):
            pause = min(pause, 1.0)
        time_left = stretch.give_up_at - self._clock.monotonic()
        return max(min(pause, time_left / 2), 0.05)  # what comes late is worth having too

    def _is_final(self, error: StreamingError, stretch: Stretch, now: float) -> bool:
        if isinstance(error, HistoryRefusedError) or now >= stretch.give_up_at:
            return True
        if isinstance(error, HistoryUnavailableError):
            wait = real_seconds(
                self._data_clock, error.available_ns - self._data_clock.utc_now_ns()
            )
            return now + wait > stretch.give_up_at
        return False

    def _forget_job(self, stretch: Stretch) -> None:
        """The stretch needs another answer; a job that nobody waits for is not worth fetching."""
        job, stretch.job = stretch.job, None
        if job is None:
            return
        waiting = self._of_job.get(job)
        if waiting is not None:
            waiting.discard(stretch)
            if not waiting:
                job.cancelled.set()
                del self._of_job[job]

    # --- merging ---

    def _missing(self, stretch: Stretch) -> Missing:
        first_live_ns = None  # since the connection is whole, if it waits
        if stretch.whole_ns is not None:
            since_ns = max(stretch.whole_ns, stretch.sent_ns)
            first_live_ns = self._pen.oldest(stretch.symbol, since_ns)
        return stretch.missing(first_live_ns)

    def _take_bar(self, stretch: Stretch, bar: Bar, asked_ns: int) -> None:
        if bar.timestamp_ns < stretch.start_ns:
            return  # for another symbol of the same job
        if bar.timestamp_ns + MINUTE_NS > asked_ns + CLOCKS_DIFFER_NS:
            return  # its minute was not over
        stretch.fetched += 1
        stretch.newest_ns = max(stretch.newest_ns, bar.timestamp_ns)
        known = self._lookback.find(bar.symbol, "1m", DELIVERED, bar.timestamp_ns)
        if known is None and bar.timestamp_ns in stretch.known:  # so long ago that it is forgotten
            return
        if known is not None and (same(known, bar) or self._is_behind(known, bar, asked_ns)):
            return
        if not self._outlet.accepts(bar) or self._outlet.is_over():
            return
        is_late = known is None and self._is_late(bar)
        self._counts.late += is_late
        stretch.known.add(bar.timestamp_ns)
        stretch.delivered += 1
        self._counts.bars += 1
        self._outlet.deliver_bar(
            msgspec.structs.replace(
                bar,
                received_ns=asked_ns,
                bar_kind=bar.bar_kind if known is None else "updated",
                is_late=is_late,
            )
        )

    def _is_behind(self, known: Bar, past: Bar, asked_ns: int) -> bool:
        """Whether what is known of a minute is to be kept against what history says now."""
        if known.source == "stream":
            return may_be_news(known, past, asked_ns, self._settings.lag_ns)
        # What history knows may be older than what it has said before.
        heard_ns = asked_ns - self._settings.lag_ns
        return known.volume > past.volume and heard_ns < self._answered_ns

    def _is_late(self, bar: Bar) -> bool:
        newest = self._lookback.newest(bar.symbol, "1m", DELIVERED)
        return newest is not None and newest.timestamp_ns > bar.timestamp_ns

    def _take_trade(self, stretch: Stretch, trade: Trade) -> None:
        if trade.timestamp_ns < stretch.start_ns:
            return
        stretch.fetched += 1
        name = (trade.exchange, trade.trade_id, trade.timestamp_ns)
        if trade.trade_id is not None and name in stretch.known:
            return
        stretch.known.add(name)
        # Near the end of the gap, trades come live as well.
        whole_ns = trade.timestamp_ns if stretch.whole_ns is None else stretch.whole_ns
        meets_live = trade.timestamp_ns >= whole_ns - _MEETING_NS
        if self._outlet.deliver_trade(trade, meets_live=meets_live):
            stretch.delivered += 1
            self._counts.trades += 1

    def _as_first(self, bar: Bar) -> Bar:
        if bar.bar_kind != "updated" or not self._lookback.begins_before(bar, DELIVERED):
            return bar
        return msgspec.structs.replace(bar, bar_kind="regular", is_late=self._is_late(bar))

    # --- ends ---

    def _complete(self, stretch: Stretch) -> None:
        if self._end(stretch, filled=True):
            self._counts.filled += 1
            self._tell(stretch, complete=True)

    def _give_up(self, stretch: Stretch, reason: str) -> None:
        if not self._end(stretch, filled=False):
            return
        self._counts.failed += 1
        self._tell(stretch, complete=False, reason=reason)
        entry = GapEntry(stretch.channel, stretch.symbol, None)
        self._outlet.report_gap(Gap("history", stretch.lost_ns, stretch.end_ns, (entry,)))

    def _end(self, stretch: Stretch, *, filled: bool) -> bool:
        """Let go what waits, and be done; not if that took what was left of the run's time."""
        key = (stretch.channel, stretch.symbol)
        was_held = stretch.holding
        if was_held:
            self._let_go(stretch)
        if self._outlet.is_over():
            return False
        self._stretches.pop(key, None)
        self._forget_job(stretch)
        if was_held:
            self._series.close_gap(*key, stretch.end_ns, filled=filled)
        if filled:  # also what was given up while it was open before
            self._series.gap_filled(*key, stretch.lost_ns, stretch.end_ns)
        return True

    def _stop_holding(self, stretch: Stretch) -> None:
        """Nothing waits for this stretch any more; what history brings still comes."""
        self._let_go(stretch)
        self._series.close_gap(stretch.channel, stretch.symbol, stretch.end_ns, filled=False)

    def _lose(self, stretch: Stretch) -> None:
        """There is no connection: nothing is asked for before there is one again."""
        self._series.open_gap(stretch.channel, stretch.symbol, stretch.lost_ns)
        stretch.whole_ns = None
        self._forget_job(stretch)
        stretch.holding, stretch.give_up_at = True, math.inf
        if not self._has_waiting(stretch):
            stretch.held_until = math.inf
        self._hold(stretch)

    def _set_limits(self, stretch: Stretch, now: float) -> None:
        """The time for filling begins; that of bars that wait already has begun before."""
        before = stretch.held_until if self._has_waiting(stretch) else math.inf
        stretch.held_until = min(before, now + self._settings.hold)
        stretch.give_up_at = now + self._settings.deadline

    def _has_waiting(self, stretch: Stretch) -> bool:
        return stretch.channel == "bars" and self._pen.waits(stretch.symbol)

    def _let_through(self, stretch: Stretch) -> None:
        """There is still no connection: what has waited long enough comes, what is next waits."""
        self._let_go(stretch)
        stretch.holding, stretch.held_until = True, math.inf
        self._hold(stretch)

    def _hold(self, stretch: Stretch) -> None:
        if stretch.channel == "bars":
            self._pen.hold(stretch)

    def _let_go(self, stretch: Stretch) -> None:
        stretch.holding = False
        if stretch.channel == "bars":
            self._pen.let_go(stretch)

    def _tell(self, stretch: Stretch, *, complete: bool, reason: str = "") -> None:
        self._outlet.tell(
            BackfillEvent(
                stretch.channel,
                stretch.symbol,
                stretch.start_ns,
                self._end_of(stretch),
                stretch.fetched,
                stretch.delivered,
                complete,
                reason,
            )
        )


def _groups(stretches: Iterable[Stretch]) -> list[list[Stretch]]:
    """Stretches of one channel that begin within a while, the earliest first."""
    groups: list[list[Stretch]] = []
    for stretch in sorted(stretches, key=attrgetter("channel", "ask_from_ns", "symbol")):
        first = groups[-1][0] if groups else None
        if (
            first is None
            or first.channel != stretch.channel
            or stretch.ask_from_ns > first.ask_from_ns + _TOGETHER_NS[stretch.channel]
        ):
            groups.append([])
        groups[-1].append(stretch)
    return groups


def _kind(channel: str) -> Literal["bars", "trades"]:
    return "bars" if channel == "bars" else "trades"


def _symbol(stretch: Stretch) -> str:
    return stretch.symbol
