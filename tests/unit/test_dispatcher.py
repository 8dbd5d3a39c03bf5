from __future__ import annotations

import random
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from realtime_stream.clock import FakeClock
from realtime_stream.config import StreamConfig
from realtime_stream.market.calendar import AlwaysOpen
from realtime_stream.market.channels import CHANNELS, Subscription
from realtime_stream.market.models import (
    Bar,
    MarketEvent,
    Quote,
    Trade,
    TradeCancel,
    TradeCorrection,
)
from realtime_stream.market.validation import ValidationPolicy
from realtime_stream.ports import (
    ErrorEvent,
    Gap,
    HistoryPage,
    HistoryRequest,
    RejectedEvent,
)
from realtime_stream.resilience.circuit_breaker import ConnectionCircuitBreaker
from realtime_stream.runtime.data_path import DataPath
from realtime_stream.runtime.guard import CallbackGuard
from realtime_stream.runtime.history_worker import HistoryDone, HistoryJob, HistoryPart
from realtime_stream.runtime.inbox import EventsDropped, Inbox, LostEvents
from realtime_stream.runtime.lag import LagMeter
from realtime_stream.runtime.log import EventLog
from realtime_stream.runtime.notices import SessionLost, SupervisorEnded
from realtime_stream.runtime.queues import EventQueues
from realtime_stream.runtime.registry import Registry
from realtime_stream.runtime.run import Surroundings
from realtime_stream.runtime.series_spec import SeriesSpec
from realtime_stream.runtime.states import StateBoard

if TYPE_CHECKING:
    from realtime_stream.errors import CallbackExitError
    from realtime_stream.ports import HistoryProvider

AAPL = Subscription("trades", "AAPL")
SECOND = 10**9
MINUTE = 60 * SECOND


def trade(number: int) -> Trade:
    one = Decimal(1)
    return Trade(symbol="AAPL", timestamp_ns=number, received_ns=number, price=one, size=one)


def bar(minute: int, price: str) -> Bar:
    figure = Decimal(price)
    return Bar(
        symbol="AAPL",
        timestamp_ns=minute * MINUTE,
        received_ns=(minute + 2) * MINUTE,
        open=figure,
        high=figure,
        low=figure,
        close=figure,
        volume=Decimal(1),
    )


def no_history() -> HistoryProvider:
    raise AssertionError


class Setup:
    """A dispatcher with its surroundings, run on the test's thread."""

    def __init__(self, **settings: Any) -> None:
        self.clock = FakeClock()
        self.inbox = Inbox(1000, self.clock)
        self.registry = Registry("stocks", (), (), lambda: None)
        self.exits: list[CallbackExitError] = []
        log = EventLog("test")
        self.guard = CallbackGuard(
            clock=self.clock,
            slow=1.0,
            log_interval=0,
            dead_letters=1,
            on_error=lambda _: None,
            log=log,
        )
        config = StreamConfig(api_key="k", secret_key="s", **settings)
        around = Surroundings(
            name="test",
            config=config,
            registry=self.registry,
            board=StateBoard(),
            breaker=ConnectionCircuitBreaker(config.breaker, clock=self.clock),
            queues=EventQueues(),
            clock=self.clock,
            data_clock=self.clock,
            calendar=AlwaysOpen(),
            rng=random.Random(1),  # noqa: S311  # jitter, not cryptography
            new_history=no_history if config.backfill else None,
        )
        self.memory = memory = around.new_memory()
        self.gaps = memory.gaps
        path = DataPath(
            around=around,
            memory=memory,
            inbox=self.inbox,
            guard=self.guard,
            lag=LagMeter(1.0),
            log=log,
            takers=(),
            credentials=config.resolve_credentials,
            on_callback_exit=self.exits.append,
        )
        self.dispatcher, self.latency = path.dispatcher, path.latency

    def run(self) -> None:
        self.inbox.put(SupervisorEnded())
        self.dispatcher.run()


def leave(_: object) -> None:
    raise SystemExit


def test_after_an_exit_the_books_are_kept_and_nobody_is_called() -> None:
    setup, told = Setup(), list[Gap]()
    setup.registry.add("trades", leave, ["AAPL"])
    setup.registry.add("gap", told.append, ())
    setup.inbox.put_frame([trade(1), trade(2)], 0)
    setup.inbox.put_frame([trade(3)], 0)
    setup.inbox.put(EventsDropped({Subscription("bars", "AAPL"): LostEvents(1, 2, 3, 4, 2)}))
    setup.inbox.put(SessionLost(5, frozenset({AAPL}), None))
    setup.run()
    assert len(setup.exits) == 1
    assert setup.dispatcher.delivered["trades"] + setup.dispatcher.undelivered == 3
    assert [gap.cause for gap in setup.gaps.gaps()] == ["overflow"]
    assert AAPL in setup.gaps.open
    assert told == []


