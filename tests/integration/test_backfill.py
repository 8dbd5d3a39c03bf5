"""Gaps that are filled from history, through the manager and over real sockets."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream import (
    BackfillEvent,
    Bar,
    ErrorEvent,
    Gap,
    HistoryPage,
    LifecycleState,
    Trade,
)
from realtime_stream.errors import HistoryError
from tests.integration.test_timeframes import OPEN_NS, World, minutes
from tests.support import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from realtime_stream import Credentials, HistoryRequest, Status
    from realtime_stream.simulator import AlpacaSimulator
    from tests.integration.conftest import NewManager


class FilledWorld(World):
    """A world with a history, and a bot that listens to everything about it."""

    def __init__(
        self,
        simulator: AlpacaSimulator,
        new_manager: NewManager,
        *,
        backfill: tuple[str, ...] = ("bars",),
        **settings: Any,
    ) -> None:
        super().__init__(simulator, new_manager, backfill=backfill, **settings)
        self.bars_seen, self.updates = Recorder[Bar](), Recorder[Bar]()
        self.reports, self.gaps = Recorder[BackfillEvent](), Recorder[Gap]()
        self.lost, self.found = Recorder[object](), Recorder[object]()
        manager = self.manager
        manager.on_bar(self.bars_seen, "AAPL")
        manager.on_updated_bar(self.updates, "AAPL")
        manager.on_backfill(self.reports)
        manager.on_gap(self.gaps)
        manager.on_disconnect(self.lost)
        manager.on_connect(self.found)

    def begin(self) -> None:
        """Minutes 0 and 1 come; it is 14:32:30."""
        self.manager.start()
        self.go(60.5)
        self.bars(0)
        self.go(120.5)
        self.bars(1)
        self.go(150)

    def lose(self) -> None:
        count = len(self.lost.items)
        self.simulator.faults.refuse_connections()
        self.simulator.drop(1006)
        self.lost.wait_for(count + 1)

    def back(self) -> None:
        count = len(self.found.items)
        self.simulator.faults.refuse_connections(False)
        self.found.wait_for(count + 1)
        self.pulse()

    def miss(self) -> None:
        """From 14:32:30 to 14:34:02 there is no connection: minutes 2 and 3 are missed."""
        self.lose()
        self.clock.advance(92)
        self.unheard(2, 3)
        self.back()

    def asked(self, count: int = 1) -> None:
        """Wait until history has been asked so often."""
        assert self.simulator.wait_for(lambda each: len(each.rest_requests) >= count, 10.0)

    def status(self) -> Status:
        """The status; its accounts add up."""
        self.pulse()
        status = self.manager.status()
        check_accounts(status)
        return status

    @property
    def seen(self) -> list[int]:
        return minutes(self.bars_seen.items)


def check_accounts(status: Status) -> None:
    parts = (
        sum(status.delivered.values()),
        status.invalid,
        sum(status.dropped.values()),
        status.undelivered,
        status.in_inbox,
        status.backfill.held,
        status.backfill.superseded,
    )
    assert status.received == sum(parts), (status.received, parts)


@pytest.fixture
def world(simulator: AlpacaSimulator, new_manager: NewManager) -> FilledWorld:
    return FilledWorld(simulator, new_manager)


def history_gaps(world: FilledWorld) -> list[Gap]:
    return [gap for gap in world.gaps.items if gap.cause == "history"]


def test_missed_bars_come_once_in_order_before_the_next_live_one(world: FilledWorld) -> None:
    world.begin()
    world.miss()
    world.reports.wait_for()
    world.go(300.5)
    world.bars(4)
    assert world.seen == [0, 1, 2, 3, 4]
    assert [each.source for each in world.bars_seen.items] == [
        *["stream"] * 2,
        *["backfill"] * 2,
        "stream",
    ]
    (report,) = world.reports.items
    assert (report.symbol, report.delivered, report.complete) == ("AAPL", 2, True)
    assert [gap.cause for gap in world.gaps.items] == ["reconnect"]
    assert world.updates.items == []
    info = world.status().backfill
    assert (info.filled, info.failed, info.bars, info.pending) == (1, 0, 2, 0)
    assert minutes(world.manager.recent_bars("AAPL", 9)) == [0, 1, 2, 3, 4]
    latest = world.manager.latest_bar("AAPL")
    assert latest is not None
    assert minutes([latest]) == [4]


def test_live_bars_wait_until_history_answers(world: FilledWorld) -> None:
    world.begin()
    world.simulator.faults.rest_delay(60)
    world.miss()
    world.asked()
    world.go(300.5)
    world.bars(4)
    world.go(360.5)
    world.bars(5)
    assert world.seen == [0, 1]
    assert world.status().backfill.held == 2
    world.simulator.faults.rest_delay(0)
    world.bars_seen.wait_for(6)
    assert world.seen == [0, 1, 2, 3, 4, 5]
    assert not any(each.is_late for each in world.bars_seen.items)
    assert world.status().backfill.held == 0


def test_a_live_bar_that_waited_and_history_has_too_comes_once(world: FilledWorld) -> None:
    world.begin()
    world.simulator.faults.rest_delay(60)
    world.lose()
    world.clock.advance(90.2)
    world.back()  # 14:34:00.2
    world.asked()
    world.unheard(2)
    world.bars(3)
    world.simulator.faults.rest_delay(0)
    world.reports.wait_for()
    assert world.seen == [0, 1, 2, 3]
    assert world.updates.items == []
    world.status()


def test_quotes_and_trades_never_wait(world: FilledWorld) -> None:
    trades = Recorder[Trade]()
    world.manager.on_trade(trades, "AAPL")
    world.begin()
    world.simulator.faults.rest_delay(60)
    world.miss()
    world.trade(100.0)
    trades.wait_for()
    assert world.status().backfill.pending == 1


def test_a_hold_that_is_over_lets_live_bars_go_and_history_comes_late(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    world = FilledWorld(simulator, new_manager, backfill_hold=0.2)
    world.begin()
    simulator.faults.rest_delay(60)
    world.miss()
    world.asked()
    world.go(300.5)
    world.bars(4)
    world.bars_seen.wait_for(3)
    assert world.seen == [0, 1, 4]
    simulator.faults.rest_delay(0)
    world.reports.wait_for()
    assert world.seen == [0, 1, 4, 2, 3]
    assert [each.is_late for each in world.bars_seen.items] == [False] * 3 + [True] * 2
    assert world.status().backfill.late == 2
    assert minutes(world.manager.recent_bars("AAPL", 9)) == [0, 1, 2, 3, 4]
    latest = world.manager.latest_bar("AAPL")
    assert latest is not None
    assert minutes([latest]) == [4]


def test_too_many_bars_that_wait_are_let_go(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    world = FilledWorld(simulator, new_manager, backfill_hold=600, backfill_hold_bars=3)
    world.begin()
    simulator.faults.rest_delay(60)
    world.miss()
    world.asked()
    world.go(600.5)
    world.bars(4, 5, 6)
    assert world.seen == [0, 1]
    world.bars(7)
    world.bars_seen.wait_for(6)
    assert world.seen == [0, 1, 4, 5, 6, 7]
    simulator.faults.rest_delay(0)
    world.reports.wait_for()


def test_history_that_is_refused_is_reported_as_an_open_gap(world: FilledWorld) -> None:
    world.begin()
    world.simulator.faults.rest_error(403, None)
    world.miss()
    (report,) = world.reports.wait_for()
    assert not report.complete
    assert report.reason
    world.gaps.wait_for(2)
    (gap,) = history_gaps(world)
    assert [(entry.channel, entry.symbol) for entry in gap.entries] == [("bars", "AAPL")]
    assert gap in world.manager.gaps()
    world.go(300.5)
    world.bars(4)
    assert world.seen == [0, 1, 4]
    assert world.status().backfill.failed == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda faults: faults.rest_error(429, 2, retry_after=0.05),
        lambda faults: faults.rest_error(500, 2),
        lambda faults: faults.rest_garbage("text", 1),
        lambda faults: faults.rest_garbage("cut", 1),
        lambda faults: faults.rest_drop(1),
    ],
    ids=["429", "500", "a page for people", "half an answer", "cut off"],
)
def test_a_history_that_fails_now_and_then_fills_the_gap_all_the_same(
    world: FilledWorld, spoil: Callable[[Any], None]
) -> None:
    world.begin()
    spoil(world.simulator.faults)
    world.miss()
    (report,) = world.reports.wait_for(timeout=30)
    assert report.complete
    assert world.seen == [0, 1, 2, 3]
    assert history_gaps(world) == []


def test_history_that_has_a_bar_only_later_is_asked_again(world: FilledWorld) -> None:
    world.begin()
    world.simulator.faults.history_lag(30)
    world.lose()
    world.clock.advance(92)
    world.unheard(2, 3)
    world.back()
    world.asked(2)
    assert world.seen[:2] == [0, 1]
    assert world.reports.items == []
    world.simulator.faults.history_lag(0)
    (report,) = world.reports.wait_for()
    assert (report.complete, report.delivered) == (True, 2)
    assert world.seen == [0, 1, 2, 3]


def test_an_update_that_was_missed_comes_from_history(world: FilledWorld) -> None:
    world.begin()
    world.lose()
    world.unheard(1, close=105.0, T="u", n=6)
    world.clock.advance(92)
    world.unheard(2, 3)
    world.back()
    world.reports.wait_for()
    (update,) = world.updates.items
    assert [update.close, update.source, minutes([update])] == [105, "backfill", [1]]
    assert world.seen == [0, 1, 2, 3]


def test_larger_bars_wait_for_the_gap_and_are_whole(world: FilledWorld) -> None:
    fives = Recorder[Bar]()
    world.manager.on_bar(fives, "AAPL", timeframe="5m")
    world.begin()
    world.simulator.faults.rest_delay(60)
    world.miss()
    world.asked()
    world.go(300.5)
    world.bars(4)
    world.go(305)
    assert fives.items == []
    world.simulator.faults.rest_delay(0)
    (found,) = fives.wait_for()
    assert [found.volume, found.is_partial] == [500, False]


def test_bars_of_trades_are_whole_when_trades_are_filled(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    world = FilledWorld(simulator, new_manager, backfill=("bars", "trades"))
    trades, built = Recorder[Trade](), Recorder[Bar]()
    world.manager.on_trade(trades, "AAPL")
    world.manager.on_bar(built, "AAPL", timeframe="30s")
    world.manager.start()
    world.trade(100.0)
    world.go(5)
    world.lose()
    world.clock.advance(10)
    world.simulator.publish(
        {
            "T": "t",
            "S": "AAPL",
            "i": 900,
            "x": "V",
            "p": 110.0,
            "s": 7,
            "c": ["@"],
            "z": "C",
            "t": OPEN_NS + 8 * 10**9,
        },
    )
    world.back()
    world.go(20)
    world.trade(101.0)
    world.go(33)
    (bar,) = built.wait_for()
    assert [bar.high, bar.volume, bar.is_partial] == [110, 207, False]
    assert [each.source for each in trades.items].count("backfill") == 1
    assert sorted(each.price for each in trades.items) == [100, 101, 110]
    assert world.status().backfill.trades == 1


def test_a_second_loss_while_history_is_asked_makes_one_longer_gap(world: FilledWorld) -> None:
    world.begin()
    world.simulator.faults.rest_delay(60)
    world.miss()
    world.asked()
    world.lose()
    world.clock.advance(120)
    world.unheard(4, 5)
    world.simulator.faults.rest_delay(0)
    world.back()
    world.reports.wait_for()
    assert world.seen == [0, 1, 2, 3, 4, 5]
    assert [each.complete for each in world.reports.items] == [True]


def test_a_restart_while_a_gap_is_filled_fills_it_afterwards(world: FilledWorld) -> None:
    world.begin()
    world.simulator.faults.rest_delay(60)
    world.miss()
    world.asked()
    world.manager.restart()
    world.simulator.faults.rest_delay(0)
    world.reports.wait_until(lambda items: any(each.complete for each in items))
    world.go(300.5)
    world.bars(4)
    assert world.seen == [0, 1, 2, 3, 4]
    check_accounts(world.manager.status())


def test_a_stop_is_prompt_while_history_is_silent(world: FilledWorld) -> None:
    world.begin()
    world.simulator.faults.rest_silent()
    world.miss()
    world.asked()
    world.go(300.5)
    world.bars(4)
    began = time.monotonic()
    world.manager.stop(timeout=3)
    assert time.monotonic() - began < 3
    status = world.manager.status()
    assert status.lifecycle is LifecycleState.STOPPED
    assert status.threads == ()
    assert world.seen == [0, 1, 4]
    check_accounts(status)


def test_bars_that_the_inbox_dropped_come_from_history(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    world = FilledWorld(simulator, new_manager, inbox_capacity=20)
    entered, go_on = threading.Event(), threading.Event()

    def block(_: Bar) -> None:
        entered.set()
        assert go_on.wait(20)

    world.manager.start()
    handle = world.manager.on_bar(block, "AAPL")
    world.go(3000.0)
    world.unheard(0)
    assert entered.wait(10)
    world.unheard(*range(1, 41))
    assert world.simulator.wait_for(lambda each: len(each.ledger) >= 42)
    deadline = time.monotonic() + 10
    while not world.manager.status().dropped:
        assert time.monotonic() < deadline
        go_on.wait(0.005)
    handle.remove()
    go_on.set()
    world.reports.wait_for()
    world.bars_seen.wait_for(41)
    assert world.seen == list(range(41))
    assert [gap.cause for gap in world.gaps.items] == ["overflow"]
    assert world.status().dropped["bars", "overflow"] > 0


def test_what_the_gap_is_not_about_is_not_asked_for(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    """Quotes and trades are not asked for; one request has all symbols."""
    world = FilledWorld(simulator, new_manager)
    world.manager.on_bar(lambda _: None, "MSFT", "SPY")
    world.manager.on_trade(lambda _: None, "AAPL")
    world.begin()
    world.miss()
    world.go(250)  # by now history would have bars of the others, if there were any
    world.reports.wait_for(3)
    assert {each.symbol for each in world.reports.items} == {"AAPL", "MSFT", "SPY"}
    assert not [each for each in simulator.rest_requests if "/trades" in each]
    assert any("MSFT" in each and "SPY" in each for each in simulator.rest_requests)


# --- a history of the user's own ---


class OwnHistory:
    """Does what the test wants."""

    def __init__(self, behave: Callable[[], Iterator[HistoryPage]]) -> None:
        self._behave = behave

    def fetch(self, request: HistoryRequest, credentials: Credentials) -> Iterator[HistoryPage]:
        assert credentials.key.get_secret_value()
        assert request.channel == "bars"
        return self._behave()

    def close(self) -> None:
        """Nothing is open."""


def fails() -> Iterator[HistoryPage]:
    yield HistoryPage()
    raise HistoryError


def fails_at_once() -> Iterator[HistoryPage]:
    raise ZeroDivisionError


def gives_no_page() -> Iterator[Any]:
    yield {"bars": []}


def forgets() -> Any:
    return None


@pytest.mark.parametrize("behave", [fails, fails_at_once, gives_no_page, forgets])
def test_a_history_that_never_works_leaves_an_open_gap_and_the_stream_alone(
    simulator: AlpacaSimulator, new_manager: NewManager, behave: Callable[[], Any]
) -> None:
    world = FilledWorld(
        simulator,
        new_manager,
        backfill_deadline=0.3,
        backfill_hold=0.2,
        manager={"history": lambda: OwnHistory(behave)},
    )
    world.begin()
    world.miss()
    (report,) = world.reports.wait_for()
    assert not report.complete
    world.gaps.wait_for(2)
    assert len(history_gaps(world)) == 1
    world.go(300.5)
    world.bars(4)
    assert world.seen == [0, 1, 4]
    world.status()


def test_a_history_that_cannot_be_closed_disturbs_no_stop(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    class Stuck(OwnHistory):
        def close(self) -> None:
            raise OSError("busy")

    world = FilledWorld(
        simulator,
        new_manager,
        backfill_deadline=0.3,
        manager={"history": lambda: Stuck(lambda: iter(()))},
    )
    world.begin()
    world.miss()
    world.manager.stop()
    assert world.manager.status().lifecycle is LifecycleState.STOPPED
    assert world.manager.status().threads == ()


def test_a_history_that_has_what_nobody_could_believe(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    """The same rules as for live data: the bar is kept from everybody, and reported."""
    rejected, errors = Recorder[Any](), Recorder[ErrorEvent]()
    world = FilledWorld(simulator, new_manager)
    world.manager.on_rejected(rejected)
    world.manager.on_error(errors)
    world.begin()
    world.lose()
    world.clock.advance(92)
    world.unheard(2, l=500.0)
    world.unheard(3)
    world.back()
    world.reports.wait_for()
    assert world.seen == [0, 1, 3]
    assert [each.rule for each in rejected.items] == ["inconsistent"]
    assert world.status().invalid == 0  # it was never received from the stream
    assert [each for each in errors.items if each.source == "callback"] == []
