"""Look-back that comes before the first live bar, through the manager and over real sockets."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream import BackfillEvent, Bar, ConfigurationError, LifecycleState
from tests.integration.test_backfill import check_accounts
from tests.integration.test_timeframes import World, minutes, wire_bar
from tests.support import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtime_stream.simulator import AlpacaSimulator
    from tests.integration.conftest import NewManager

NOON = 90 * 60.0  # 16:00 UTC, seconds after the opening of the tests' world


class WarmWorld(World):
    """A world with a history of minutes -60 to 89, at 16:00:02."""

    def __init__(
        self, simulator: AlpacaSimulator, new_manager: NewManager, **settings: Any
    ) -> None:
        super().__init__(simulator, new_manager, at=NOON + 8, **{"backfill": ("bars",), **settings})
        simulator.history.add(wire_bar(n, 100.0 + n / 10) for n in range(-60, 90))
        self.reports = Recorder[BackfillEvent]()
        self.manager.on_backfill(self.reports)

    def asked(self, count: int = 1) -> None:
        """Wait until history has been asked so often."""
        assert self.simulator.wait_for(lambda each: len(each.rest_requests) >= count, 10.0)


@pytest.fixture
def world(simulator: AlpacaSimulator, new_manager: NewManager) -> WarmWorld:
    return WarmWorld(simulator, new_manager)


def test_a_number_of_bars_comes_before_the_first_live_one(world: WarmWorld) -> None:
    seen = Recorder[Bar]()
    world.manager.on_bar(seen, "AAPL", history=20)
    world.manager.start()
    (report,) = world.reports.wait_for()
    assert (report.purpose, report.delivered, report.complete) == ("look_back", 20, True)
    assert minutes(seen.items) == list(range(70, 90))
    world.go(NOON + 60.5)
    world.bars(90)
    assert minutes(seen.items) == list(range(70, 91))
    assert [each.source for each in seen.items] == ["backfill"] * 20 + ["stream"]
    assert not any(each.is_late or each.is_partial for each in seen.items)
    assert minutes(world.manager.recent_bars("AAPL", 100)) == list(range(70, 91))
    check_accounts(world.manager.status())


def test_a_time_brings_what_began_within_it(world: WarmWorld) -> None:
    seen = Recorder[Bar]()
    world.manager.on_bar(seen, "AAPL", history=timedelta(minutes=30))
    world.manager.start()
    world.reports.wait_for()
    assert minutes(seen.items) == list(range(60, 90))


@pytest.mark.parametrize(
    ("timeframe", "history", "expected"),
    [("5m", 3, [75, 80, 85]), ("5m", timedelta(minutes=10), [80, 85]), ("1h", 2, [-30, 30])],
)
def test_larger_bars_have_a_look_back(
    world: WarmWorld, timeframe: str, history: int | timedelta, expected: list[int]
) -> None:
    seen = Recorder[Bar]()
    world.manager.on_bar(seen, "AAPL", timeframe=timeframe, history=history)
    world.manager.start()
    world.reports.wait_for()
    assert minutes(seen.items) == expected
    assert {each.timeframe for each in seen.items} == {timeframe}
    assert minutes(world.manager.recent_bars("AAPL", 9, timeframe)) == expected


def test_days_have_a_look_back(world: WarmWorld) -> None:
    seen = Recorder[Bar]()
    midnight = -10 * 60 - 30
    yesterday = midnight - 24 * 60
    world.simulator.history.add(
        wire_bar(yesterday + hour * 60, 50.0 + hour) for hour in range(10, 16)
    )
    world.manager.on_bar(seen, "AAPL", timeframe="1d", history=2)
    world.manager.start()
    world.reports.wait_for()
    assert minutes(seen.items) == [yesterday]
    assert seen.items[0].close == 65


def test_the_first_live_bar_has_the_minutes_from_before_the_start(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    world = WarmWorld(simulator, new_manager)
    world.clock.advance(120)  # 16:02:08
    simulator.history.add([wire_bar(90, 200.0), wire_bar(91)])
    seen = Recorder[Bar]()
    world.manager.on_bar(seen, "AAPL", timeframe="5m", history=2)
    world.manager.start()
    world.reports.wait_for()
    world.go(NOON + 300.5)
    world.bars(92, 93, 94)
    assert minutes(seen.wait_for(3)) == [80, 85, 90]
    live = seen.items[-1]
    assert [live.source, live.volume, live.high, live.is_partial] == ["built", 500, 200, False]


def test_live_bars_wait_for_the_look_back(world: WarmWorld) -> None:
    seen, plain = Recorder[Bar](), Recorder[Bar]()
    world.simulator.faults.rest_delay(60)
    world.manager.on_bar(seen, "AAPL", history=3)
    world.manager.on_bar(plain, "AAPL")
    world.manager.start()
    world.asked()
    world.go(NOON + 60.5)
    world.bars(90)
    assert minutes(plain.wait_for()) == [90]
    assert seen.items == []
    world.simulator.faults.rest_delay(0)
    seen.wait_for(4)
    assert minutes(seen.items) == [87, 88, 89, 90]
    assert minutes(plain.items) == [90]
    check_accounts(world.manager.status())


def test_a_live_bar_that_is_in_the_look_back_too_is_lost_to_nobody(world: WarmWorld) -> None:
    """The start falls right before the live bar of a minute that is over."""
    seen, plain = Recorder[Bar](), Recorder[Bar]()
    world.clock.advance(52.5)  # 16:01:00.5
    world.simulator.faults.rest_delay(60)
    world.manager.on_bar(seen, "AAPL", history=3)
    world.manager.on_bar(plain, "AAPL")
    world.manager.start()
    world.asked()
    world.bars(90)
    world.simulator.faults.rest_delay(0)
    world.reports.wait_for()
    world.go(NOON + 120.5)
    world.bars(91)
    assert minutes(seen.items) == [88, 89, 90, 91]
    assert minutes(plain.items) == [90, 91]


def test_look_back_that_takes_too_long_comes_late(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    world = WarmWorld(simulator, new_manager, backfill_hold=0.2)
    seen = Recorder[Bar]()
    simulator.faults.rest_delay(60)
    world.manager.on_bar(seen, "AAPL", history=2)
    world.manager.start()
    world.asked()
    world.go(NOON + 60.5)
    world.bars(90)
    assert minutes(seen.wait_for()) == [90]
    simulator.faults.rest_delay(0)
    assert minutes(seen.wait_for(3)) == [90, 88, 89]
    assert [each.is_late for each in seen.items] == [False, True, True]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda faults: faults.rest_error(429, 1, retry_after=0.05),
        lambda faults: faults.rest_error(500, 1),
        lambda faults: faults.rest_garbage("text", 1),
        lambda faults: faults.rest_drop(1),
    ],
    ids=["429", "500", "a page for people", "cut off"],
)
def test_a_history_that_fails_at_first_gives_its_look_back_all_the_same(
    world: WarmWorld, spoil: Callable[[Any], None]
) -> None:
    seen = Recorder[Bar]()
    spoil(world.simulator.faults)
    world.manager.on_bar(seen, "AAPL", timeframe="5m", history=2)
    world.manager.start()
    (report,) = world.reports.wait_for(timeout=30)
    assert (report.complete, report.reason) == (True, "")
    assert minutes(seen.items) == [80, 85]


def test_a_history_that_refuses_holds_nothing_up(world: WarmWorld) -> None:
    seen = Recorder[Bar]()
    world.simulator.faults.rest_error(403, None)
    world.manager.on_bar(seen, "AAPL", history=2)
    world.manager.start()
    (report,) = world.reports.wait_for()
    assert not report.complete
    assert report.reason
    world.go(NOON + 60.5)
    world.bars(90)
    assert minutes(seen.items) == [90]


@pytest.mark.parametrize("history", [timedelta.max, 100_001, -1])
def test_a_look_back_longer_than_anybody_needs_is_refused(
    world: WarmWorld, history: int | timedelta
) -> None:
    with pytest.raises(ConfigurationError, match="history"):
        world.manager.on_bar(lambda _: None, "AAPL", history=history)


def test_there_is_no_look_back_of_every_symbol(world: WarmWorld) -> None:
    with pytest.raises(ConfigurationError, match="history"):
        world.manager.on_bar(lambda _: None, "*", history=5)


def test_larger_look_back_is_aligned_to_utc_only(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    world = WarmWorld(simulator, new_manager, bar_alignment="session")
    with pytest.raises(ConfigurationError, match="history"):
        world.manager.on_bar(lambda _: None, "AAPL", timeframe="1h", history=5)
    world.manager.on_bar(lambda _: None, "AAPL", history=5)


def test_each_registration_gets_its_look_back_once_over_reconnects_and_restarts(
    world: WarmWorld,
) -> None:
    first, second, found = Recorder[Bar](), Recorder[Bar](), Recorder[object]()
    world.manager.on_connect(found)
    world.manager.on_bar(first, "AAPL", history=3)
    world.manager.on_bar(second, "AAPL", timeframe="5m", history=1)
    world.manager.start()
    world.reports.wait_for(2)
    world.simulator.drop(1006)
    found.wait_for(2)
    world.manager.restart()
    found.wait_for(3)
    world.pulse()
    world.reports.wait_until(lambda items: len([r for r in items if r.purpose == "gap"]) >= 1)
    assert minutes(first.items) == [87, 88, 89]
    assert minutes(second.items) == [85]
    assert len([each for each in world.reports.items if each.purpose == "look_back"]) == 2


def test_what_is_registered_at_run_time_gets_its_look_back_then(world: WarmWorld) -> None:
    other, seen = Recorder[Bar](), Recorder[Bar]()
    world.manager.on_bar(other, "AAPL")
    world.manager.start()
    world.go(NOON + 60.5)
    world.bars(90)
    world.go(NOON + 68.0)
    world.manager.on_bar(seen, "AAPL", history=3)
    world.reports.wait_for()
    assert minutes(seen.items) == [88, 89, 90]
    world.go(NOON + 120.5)
    world.bars(91)
    assert minutes(seen.items) == [88, 89, 90, 91]
    assert minutes(other.items) == [90, 91]


def test_what_a_callback_registers_gets_its_look_back_before_any_live_bar(
    world: WarmWorld,
) -> None:
    """Also where the next live bar is in the same frame."""
    seen = Recorder[Bar]()

    def on_bar(_: Bar) -> None:
        handle.remove()
        world.manager.on_bar(seen, "AAPL", history=3)

    handle = world.manager.on_bar(on_bar, "AAPL")
    world.manager.subscribe("bars", "AAPL")
    world.manager.start()
    world.go(NOON + 128.0)
    world.bars(90, 91)
    world.reports.wait_for()
    world.go(NOON + 180.5)
    world.bars(92)
    assert minutes(seen.wait_for(4)) == [89, 90, 91, 92]


def test_a_symbol_that_joins_the_watchlist_gets_its_look_back_then(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    symbols, found, seen = ["AAPL"], Recorder[object](), Recorder[Bar]()
    world = WarmWorld(simulator, new_manager, manager={"get_symbols": lambda: list(symbols)})
    simulator.history.add(wire_bar(n, S="MSFT") for n in range(80, 90))
    world.manager.on_connect(found)
    world.manager.on_bar(seen, history=2)
    world.manager.start()
    world.reports.wait_for()
    symbols.append("MSFT")
    simulator.drop(1006)
    found.wait_for(2)
    world.reports.wait_until(lambda items: any(each.symbol == "MSFT" for each in items))
    assert [(each.symbol, minutes([each])[0]) for each in seen.items] == [
        ("AAPL", 88),
        ("AAPL", 89),
        ("MSFT", 88),
        ("MSFT", 89),
    ]


def test_a_stop_is_prompt_while_the_look_back_is_waited_for(world: WarmWorld) -> None:
    seen = Recorder[Bar]()
    world.simulator.faults.rest_silent()
    world.manager.on_bar(seen, "AAPL", history=3)
    world.manager.start()
    world.asked()
    world.go(NOON + 60.5)
    world.bars(90)
    assert seen.items == []
    began = time.monotonic()
    world.manager.stop(timeout=3)
    assert time.monotonic() - began < 3
    assert world.manager.status().lifecycle is LifecycleState.STOPPED
    assert minutes(seen.items) == [90]
    check_accounts(world.manager.status())


def test_look_back_that_a_restart_cut_short_is_asked_for_again(world: WarmWorld) -> None:
    seen = Recorder[Bar]()
    world.simulator.faults.rest_delay(60)
    world.manager.on_bar(seen, "AAPL", history=3)
    world.manager.start()
    world.asked()
    world.manager.restart()
    world.simulator.faults.rest_delay(0)
    world.reports.wait_until(lambda items: any(each.complete for each in items))
    assert minutes(seen.items) == [87, 88, 89]
