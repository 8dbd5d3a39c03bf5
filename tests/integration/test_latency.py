"""Clocks that differ, and events that come late, through the manager."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream import Bar, ErrorEvent, Trade
from tests.integration.test_timeframes import OPEN_NS, SECOND, World, minutes
from tests.support import Recorder, quote, trade

if TYPE_CHECKING:
    from realtime_stream.simulator import AlpacaSimulator
    from tests.integration.conftest import NewManager


class ShiftedWorld(World):
    """A world whose data clock is ahead of the exchange's by so many seconds.

    ``go`` and ``trade`` speak of the exchange's time.
    """

    def __init__(
        self, simulator: AlpacaSimulator, new_manager: NewManager, ahead: float, **settings: Any
    ) -> None:
        super().__init__(simulator, new_manager, at=ahead, **settings)
        self.ahead = ahead
        self.errors = Recorder[ErrorEvent]()
        self.manager.on_error(self.errors)

    @property
    def seconds(self) -> float:
        return super().seconds - self.ahead

    def trade(self, price: float, size: int = 100, *, late: float = 0.0, **fields: Any) -> None:
        super().trade(price, size, late=late + self.ahead, **fields)

    def pulse(self) -> None:
        count = len(self._quotes.items)
        exchange_ns = self.clock.utc_now_ns() - int(self.ahead * SECOND)
        self.simulator.publish(quote(self._pulse, t=exchange_ns), market=self._market)
        self._quotes.wait_for(count + 1)

    @property
    def alarms(self) -> list[str]:
        return [str(each.error) for each in self.errors.items if each.source == "latency"]


@pytest.mark.parametrize("ahead", [-4.0, -1.27, 0.0, 3.0, 30.0, 900.0])
def test_bars_are_closed_by_the_exchanges_clock(
    simulator: AlpacaSimulator, new_manager: NewManager, ahead: float
) -> None:
    """Ours may be behind or ahead, and the feed delayed by a quarter of an hour."""
    world = ShiftedWorld(simulator, new_manager, ahead)
    seen, updates = Recorder[Bar](), Recorder[Bar]()
    world.manager.on_bar(seen, "AAPL", timeframe="10s")
    world.manager.on_updated_bar(updates, "AAPL", timeframe="10s")
    world.manager.start()
    world.go(21)
    for n in range(3):
        world.go(30 + 10 * n)
        world.trade(100.0)
        world.go(39.9 + 10 * n)
        world.trade(101.0)
    world.go(63 + max(-ahead, 0.0))  # a clock that is behind closes them later
    bars = [each for each in seen.wait_for(3) if each.timestamp_ns >= OPEN_NS + 30 * SECOND]
    assert [(int(each.volume), each.is_partial) for each in bars] == [(200, False)] * 3
    assert updates.items == []
    assert world.manager.status().bars.late == 0


@pytest.mark.parametrize("ahead", [-4.0, 0.0, 4.0])
def test_the_feeds_own_bars_are_believed_whatever_the_clock_says(
    simulator: AlpacaSimulator, new_manager: NewManager, ahead: float
) -> None:
    world = ShiftedWorld(simulator, new_manager, ahead)
    seen, rejected = Recorder[Bar](), Recorder[object]()
    world.manager.on_bar(seen, "AAPL")
    world.manager.on_rejected(rejected)
    world.manager.start()
    world.go(60.5)
    world.bars(0)
    assert minutes(seen.items) == [0]
    assert rejected.items == []


def test_a_clock_that_is_far_behind_makes_everything_come_from_the_future(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    world = ShiftedWorld(simulator, new_manager, 0.0, validation={"from_the_future": "flag"})
    flagged = Recorder[Any]()
    world.manager.on_rejected(flagged)
    world.manager.start()
    world.clock.advance(-8)
    world.ahead = -8.0
    world.pulse()
    assert [each.rule for each in flagged.wait_for()] == ["from_the_future"]


def test_a_clock_that_is_behind_is_told_of(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    world = ShiftedWorld(simulator, new_manager, -3.0)
    world.manager.start()
    for n in range(5):
        world.go(float(n))
    world.errors.wait_for()
    assert world.alarms == ["this machine's clock and the exchange's differ"]
    skew = world.manager.status().latency["quotes"].skew
    assert skew is not None
    assert -3.1 < skew < -2.9


def test_a_feed_that_falls_behind_is_told_of_once(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    world = ShiftedWorld(simulator, new_manager, 0.0, latency_alarm=5.0)
    trades = Recorder[Trade]()
    world.manager.on_trade(trades, "AAPL")
    world.manager.start()
    world.pulse()
    for n in range(40):
        world.clock.advance(1)
        at_ns = world.clock.utc_now_ns() - 15 * SECOND
        simulator.publish({**trade(), "i": n, "t": at_ns})
        trades.wait_for(n + 1)  # a frame of its own: the last event stands for all of it
    world.errors.wait_for()
    assert world.alarms == ["events come, or are delivered, late"]
    info = world.manager.status().latency["trades"]
    assert info.alarms == 1
    assert 15 <= info.p99 <= 17


def test_bars_are_measured_from_their_end(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    world = World(simulator, new_manager, latency_alarm=10.0)
    errors = Recorder[ErrorEvent]()
    world.manager.on_bar(lambda _: None, "AAPL")
    world.manager.on_error(errors)
    world.manager.start()
    world.go(60.5)
    world.bars(0)
    assert world.manager.status().latency["bars"].highest == 0.5
    world.go(140)
    world.bars(1)
    (error,) = errors.wait_for()
    assert error.source == "latency"
    info = world.manager.status().latency["bars"]
    assert (info.count, info.highest, info.alarms) == (2, 20.0, 1)


def test_updates_are_late_by_nature(simulator: AlpacaSimulator, new_manager: NewManager) -> None:
    world = World(simulator, new_manager, backfill=("bars",))
    errors, seen = Recorder[ErrorEvent](), Recorder[Bar]()
    world.manager.on_bar(seen, "AAPL")
    world.manager.subscribe("updated_bars", "AAPL")
    world.manager.on_error(errors)
    world.manager.start()
    world.go(60.5)
    world.bars(0)
    world.go(90)
    world.bars(0, T="u", close=101.0)
    world.go(150)
    world.bars(1, T="u")  # the first that is seen of its minute, and so a regular bar
    assert minutes(seen.items) == [0, 1]
    assert errors.items == []
    assert world.manager.status().latency["bars"].highest < 10


def test_latency_of_what_nobody_subscribes_to_is_not_there(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    seen = Recorder[object]()
    manager.on_trade(seen, "AAPL")
    assert dict(manager.status().latency) == {}
    manager.start()
    simulator.publish(trade())
    seen.wait_for()
    manager.stop()
    assert set(manager.status().latency) == {"trades"}