def test_an_exit_in_the_listener_of_the_lag_alarm_loses_no_event() -> None:
    setup = Setup()
    setup.registry.add("error", leave, ())
    setup.inbox.put_frame([trade(1), trade(2)], 0)
    setup.clock.advance(5)
    setup.run()
    assert sum(setup.dispatcher.delivered.values()) + setup.dispatcher.undelivered == 2
    assert setup.dispatcher.in_hand == 0


def test_an_exit_in_a_gap_listener_loses_no_event() -> None:
    setup = Setup()
    setup.registry.add("gap", leave, ())
    setup.gaps.session_ended(1, {channel: {} for channel in CHANNELS}, [AAPL])
    setup.gaps.connection_whole(2, frozenset(), frozenset({AAPL}))
    setup.inbox.put_frame([trade(1), trade(2)], 0)
    setup.run()
    assert setup.exits
    assert setup.dispatcher.delivered["trades"] + setup.dispatcher.undelivered == 2


def numbered(number: int, at_ns: int = 1) -> Trade:
    return replace(trade(at_ns), trade_id=number, exchange="V")


def test_what_an_exit_cut_off_may_come_again() -> None:
    setup, seen = Setup(), list[MarketEvent]()

    def leave_at_the_second(event: MarketEvent) -> None:
        seen.append(event)
        if len(seen) == 2:
            raise SystemExit

    first, second, third = numbered(1), numbered(2), numbered(3)
    registered = setup.registry.add("trades", leave_at_the_second, ["AAPL"])
    setup.inbox.put_frame([first, second, second, third], 0)
    setup.run()
    assert seen == [first, second]
    assert (setup.dispatcher.delivered["trades"], setup.dispatcher.undelivered) == (2, 2)
    registered.removed = True
    again = [setup.dispatcher.deliver_trade(t, meets_live=True) for t in (first, second, third)]
    assert again == [False, False, True]


def test_each_of_the_trades_of_a_frame_gets_its_own_verdict() -> None:
    setup, seen, rejected = Setup(), list[MarketEvent](), list[RejectedEvent]()
    setup.registry.add("trades", seen.append, ["AAPL"])
    setup.registry.add("rejected", rejected.append, ())
    wrong = replace(numbered(4), price=Decimal(-1))
    quote = Quote(
        symbol="AAPL",
        timestamp_ns=1,
        received_ns=1,
        bid_price=Decimal(1),
        bid_size=Decimal(1),
        ask_price=Decimal(2),
        ask_size=Decimal(1),
    )
    setup.inbox.put_frame([numbered(1), quote, wrong, numbered(1), quote, numbered(2)], 0)
    setup.run()
    assert seen == [numbered(1), numbered(2)]
    assert [(each.event, each.rule) for each in rejected] == [
        (wrong, "not_positive"),
        (numbered(1), "duplicate"),
    ]
    assert setup.dispatcher.invalid == 2
    assert setup.dispatcher.delivered["quotes"] == 2


def test_a_trade_whose_callback_ends_it_all_is_in_its_bar() -> None:
    setup = Setup()
    setup.registry.add("trades", leave, ["AAPL"])
    spec = SeriesSpec("1s", "trades")
    setup.registry.add("bars", leave, ["AAPL"], series=spec)
    setup.inbox.put_frame([trade(1), trade(2)], 0)
    setup.run()
    ((_, built),) = setup.memory.series.advance(60 * SECOND)
    assert built.trade_count == 1


def test_a_correction_in_the_frame_of_its_trade_comes_after_it() -> None:
    setup = Setup()
    spec = SeriesSpec("1s", "trades")
    setup.registry.add("bars", leave, ["AAPL"], series=spec)
    correction = TradeCorrection(
        symbol="AAPL",
        timestamp_ns=1,
        received_ns=1,
        exchange="V",
        original_id=1,
        original_price=Decimal(1),
        original_size=Decimal(1),
        corrected_id=9,
        corrected_price=Decimal(5),
        corrected_size=Decimal(1),
    )
    cancel = TradeCancel(
        symbol="AAPL",
        timestamp_ns=1,
        received_ns=1,
        exchange="V",
        trade_id=2,
        price=Decimal(1),
        size=Decimal(1),
        action="C",
    )
    setup.inbox.put_frame([numbered(1), correction, numbered(2), cancel, numbered(3)], 0)
    setup.dispatcher.deliver_waiting()
    ((_, built),) = setup.memory.series.advance(60 * SECOND)
    assert (built.open, built.high, built.trade_count) == (Decimal(1), Decimal(5), 2)
    assert setup.memory.series.info().corrected == 2


def test_a_slow_look_at_the_lag_is_nobodys_fault() -> None:
    setup = Setup()

    def slow(_: ErrorEvent) -> None:
        setup.clock.advance(3)

    registered = setup.registry.add("error", slow, ())
    quick = setup.registry.add("trades", lambda _: None, ["AAPL"])
    setup.inbox.put_frame([trade(1)], 0)
    setup.clock.advance(5)
    setup.run()
    assert list(setup.guard.slow_calls) == [registered.name]
    assert quick.name not in setup.guard.slow_calls


