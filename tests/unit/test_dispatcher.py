from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from realtime_stream.clock import FakeClock
from realtime_stream.market.channels import CHANNELS, Subscription
from realtime_stream.market.models import MarketEvent, Trade
from realtime_stream.ports import ErrorEvent, Gap
from realtime_stream.runtime.dispatcher import Dispatcher
from realtime_stream.runtime.gaps import GapTracker
from realtime_stream.runtime.guard import CallbackGuard
from realtime_stream.runtime.inbox import BarsDropped, Inbox, LostBars
from realtime_stream.runtime.lag import LagMeter
from realtime_stream.runtime.log import EventLog
from realtime_stream.runtime.notices import SessionLost, SupervisorEnded
from realtime_stream.runtime.queues import EventQueues
from realtime_stream.runtime.registry import Registry

if TYPE_CHECKING:
    from realtime_stream.errors import CallbackExitError

AAPL = Subscription("trades", "AAPL")


def trade(number: int) -> MarketEvent:
    one = Decimal(1)
    return Trade(symbol="AAPL", timestamp_ns=number, received_ns=number, price=one, size=one)


class Setup:
    """A dispatcher with its surroundings, run on the test's thread."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.inbox = Inbox(1000, self.clock)
        self.registry = Registry("stocks", (), (), lambda: None)
        self.gaps = GapTracker()
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
        self.dispatcher = Dispatcher(
            inbox=self.inbox,
            registry=self.registry,
            guard=self.guard,
            gaps=self.gaps,
            queues=EventQueues(),
            lag=LagMeter(1.0),
            clock=self.clock,
            data_clock=self.clock,
            log=log,
            latest={channel: {} for channel in CHANNELS},
            on_callback_exit=self.exits.append,
        )

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
    setup.inbox.put(BarsDropped({Subscription("bars", "AAPL"): LostBars(1, 2, 3, 2)}))
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
