from __future__ import annotations

import functools
import threading
from decimal import Decimal as Dec
from typing import Any

import pytest

from realtime_stream.errors import (
    ConfigurationError,
    InvalidSymbolError,
    UnsupportedChannelError,
)
from realtime_stream.market.channels import CHANNELS, MARKET_CHANNELS, MARKETS, Subscription
from realtime_stream.market.models import MarketEvent, News, Trade
from realtime_stream.runtime.registry import LISTENERS, Registration, Registry, callback_name


class Counted:
    """A registry's ``on_change``."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1


def registry(
    *watchlist: str,
    market: str = "stocks",
    channels: tuple[str, ...] = (),
    on_change: Counted | None = None,
) -> Registry:
    return Registry(market, watchlist, channels, on_change or Counted())


def callback(_: object) -> None:
    """Does nothing."""


def trade(symbol: str) -> Trade:
    return Trade(symbol=symbol, timestamp_ns=0, price=Dec(1), size=Dec(1))


def news(*symbols: str) -> News:
    first = symbols[0] if symbols else "*"
    return News(symbol=first, timestamp_ns=0, news_id=1, headline="Up", symbols=symbols)


def wanted(tested: Registry) -> set[tuple[str, str]]:
    return {(entry.channel, entry.symbol) for entry in tested.wanted()}


def test_nothing_is_wanted_at_first() -> None:
    tested = registry()
    assert tested.wanted() == frozenset()
    assert tested.symbols() == ()
    assert tested.routes.of(trade("A")) == ()


def test_wanted_is_the_union_of_all_sources() -> None:
    tested = registry("W", channels=("bars", "statuses"))
    tested.add("trades", callback, ["A", "B"])
    tested.add("quotes", callback, [])
    tested.add("error", callback, ())
    tested.subscribe("lulds", ["L"])
    tested.set_dynamic(["D"])
    assert wanted(tested) == {
        ("trades", "A"), ("trades", "B"),
        ("quotes", "W"), ("quotes", "D"),
        ("bars", "W"), ("bars", "D"), ("statuses", "W"), ("statuses", "D"),
        ("lulds", "L"),
    }  # fmt: skip
    assert tested.symbols() == ("A", "B", "D", "L", "W")
    assert all(isinstance(entry, Subscription) for entry in tested.wanted())


def test_the_watchlist_channels_count_only_where_the_market_has_them() -> None:
    tested = registry("AAPL", market="news", channels=("bars", "news"))
    assert wanted(tested) == {("news", "AAPL")}


def test_a_star_is_a_symbol_like_any_other() -> None:
    tested = registry("*", channels=("bars",))
    tested.add("trades", callback, ["*", "A"])
    assert wanted(tested) == {("bars", "*"), ("trades", "*"), ("trades", "A")}


def test_the_dynamic_watchlist_is_replaced_as_a_whole() -> None:
    tested = registry("W")
    registration = tested.add("trades", callback, [])
    tested.set_dynamic(["A", "B"])
    tested.set_dynamic(["B", "C"])
    assert wanted(tested) == {("trades", "W"), ("trades", "B"), ("trades", "C")}
    assert tested.routes.of(trade("C")) == (registration,)
    assert tested.routes.of(trade("A")) == ()
    same = tested.routes
    tested.set_dynamic(iter(["C", "B"]))
    assert tested.routes is same


def test_what_a_removed_registration_wanted_goes_unless_others_want_it() -> None:
    tested = registry("W")
    one = tested.add("trades", callback, ["A", "B"])
    other = tested.add("trades", callback, ["B"])
    plain = tested.add("trades", callback, [])
    one.remove()
    assert wanted(tested) == {("trades", "B"), ("trades", "W")}
    plain.remove()
    assert wanted(tested) == {("trades", "B")}
    one.remove()
    other.remove()
    assert tested.wanted() == frozenset()
    assert tested.routes.of(trade("A")) == ()


def test_a_removed_listener_is_not_told() -> None:
    tested = registry()
    registration = tested.add("error", callback, ())
    assert tested.routes.listeners["error"] == (registration,)
    registration.remove()
    assert tested.routes.listeners.get("error", ()) == ()


def test_unsubscribing_takes_back_only_what_was_subscribed() -> None:
    tested = registry()
    tested.add("trades", callback, ["A"])
    tested.subscribe("trades", ["A", "B"])
    tested.unsubscribe("trades", ["A", "B", "NEVER"])
    assert wanted(tested) == {("trades", "A")}


def test_every_change_is_announced() -> None:
    changes = Counted()
    tested = registry("W", on_change=changes)
    registration = tested.add("trades", callback, ["A"])
    tested.subscribe("quotes", ["A"])
    tested.unsubscribe("quotes", ["A"])
    registration.remove()
    assert changes.calls == 4


@pytest.mark.parametrize("kind", LISTENERS)
def test_listeners_are_kept_per_kind_in_order(kind: str) -> None:
    tested = registry()
    both = (tested.add(kind, callback, ()), tested.add(kind, callback, ()))
    assert tested.routes.listeners == {kind: both}


# --- routes ---


def test_an_event_goes_to_its_registrations_in_the_order_they_were_made() -> None:
    tested = registry("B")
    every = tested.add("trades", callback, ["*"])
    a = tested.add("trades", callback, ["A"])
    watch = tested.add("trades", callback, [])
    both = tested.add("trades", callback, ["A", "B"])
    tested.add("quotes", callback, ["A"])
    of = tested.routes.of
    assert of(trade("A")) == (every, a, both)
    assert of(trade("B")) == (every, watch, both)
    assert of(trade("OTHER")) == (every,)


def test_an_event_of_a_channel_nobody_registered_goes_nowhere() -> None:
    tested = registry("A")
    tested.add("quotes", callback, ["A"])
    assert tested.routes.of(trade("A")) == ()


def test_a_watchlist_with_a_star_means_every_symbol() -> None:
    tested = registry("*", "A")
    registration = tested.add("trades", callback, [])
    assert tested.routes.of(trade("A")) == (registration,)
    assert tested.routes.of(trade("Z")) == (registration,)


def test_routes_are_replaced_never_changed() -> None:
    tested = registry()
    before = tested.routes
    tested.add("trades", callback, ["A"])
    assert before.of(trade("A")) == ()
    assert tested.routes is not before


@pytest.mark.parametrize(
    ("symbols", "expected"),
    [
        (("AAPL",), {"aapl", "all"}),
        (("TSLA", "AAPL"), {"aapl", "tsla", "all"}),
        (("OTHER",), {"all"}),
        ((), {"all"}),
    ],
)
def test_news_goes_once_to_everybody_who_wants_one_of_its_symbols(
    symbols: tuple[str, ...], expected: set[str]
) -> None:
    tested = registry(market="news")
    made = {
        "aapl": tested.add("news", callback, ["AAPL"]),
        "tsla": tested.add("news", callback, ["TSLA", "AAPL/USD"]),
        "all": tested.add("news", callback, ["*"]),
    }
    found = tested.routes.of(news(*symbols))
    assert len(found) == len(set(found))
    assert set(found) == {made[name] for name in expected}


def test_news_too_goes_to_its_registrations_in_the_order_they_were_made() -> None:
    tested = registry(market="news")
    made = tuple(tested.add("news", callback, [symbol]) for symbol in ("TSLA", "AAPL", "*"))
    assert tested.routes.of(news("AAPL", "TSLA")) == made


# --- what is refused ---


async def coroutine(_: object) -> None:
    """Would never be awaited."""


class AsyncStrategy:
    async def __call__(self, _: object) -> None:
        """Would never be awaited either."""


@pytest.mark.parametrize(
    "bad", [None, 3, "name", coroutine, functools.partial(coroutine), AsyncStrategy()]
)
def test_only_a_plain_callable_can_be_registered(bad: Any) -> None:
    changes = Counted()
    tested = registry(on_change=changes)
    with pytest.raises(ConfigurationError, match="callback must be"):
        tested.add("trades", bad, ["A"])
    with pytest.raises(ConfigurationError, match="callback must be"):
        tested.add("error", bad, ())
    assert tested.wanted() == frozenset()
    assert changes.calls == 0


@pytest.mark.parametrize(
    ("channel", "symbols", "error", "message"),
    [
        ("candles", ["A"], ConfigurationError, "'candles' is unknown: allowed are trades"),
        ("orderbooks", ["A"], UnsupportedChannelError, "does not exist for stocks"),
        ("trades", ["a"], InvalidSymbolError, "allowed are upper-case"),
        ("trades", ["A", "B;DROP"], InvalidSymbolError, "allowed are upper-case"),
        ("trades", [None], InvalidSymbolError, "None"),
        ("trades", "AAPL", ConfigurationError, "separate strings"),
    ],
)
def test_bad_channels_and_symbols_change_nothing(
    channel: str, symbols: Any, error: type[Exception], message: str
) -> None:
    changes = Counted()
    tested = registry(on_change=changes)
    for act in (
        lambda: tested.add(channel, callback, symbols),
        lambda: tested.subscribe(channel, symbols),
        lambda: tested.unsubscribe(channel, symbols),
    ):
        with pytest.raises(error, match=message):
            act()
    assert tested.wanted() == frozenset()
    assert changes.calls == 0


def test_an_explicit_subscription_needs_a_symbol() -> None:
    tested = registry()
    for act in (tested.subscribe, tested.unsubscribe):
        with pytest.raises(ConfigurationError, match="at least one"):
            act("trades", [])


def test_a_bad_dynamic_watchlist_leaves_the_last_one() -> None:
    tested = registry(channels=("bars",))
    tested.set_dynamic(["A"])
    with pytest.raises(InvalidSymbolError):
        tested.set_dynamic(["B", "c"])
    assert wanted(tested) == {("bars", "A")}


@pytest.mark.parametrize("market", MARKETS)
def test_every_channel_of_a_market_can_be_registered(market: str) -> None:
    tested = registry(market=market)
    for channel in CHANNELS:
        if channel in MARKET_CHANNELS[market]:
            tested.add(channel, callback, ["*"])
        else:
            with pytest.raises(UnsupportedChannelError):
                tested.add(channel, callback, ["*"])
    assert {entry.channel for entry in tested.wanted()} == MARKET_CHANNELS[market]


# --- the handle ---


class Strategy:
    def on_trade(self, event: MarketEvent) -> str:
        return event.symbol

    def __call__(self, event: MarketEvent) -> str:
        return event.symbol


def test_a_registration_is_callable_and_shows_no_symbols() -> None:
    strategy = Strategy()
    registration = registry().add("trades", strategy.on_trade, ["SECRET"])
    assert registration(trade("A")) == "A"
    assert isinstance(registration, Registration)
    assert repr(registration).endswith("Strategy.on_trade>")
    assert "SECRET" not in repr(registration)


def test_callbacks_have_names_whatever_they_are() -> None:
    assert callback_name(callback).endswith(".callback")
    assert callback_name(Strategy()).endswith(".Strategy")
    assert callback_name(functools.partial(callback)) == "functools.partial"
    assert callback_name(print) == "builtins.print"
    assert callback_name([].append) == "?.list.append"


def test_threads_may_register_at_once() -> None:
    tested, barrier = registry(), threading.Barrier(8)

    def register(n: int) -> None:
        barrier.wait(10)
        for k in range(20):
            registration = tested.add("trades", callback, [f"S{n}X{k}"])
            if k % 2:
                registration.remove()

    threads = [threading.Thread(target=register, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(tested.wanted()) == 80
    assert all(len(tested.routes.of(trade(f"S{n}X0"))) == 1 for n in range(8))
