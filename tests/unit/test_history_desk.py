"""Everything that has to do with history, behind one counter; and the bed that its tests share."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from realtime_stream.clock import FakeClock
from realtime_stream.market.calendar import AlwaysOpen
from realtime_stream.market.channels import Subscription
from realtime_stream.market.models import Bar, Trade
from realtime_stream.market.validation import ValidationPolicy, Validator
from realtime_stream.ports import BackfillEvent, Gap, HistoryPage
from realtime_stream.runtime.bar_desk import BarDesk
from realtime_stream.runtime.bar_ends import BarEnds
from realtime_stream.runtime.history_desk import HistoryDesk
from realtime_stream.runtime.history_worker import HistoryDone, HistoryJob, HistoryPart
from realtime_stream.runtime.latency_desk import LatencyDesk
from realtime_stream.runtime.log import EventLog
from realtime_stream.runtime.lookback import LookBack
from realtime_stream.runtime.registry import Registration, Registry
from realtime_stream.runtime.series import BuilderFactory, SeriesBoard
from realtime_stream.runtime.stretch import BackfillSettings, HistoryMemory

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from realtime_stream.errors import StreamingError
    from realtime_stream.runtime.series_spec import SeriesSpec

SECOND = 10**9
MINUTE = 60 * SECOND
START = 1_790_000_100 * SECOND  # 14:15:00 UTC
BARS = Subscription("bars", "AAPL")
TRADES = Subscription("trades", "AAPL")
SETTINGS = BackfillSettings(frozenset({"bars"}), 10.0, 1000, 120.0, 5 * SECOND)


def minute(n: int, close: str = "10", **fields: Any) -> Bar:
    """The bar of minute ``n`` after the start, received half a second after its end."""
    price = Decimal(close)
    values: dict[str, Any] = {
        "symbol": "AAPL",
        "timestamp_ns": START + n * MINUTE,
        "received_ns": START + (n + 1) * MINUTE + SECOND // 2,
        "open": price,
        "high": price,
        "low": price,
        "close": price,
        "volume": Decimal(100),
        "trade_count": 5,
        "vwap": price,
        **fields,
    }
    return Bar(**values)


def past(n: int, close: str = "10", **fields: Any) -> Bar:
    """The same bar, from history."""
    return minute(n, close, source="backfill", **fields)


def trade(seconds: float, number: int = 1, **fields: Any) -> Trade:
    at_ns = START + int(seconds * SECOND)
    values: dict[str, Any] = {
        "symbol": "AAPL",
        "timestamp_ns": at_ns,
        "received_ns": at_ns,
        "price": Decimal(10),
        "size": Decimal(100),
        "exchange": "V",
        "trade_id": number,
        **fields,
    }
    return Trade(**values)


def minutes_of(bars: Iterable[Bar]) -> list[int]:
    """Which minutes after the start these are."""
    return [(bar.timestamp_ns - START) // MINUTE for bar in bars]


class Bed:
    """A history desk among the real parts around it; the test is the worker, and time stands still.

    Attributes:
        seen: Bars of the feed's own timeframe, in the order in which they were delivered.
        built: Bars that were built here.
        jobs: What was asked for.
        reports: What ``on_backfill`` is told.
        gaps: What ``on_gap`` is told.
        over: Whether the run's time is up.
    """

    def __init__(
        self,
        settings: BackfillSettings = SETTINGS,
        *,
        at: float = 0.0,
        history: bool = True,
        lookback: int = 1000,
        series: SeriesBoard | None = None,
        lead: float = 0.0,
    ) -> None:
        self.clock = FakeClock(datetime.fromtimestamp(START // SECOND, UTC))
        self._exchange = FakeClock(datetime.fromtimestamp(START / SECOND - lead, UTC))
        self._pass(at)
        factory = BuilderFactory(calendar=AlwaysOpen(), alignment="utc", grace_ns=2 * SECOND)
        self.series = SeriesBoard(factory) if series is None else series
        self.lookback = LookBack(lookback)
        self.registry = Registry("stocks", (), (), lambda: None, has_history=True)
        self._validator = Validator(ValidationPolicy(), "stocks")
        self._trades_seen: set[object] = set()
        self._ends = BarEnds(AlwaysOpen(), "utc")
        self._bar_desk = BarDesk(
            lookback=self.lookback,
            series=self.series,
            takers=(),
            ends=self._ends,
            latency=LatencyDesk(10.0, EventLog("test"), lambda _: None),
        )
        self.memory = HistoryMemory()
        self.jobs: list[HistoryJob] = []
        self.seen: list[Bar] = []
        self.built: list[Bar] = []
        self.trades: list[Trade] = []
        self.meeting: list[bool] = []
        self.passed_over: list[Bar] = []
        self.rejected: list[Bar] = []
        self.reports: list[BackfillEvent] = []
        self.gaps: list[Gap] = []
        self.taken = 0
        self.over = False
        self.served: frozenset[Subscription] = frozenset({BARS, TRADES})
        self.settings = settings
        self.desk = self.new_desk(history=history)

    def new_desk(self, *, history: bool = True) -> HistoryDesk:
        """The desk of a first run, or of one that follows a restart."""
        return HistoryDesk(
            settings=self.settings,
            ask=self.jobs.append if history else None,
            series=self.series,
            lookback=self.lookback,
            ends=self._ends,
            clock=self.clock,
            data_clock=self.clock,
            exchange=self._exchange,
            outlet=self,
            memory=self.memory,
        )

    def restart(self) -> None:
        self.desk.finish()
        self.desk = self.new_desk()

    # --- what a test does ---

    def want(self, *specs: SeriesSpec) -> None:
        for spec in specs:
            self.registry.add("bars", lambda _: None, ["AAPL"], series=spec)
        self.series.want(self.registry.routes.series)

    def live(self, *bars: Bar) -> None:
        for bar in bars:
            admitted = self.desk.admit(bar)
            if admitted is not None:
                self.deliver_live(admitted, bar)

    def live_trade(self, *trades: Trade) -> None:
        for each in trades:
            self.deliver_trade(each, meets_live=True)

    def lose(self, *keys: Subscription, seen: Iterable[Subscription] | None = None) -> None:
        """The connection is lost now."""
        keys = keys or (BARS,)
        known: dict[str, dict[str, object]] = {}
        for channel, symbol in keys if seen is None else seen:
            known.setdefault(channel, {})[symbol] = None
        self.desk.session_lost(keys, self.clock.utc_now_ns(), known)

    def whole(self) -> None:
        """The connection is whole now."""
        self.desk.connection_whole(self.clock.utc_now_ns(), self.served, self.registry.routes)

    def page(self, job: HistoryJob, *events: Bar | Trade, asked_ns: int | None = None) -> None:
        """A page of an answer that was asked for now, unless it is said when."""
        asked_ns = self.clock.utc_now_ns() if asked_ns is None else asked_ns
        bars = tuple(event for event in events if isinstance(event, Bar))
        trades = tuple(event for event in events if isinstance(event, Trade))
        self.desk.part(HistoryPart(job, HistoryPage(bars, trades), asked_ns, self._note_taken))

    def done(
        self, job: HistoryJob, error: StreamingError | None = None, asked_ns: int | None = None
    ) -> None:
        asked_ns = self.clock.utc_now_ns() if asked_ns is None else asked_ns
        for symbol in job.request.symbols:
            self._validator.forget(symbol)
        self.desk.done(HistoryDone(job, asked_ns, error))

    def answer(self, job: HistoryJob, *events: Bar | Trade) -> None:
        """One page, and the end."""
        self.page(job, *events)
        self.done(job)

    def advance(self, seconds: float) -> None:
        self._pass(seconds)
        if self.clock.monotonic() >= self.desk.deadline:
            self.desk.expire(self.clock.monotonic())
        self.build()

    def _pass(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self._exchange.advance(seconds)

    def build(self) -> None:
        for spec, bar in self.series.advance(self.clock.utc_now_ns()):
            self.built.append(bar)
            self._bar_desk.built(spec, bar, self.clock.utc_now_ns())
            routes = self.registry.routes.series.get(spec)
            self._hand_out(bar, () if routes is None else routes.of(bar))

    def register(
        self,
        history: int | timedelta | None = None,
        *,
        series: SeriesSpec | None = None,
        symbols: tuple[str, ...] = ("AAPL",),
    ) -> list[Bar]:
        """Register a callback; what it is called with comes into the list that is returned."""
        got: list[Bar] = []
        self.registry.add("bars", got.append, symbols, series=series, history=history)
        self.follow()
        return got

    def follow(self) -> None:
        """As dispatch does: build what is wanted now, give look-back to who wants it."""
        routes = self.registry.routes
        self.series.want(routes.series)
        self.series.watch([BARS, TRADES], self.clock.utc_now_ns())
        self.desk.registrations_changed(routes)

    def minutes(self, bars: list[Bar] | None = None) -> list[int]:
        return minutes_of(self.seen if bars is None else bars)

    def _note_taken(self) -> None:
        self.taken += 1

    def _hand_out(self, bar: Bar, registrations: Sequence[Registration]) -> None:
        for registration in self.desk.wait(bar, registrations):
            registration.callback(bar)

    # --- HistoryOutlet ---

    def deliver_live(self, bar: Bar, received: Bar) -> None:
        assert received.timestamp_ns == bar.timestamp_ns
        self.seen.append(bar)
        self._bar_desk.of_the_feed(bar)
        self._hand_out(bar, self.registry.routes.of(bar))

    def pass_over(self, bar: Bar) -> None:
        self.passed_over.append(bar)

    def deliver_bar(self, bar: Bar) -> None:
        self.seen.append(bar)
        self._bar_desk.of_the_feed(bar)
        self._hand_out(bar, self.registry.routes.of(bar))

    def deliver_trade(self, trade: Trade, *, meets_live: bool) -> bool:
        self.meeting.append(meets_live)
        if trade.trade_id in self._trades_seen:
            return False
        self._trades_seen.add(trade.trade_id)
        self.trades.append(trade)
        if "trades" in self.series.feeds:
            for take in self.series.takers(trade):
                take(trade)
        return True

    def deliver_to(self, registration: Registration, bar: Bar) -> None:
        registration.callback(bar)
        self._bar_desk.look_back(bar)

    def deliver_held(self, registration: Registration, bar: Bar) -> None:
        registration.callback(bar)

    def deliver_due(self) -> None:
        self.build()

    def is_over(self) -> bool:
        return self.over

    def accepts(self, bar: Bar) -> bool:
        verdict = self._validator.check(bar)
        self._validator.forget_order(bar.symbol)
        if verdict is None:
            return True
        self.rejected.append(bar)
        return False

    def tell(self, event: object) -> None:
        assert isinstance(event, BackfillEvent)
        self.reports.append(event)

    def report_gap(self, gap: Gap) -> None:
        self.gaps.append(gap)


def lost_and_back(bed: Bed) -> HistoryJob:
    """Minutes 0 and 1 came; 14:17:30 to 14:19:02 there was no connection."""
    bed.advance(150)
    bed.live(minute(0), minute(1))
    bed.lose()
    bed.advance(92)
    bed.whole()
    return bed.jobs[-1]


# --- the desk itself ---


def test_nothing_waits_before_anything_is_missing() -> None:
    bed = Bed()
    bed.live(minute(0))
    assert bed.minutes() == [0]
    assert bed.desk.deadline == math.inf
    assert bed.desk.info().held == 0


def test_live_bars_wait_for_older_ones() -> None:
    bed = Bed()
    job = lost_and_back(bed)
    assert bed.desk.deadline == bed.clock.monotonic() + 10
    bed.live(minute(4))
    assert bed.minutes() == [0, 1]
    bed.answer(job, past(0), past(1), past(2), past(3))
    assert bed.minutes() == [0, 1, 2, 3, 4]
    assert bed.desk.deadline == math.inf


def test_a_running_total_of_the_day_waits_for_nobody() -> None:
    bed = Bed()
    lost_and_back(bed)
    bed.live(minute(0, bar_kind="daily", timeframe="1d"))
    assert bed.seen[-1].bar_kind == "daily"
    assert bed.desk.info().held == 0


def test_only_the_symbol_that_is_filled_waits() -> None:
    bed = Bed()
    lost_and_back(bed)
    bed.live(minute(4, symbol="MSFT"), minute(4))
    assert [bar.symbol for bar in bed.seen[2:]] == ["MSFT"]
    assert bed.desk.info().held == 1


def test_without_a_history_nothing_waits_and_nothing_is_asked() -> None:
    bed = Bed(history=False)
    bed.registry.add("bars", lambda _: None, ["AAPL"], history=5)
    bed.live(minute(0))
    bed.lose()
    bed.advance(60)
    bed.whole()
    bed.live(minute(1))
    assert bed.minutes() == [0, 1]
    assert bed.jobs == []
    bed.desk.expire(bed.clock.monotonic())
    bed.desk.finish()
    assert bed.reports == []


def test_the_end_of_a_run_delivers_what_waits() -> None:
    bed = Bed()
    lost_and_back(bed)
    bed.live(minute(4), minute(5))
    assert bed.minutes() == [0, 1]
    bed.desk.finish()
    assert bed.minutes() == [0, 1, 4, 5]
    assert bed.desk.info().held == 0


def test_answers_go_to_whom_they_belong() -> None:
    bed = Bed(at=30.0)
    got: list[Bar] = []
    bed.registry.add("bars", got.append, ["MSFT"], history=2)
    bed.lose()
    bed.advance(90)
    bed.served = frozenset({BARS, Subscription("bars", "MSFT")})
    bed.whole()
    gap, look_back = bed.jobs
    assert (gap.request.newest, look_back.request.newest) == (None, 2)
    bed.page(look_back, past(0, symbol="MSFT"), past(1, symbol="MSFT"))
    bed.page(gap, past(0), past(1))
    assert bed.minutes() == [0, 1]
    assert got == []
    bed.done(look_back)
    bed.done(gap)
    assert bed.minutes(got) == [0, 1]
    assert bed.taken == 2
    assert [event.symbol for event in bed.reports] == ["MSFT", "AAPL"]


def test_what_was_registered_before_the_connection_is_whole_is_asked_for_then() -> None:
    bed = Bed(at=30.0)
    bed.registry.add("bars", lambda _: None, ["AAPL"], history=2)
    bed.desk.registrations_changed(bed.registry.routes)
    assert bed.jobs == []
    bed.whole()
    assert len(bed.jobs) == 1
    bed.lose()
    bed.registry.add("bars", lambda _: None, ["MSFT"], history=2)
    bed.desk.registrations_changed(bed.registry.routes)
    assert len(bed.jobs) == 1


def test_what_fills_a_gap_waits_for_the_look_back_of_those_who_want_one() -> None:
    bed = Bed()
    got, other = bed.register(2), bed.register()
    bed.advance(150)
    bed.lose()
    bed.advance(92)
    bed.whole()
    gap, look_back = bed.jobs
    bed.live(minute(4))
    assert bed.desk.info().held == 1
    bed.answer(gap, past(2), past(3))
    assert bed.minutes() == bed.minutes(other) == [2, 3, 4]
    assert got == []
    bed.answer(look_back, past(2), past(3))
    assert bed.minutes(got) == [2, 3, 4]
    assert bed.minutes(other) == [2, 3, 4]


def test_bars_that_wait_for_a_gap_and_are_too_many_are_let_go_whatever_happens_meanwhile() -> None:
    bed = Bed(replace(SETTINGS, hold_bars=2))
    lost_and_back(bed)
    bed.live(minute(4), minute(5), minute(6))
    bed.register(2, symbols=("MSFT",))
    assert bed.desk.deadline <= bed.clock.monotonic()
    bed.desk.expire(bed.clock.monotonic())
    assert bed.minutes() == [0, 1, 4, 5, 6]


def test_a_bar_that_waited_may_be_old_news_when_it_is_let_go() -> None:
    bed = Bed()
    job = lost_and_back(bed)
    bed.live(minute(3), minute(4))
    bed.answer(job, past(2), past(3))
    assert bed.minutes() == [0, 1, 2, 3, 4]
    assert bed.minutes(bed.passed_over) == [3]
    assert bed.desk.info().superseded == 1


def test_too_many_waiting_bars_end_the_wait() -> None:
    """``hold_bars`` may wait; one more ends it."""
    bed = Bed(replace(SETTINGS, hold_bars=2))
    lost_and_back(bed)
    bed.live(minute(4), minute(5))
    assert bed.desk.deadline > bed.clock.monotonic()
    assert bed.desk.info().held == 2
    bed.live(minute(6))
    assert bed.desk.deadline <= bed.clock.monotonic()
    bed.desk.expire(bed.clock.monotonic())
    assert bed.minutes() == [0, 1, 4, 5, 6]
    assert bed.desk.deadline == bed.clock.monotonic() + 120  # when it is given up
