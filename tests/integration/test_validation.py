"""Events that cannot be true, through the manager: kept from everybody, reported and counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream import Bar, ConfigurationError, Quote, RejectedEvent, StreamConfig, Trade
from tests.integration.test_backfill import check_accounts
from tests.integration.test_timeframes import MINUTE, OPEN_NS, SECOND, World, minutes, wire_bar
from tests.support import Recorder, quote, trade

if TYPE_CHECKING:
    from realtime_stream.simulator import AlpacaSimulator
    from tests.integration.conftest import NewManager


class CheckedWorld(World):
    """A world with a bot that listens to quotes, trades, bars and what is wrong with them."""

    def __init__(
        self, simulator: AlpacaSimulator, new_manager: NewManager, **settings: Any
    ) -> None:
        super().__init__(simulator, new_manager, at=60.5, **settings)
        self.quotes, self.trades = Recorder[Quote](), Recorder[Trade]()
        self.bars_seen, self.rejected = Recorder[Bar](), Recorder[RejectedEvent]()
        symbol = {"crypto": "BTC/USD"}.get(settings.get("market", "stocks"), "AAPL")
        self.manager.on_quote(self.quotes, symbol)
        self.manager.on_trade(self.trades, symbol)
        self.manager.on_bar(self.bars_seen, symbol)
        self.manager.on_rejected(self.rejected)
        self.manager.start()

    def send(self, *messages: dict[str, Any]) -> None:
        """Publish, and wait until it has been dealt with."""
        now = self.clock.utc_now_ns()
        stamped = [{**each, "t": each["t"] if each["T"] in "bud" else now} for each in messages]
        self.simulator.publish(*stamped, market=self._market)
        self.pulse()

    @property
    def rules(self) -> list[str]:
        return [each.rule for each in self.rejected.items]


@pytest.mark.parametrize(
    ("fields", "rule", "field"),
    [
        ({"bp": 136.0}, "crossed", "ask_price"),
        ({"bp": -1.0}, "negative_price", "bid_price"),
        ({"bs": -4}, "negative_size", "bid_size"),
        ({"ap": 1e17}, "implausible", "ask_price"),
    ],
)
def test_a_quote_that_cannot_be_true_reaches_nobody(
    simulator: AlpacaSimulator,
    new_manager: NewManager,
    fields: dict[str, Any],
    rule: str,
    field: str,
) -> None:
    world = CheckedWorld(simulator, new_manager)
    world.send(quote(), {**quote(), **fields}, quote())
    assert len(world.quotes.items) == 2
    (found,) = world.rejected.items
    assert (found.rule, found.field, found.rejected) == (rule, field, True)
    assert found.message
    assert isinstance(found.event, Quote)
    assert world.manager.rejected_events() == (found,)
    status = world.manager.status()
    assert (status.invalid, dict(status.findings)) == (1, {(rule, "AAPL"): 1})
    check_accounts(status)


def test_quotes_of_one_side_or_none_are_as_they_should_be(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    world = CheckedWorld(simulator, new_manager)
    world.send({**quote(), "bp": 0}, {**quote(), "ap": 0}, {**quote(), "bp": 135.77})
    assert len(world.quotes.items) == 3
    assert world.rejected.items == []


def test_a_trade_that_comes_twice_is_delivered_and_built_of_once(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    world = CheckedWorld(simulator, new_manager)
    built = Recorder[Bar]()
    world.manager.on_bar(built, "AAPL", timeframe="ticks:3")
    assert simulator.wait_for(lambda each: len(each.sessions()) == 1)
    world.pulse()
    first = {**trade(), "i": 7, "p": 100.0}
    world.send(first, first, {**first, "i": 8}, {**first, "i": 8}, {**first, "i": 8, "x": "P"})
    assert len(world.trades.items) == 3
    assert world.rules == ["duplicate", "duplicate"]
    assert world.rejected.items[0].value == 7
    assert [each.trade_count for each in built.wait_for()] == [3]
    check_accounts(world.manager.status())


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"l": 105.0}, "inconsistent"),
        ({"h": 99.0}, "inconsistent"),
        ({"c": 0}, "not_positive"),
        ({"v": 0}, "zero_volume"),
        ({"v": -5}, "negative_size"),
        ({"t": OPEN_NS - 53 * SECOND}, "misaligned"),
        ({"t": OPEN_NS + 5 * MINUTE}, "from_the_future"),
    ],
)
def test_a_bar_that_cannot_be_true_is_neither_delivered_nor_built_of(
    simulator: AlpacaSimulator, new_manager: NewManager, fields: dict[str, Any], rule: str
) -> None:
    world = CheckedWorld(simulator, new_manager)
    fives = Recorder[Bar]()
    world.manager.on_bar(fives, "AAPL", timeframe="5m")
    world.send({**wire_bar(0), **fields})
    assert world.bars_seen.items == []
    assert world.rules == [rule]
    world.send(wire_bar(0))
    assert minutes(world.bars_seen.items) == [0]
    assert world.manager.recent_bars("AAPL", 5) == world.bars_seen.items
    world.go(303)
    assert [each.volume for each in fives.wait_for()] == [100]


def test_bars_that_go_back_in_time_or_repeat_themselves(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    world = CheckedWorld(simulator, new_manager)
    world.clock.advance(120)
    world.send(wire_bar(1), wire_bar(1), wire_bar(0), wire_bar(1, 101.0))
    assert world.rules == ["duplicate", "out_of_order", "conflicting"]
    assert [each.rejected for each in world.rejected.items] == [True, True, False]
    assert [each.close for each in world.bars_seen.items] == [100, 101]
    status = world.manager.status()
    assert status.invalid == 2
    assert status.findings["conflicting", "AAPL"] == 1
    check_accounts(status)


def test_bars_of_crypto_may_have_no_volume(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    world = CheckedWorld(simulator, new_manager, market="crypto", path_feed="us")
    world.send({**wire_bar(0), "S": "BTC/USD", "v": 0, "n": 0, "vw": 0})
    assert [each.volume for each in world.bars_seen.items] == [0]
    assert world.rejected.items == []


@pytest.mark.parametrize(
    ("action", "delivered", "reported"), [("reject", 1, 1), ("flag", 2, 1), ("pass", 2, 0)]
)
def test_the_policy_decides_what_a_finding_means(
    simulator: AlpacaSimulator,
    new_manager: NewManager,
    action: str,
    delivered: int,
    reported: int,
) -> None:
    world = CheckedWorld(simulator, new_manager, validation={"crossed": action})
    world.send(quote(), {**quote(), "bp": 136.0})
    assert len(world.quotes.items) == delivered
    assert len(world.rejected.items) == reported
    assert all(each.rejected is (action == "reject") for each in world.rejected.items)
    status = world.manager.status()
    assert status.invalid == 2 - delivered
    check_accounts(status)


def test_a_price_far_from_the_others_is_found_when_that_is_wanted(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    world = CheckedWorld(
        simulator, new_manager, validation={"outlier": "reject", "outlier_limit": 0.1}
    )
    trades = [{**trade(), "i": n, "p": 100.0 + n / 100} for n in range(40)]
    world.send(*trades, {**trade(), "i": 50, "p": 130.0}, {**trade(), "i": 51, "p": 101.0})
    assert world.rules == ["outlier"]
    assert len(world.trades.items) == 41


def test_as_many_rejected_events_are_kept_as_is_configured(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    world = CheckedWorld(simulator, new_manager, rejected_events=3)
    world.send(*({**quote(), "bp": 200.0 + n} for n in range(10)))
    kept = world.manager.rejected_events()
    assert [int(str(each.event.bid_price).split(".")[0]) for each in kept] == [207, 208, 209]  # type: ignore[attr-defined]  # they are quotes
    assert world.manager.status().invalid == 10


def test_a_listener_that_fails_harms_nobody(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    world = CheckedWorld(simulator, new_manager)

    @world.manager.on_rejected
    def fail(_: RejectedEvent) -> None:
        raise ValueError

    world.send({**quote(), "bp": 136.0}, quote())
    assert len(world.quotes.items) == 1
    assert world.manager.status().callback_errors == 1
    check_accounts(world.manager.status())


@pytest.mark.parametrize(
    "validation",
    [{"crossed": "ignore"}, {"no_such_rule": "flag"}, {"future_tolerance": -1}, "reject", 3],
)
def test_a_policy_that_is_none_is_named(validation: Any) -> None:
    with pytest.raises(ConfigurationError, match="validation"):
        StreamConfig(validation=validation)