def test_a_trade_that_history_has_brought_is_not_delivered_live_again() -> None:
    setup, seen = Setup(), list[MarketEvent]()
    setup.registry.add("trades", seen.append, ["AAPL"])
    known = Trade(
        symbol="AAPL",
        timestamp_ns=1,
        received_ns=1,
        price=Decimal(1),
        size=Decimal(1),
        trade_id=7,
        exchange="V",
    )
    setup.clock.advance(10)
    assert setup.dispatcher.deliver_trade(known, meets_live=True)
    assert not setup.dispatcher.deliver_trade(known, meets_live=True)
    setup.inbox.put_frame([known], 0)
    setup.run()
    assert seen == [known]


def test_a_trade_of_history_that_cannot_be_true_is_not_delivered() -> None:
    setup, seen = Setup(), list[MarketEvent]()
    setup.registry.add("trades", seen.append, ["AAPL"])
    assert not setup.dispatcher.deliver_trade(replace(trade(1), price=Decimal(-1)), meets_live=True)
    setup.run()
    assert seen == []


def test_outliers_are_found_among_the_bars_of_an_answer() -> None:
    setup = Setup(validation=ValidationPolicy(outlier="reject", outlier_limit=0.2))
    setup.clock.advance(10**7)
    answer = [bar(n, "10") for n in range(60)]
    assert all(map(setup.dispatcher.accepts, (*answer, answer[3])))  # pages may repeat each other
    assert not setup.dispatcher.accepts(bar(60, "1000"))
    setup.inbox.put(HistoryDone(HistoryJob(HistoryRequest("bars", ("AAPL",), 0, 1)), 0))
    setup.dispatcher.deliver_waiting()
    assert setup.dispatcher.accepts(bar(0, "1000"))  # of another time


def test_after_an_exit_what_was_lost_is_filled_by_the_next_run() -> None:
    setup = Setup(feed="iex", backfill=("trades",))
    setup.registry.add("trades", leave, ["AAPL"])
    setup.inbox.put_frame([trade(1), trade(2)], 0)
    setup.inbox.put(SessionLost(5, frozenset({AAPL}), None))
    setup.run()
    assert setup.exits
    assert list(setup.memory.history.stretches) == [("trades", "AAPL")]
    assert list(setup.memory.series.open_gaps()) == [("trades", "AAPL")]


def test_what_history_brings_when_the_time_is_up_is_left_to_the_next_run() -> None:
    setup, taken = Setup(feed="iex", backfill=("trades",)), list[int]()
    setup.registry.add("trades", leave, ["AAPL"])
    setup.inbox.put(SessionLost(5, frozenset({AAPL}), None))
    setup.dispatcher.deliver_waiting()
    (stretch,) = setup.memory.history.stretches.values()
    stretch.whole(20)
    job = HistoryJob(HistoryRequest("trades", ("AAPL",), 0, 20), begins={stretch: 0})
    setup.clock.advance(60)
    setup.dispatcher.drain_until(setup.clock.monotonic())
    page = HistoryPage(trades=(trade(1),))
    setup.inbox.put(HistoryPart(job, page, 60 * SECOND, lambda: taken.append(1)))
    setup.inbox.put(HistoryDone(job, 60 * SECOND))
    setup.run()
    assert taken == [1]
    assert setup.exits == []
    assert list(setup.memory.history.stretches.values()) == [stretch]
    assert (stretch.fetched, stretch.fetches) == (0, 0)


@pytest.mark.parametrize("seed", range(10))
def test_the_lead_of_our_clock_is_the_same_whether_we_had_fallen_behind_or_not(seed: int) -> None:
    at_once, one_by_one = Setup(), Setup()
    frames = market(random.Random(seed))  # noqa: S311  # lateness, not cryptography
    for begin in range(0, len(frames), 6):
        for frame in frames[begin : begin + 6]:
            at_once.inbox.put_frame(frame, 0)
            one_by_one.inbox.put_frame(frame, 0)
            one_by_one.dispatcher.deliver_waiting()
        at_once.dispatcher.deliver_waiting()
        assert at_once.latency.lead() == one_by_one.latency.lead()
    measured = [each.latency.info()["trades"].count for each in (at_once, one_by_one)]
    assert measured[0] < measured[1] / 3


def market(rng: random.Random) -> list[list[MarketEvent]]:
    """Ten minutes of trades and bars, a frame each, in which our clock is set ahead."""
    start = 1_790_000_040 * SECOND
    events: list[MarketEvent] = []
    for minute in range(10):
        lead = 3 * SECOND if minute >= 3 else 0
        begin = start + minute * MINUTE
        for at_ns in range(begin, begin + MINUTE, SECOND):
            late = rng.randint(10**6, 4 * 10**8)
            events.append(replace(trade(at_ns), received_ns=at_ns + lead + late))
        late = rng.randint(2 * 10**8, 3 * 10**8)
        ended_ns = begin + MINUTE + lead + late
        events.append(replace(bar(0, "1"), timestamp_ns=begin, received_ns=ended_ns))
    return [[event] for event in sorted(events, key=lambda event: event.received_ns)]
