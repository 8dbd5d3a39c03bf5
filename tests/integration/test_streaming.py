"""The main job: market events reach callbacks, iterators and the latest_* methods."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from realtime_stream import (
    LULD,
    Bar,
    ConnectionState,
    InvalidSymbolError,
    LifecycleState,
    MarketEvent,
    News,
    OrderBook,
    Quote,
    Subscription,
    Trade,
    TradeCancel,
    UnsupportedChannelError,
)
from tests.support import START_NS, Recorder, bar, quote, trade

if TYPE_CHECKING:
    from realtime_stream.simulator import AlpacaSimulator
    from tests.integration.conftest import NewManager


def test_quotes_trades_and_bars_reach_their_callbacks(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    quotes, trades, bars = Recorder[Quote](), Recorder[Trade](), Recorder[Bar]()
    manager.on_quote(quotes, "AAPL")
    manager.on_trade(trades, "AAPL")
    manager.on_bar(bars, "AAPL")

    assert manager.start() is ConnectionState.CONNECTED
    simulator.publish(quote(), trade(), bar())

    assert quotes.wait_for()[0].mid_price == Decimal("134.81")
    assert quotes.items[0].timestamp_ns == START_NS
    assert trades.wait_for()[0].price == Decimal("134.5")
    assert bars.wait_for()[0].close == Decimal("134.65")
    assert manager.latest_quote("AAPL") == quotes.items[0]
    assert manager.latest_trade("AAPL") == trades.items[0]
    assert manager.latest_bar("AAPL") == bars.items[0]
    assert manager.latest_quote("MSFT") is None
    manager.stop()
    assert manager.status().lifecycle is LifecycleState.STOPPED
    assert manager.status().threads == ()


def test_decorators_register_and_keep_the_function_callable(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager(watchlist=("MSFT",))
    seen = Recorder[Bar]()

    @manager.on_bar("AAPL")
    def on_bar(event: Bar) -> None:
        seen(event)

    @manager.on_bar
    def on_watchlist(event: Bar) -> None:
        seen(event)

    manager.start()
    simulator.publish(bar("AAPL"), bar("MSFT"))
    seen.wait_for(2)
    on_bar(seen.items[0])
    assert len(seen.items) == 3
    assert on_watchlist.channel == "bars"


def test_several_callbacks_share_a_symbol_and_star_sees_every_symbol(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    first, second, every = Recorder[Quote](), Recorder[Quote](), Recorder[Quote]()
    manager.on_quote(first, "AAPL")
    manager.on_quote(second, "AAPL")
    manager.on_quote(every, "*")
    manager.start()
    simulator.publish(quote("AAPL"), quote("MSFT"))
    assert [event.symbol for event in every.wait_for(2)] == ["AAPL", "MSFT"]
    assert len(first.items) == len(second.items) == 1


def test_events_iterates_over_what_is_delivered_and_ends_with_the_manager(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    manager.subscribe("quotes", "AAPL")
    manager.start()
    events = manager.events(timeout=10)
    simulator.publish(quote(n=0), quote(n=1))
    assert [next(events).timestamp_ns, next(events).timestamp_ns] == [
        START_NS,
        START_NS + 1_000_000,
    ]
    manager.stop()
    assert list(events) == []


def test_updated_bar_replaces_the_minute_bar_in_latest(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    updated = Recorder[Bar]()
    manager.subscribe("bars", "AAPL")
    manager.on_updated_bar(updated, "AAPL")
    manager.start()
    simulator.publish(bar())
    simulator.publish(bar(T="u", v=300))
    assert updated.wait_for()[0].bar_kind == "updated"
    latest = manager.latest_bar("AAPL")
    assert latest is not None
    assert latest.volume == Decimal(300)


def test_lulds_which_the_sdk_cannot_subscribe_arrive(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    bands = Recorder[LULD]()
    manager.on_luld(bands, "IONM")
    manager.start()
    simulator.publish({"T": "l", "S": "IONM", "u": 3.24, "d": 2.65, "i": "B", "t": START_NS})
    assert bands.wait_for()[0].limit_up_price == Decimal("3.24")


def test_cancels_come_with_the_trades_they_cancel(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    cancels = Recorder[TradeCancel]()
    manager.on_cancel(cancels, "AAPL")
    assert manager.start() is ConnectionState.CONNECTED
    assert Subscription("cancels", "AAPL") in manager.status().acknowledged
    cancel = {"T": "x", "S": "AAPL", "i": 465, "x": "D", "p": 105.31, "s": 300, "a": "C"}
    simulator.publish({**cancel, "t": START_NS})
    assert cancels.wait_for()[0].action == "C"


@pytest.mark.parametrize("path_feed", ["iex", "sip", "delayed_sip", "boats", "overnight"])
def test_every_stock_feed_connects(new_manager: NewManager, path_feed: str) -> None:
    manager = new_manager(path_feed=path_feed)
    manager.subscribe("quotes", "AAPL")
    assert manager.start() is ConnectionState.CONNECTED


def test_the_test_stream_brings_its_only_symbol(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager(path_feed="test")
    quotes = Recorder[Quote]()
    manager.on_quote(quotes, "FAKEPACA")
    manager.start()
    simulator.publish(quote("FAKEPACA"))
    assert quotes.wait_for()[0].symbol == "FAKEPACA"


def test_crypto_brings_fractions_and_order_books(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager(market="crypto", path_feed="us")
    trades, books = Recorder[Trade](), Recorder[OrderBook]()
    manager.on_trade(trades, "BTC/USD")
    manager.on_orderbook(books, "BTC/USD")
    manager.start()
    simulator.publish(
        {
            "T": "t",
            "S": "BTC/USD",
            "p": 26675.04,
            "s": 0.000000021,
            "t": START_NS,
            "i": 1,
            "tks": "B",
        },
        {"T": "o", "S": "BTC/USD", "t": START_NS, "b": [{"p": 1.5, "s": 0}], "a": [], "r": True},
        market="crypto",
    )
    assert trades.wait_for()[0].size == Decimal("2.1E-8")
    assert trades.items[0].taker_side == "B"
    assert books.wait_for()[0].is_snapshot
    assert books.items[0].bids[0].size == 0


def test_options_have_one_condition_code(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    symbol = "AAPL240315C00172500"
    manager = new_manager(market="options", path_feed="indicative")
    trades = Recorder[Trade]()
    manager.on_trade(trades, symbol)
    manager.start()
    simulator.publish(
        {"T": "t", "S": symbol, "t": START_NS, "p": 2.84, "s": 1, "x": "N", "c": "S"},
        market="options",
    )
    assert trades.wait_for()[0].conditions == ("S",)


def test_news_goes_to_every_symbol_it_names_once(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager(market="news", path_feed="news")
    both, other = Recorder[News](), Recorder[News]()
    manager.on_news(both, "AAPL", "MSFT")
    manager.on_news(other, "SPY")
    manager.start()
    article = {
        "T": "n",
        "id": 24918784,
        "headline": "Something happened",
        "summary": "",
        "author": "A",
        "created_at": START_NS,
        "updated_at": START_NS + 1,
        "url": "https://example.com",
        "content": "<p></p>",
        "symbols": ["AAPL", "MSFT"],
        "source": "wire",
    }
    simulator.publish(article, market="news")
    simulator.publish({**article, "symbols": ["SPY"]}, market="news")
    assert other.wait_for()[0].symbols == ("SPY",)
    assert len(both.items) == 1
    assert (both.items[0].created_ns, both.items[0].timestamp_ns) == (START_NS, START_NS + 1)


def test_get_symbols_joins_the_watchlist_before_each_session(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    answers = iter([["AAPL"], ["AAPL", "MSFT"]])
    manager = new_manager(manager={"get_symbols": answers.__next__})
    connected = Recorder[object]()
    manager.on_connect(connected)
    manager.start()
    assert manager.subscriptions() == {Subscription("bars", "AAPL")}
    simulator.drop(1001)
    connected.wait_for(2)
    assert manager.subscriptions() == {Subscription("bars", "AAPL"), Subscription("bars", "MSFT")}


def test_a_failing_get_symbols_is_reported_and_its_last_answer_holds(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    answers: list[list[str]] = [["AAPL"]]
    manager = new_manager(manager={"get_symbols": answers.pop})
    connected, errors = Recorder[object](), Recorder[object]()
    manager.on_connect(connected)
    manager.on_error(errors)
    manager.start()
    simulator.drop(1001)
    connected.wait_for(2)
    assert manager.subscriptions() == {Subscription("bars", "AAPL")}
    assert any(getattr(event, "source", "") == "get_symbols" for event in errors.items)


def test_nothing_wanted_is_idle_and_the_first_registration_connects(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    assert manager.start() is ConnectionState.IDLE
    assert simulator.attempts == 0
    quotes = Recorder[Quote]()
    registration = manager.on_quote(quotes, "AAPL")
    assert manager.wait_until_connected(10)
    simulator.publish(quote())
    quotes.wait_for()
    states = Recorder[object]()
    manager.on_state_change(states)
    registration.remove()
    states.wait_until(
        lambda changes: any(getattr(c, "current", None) is ConnectionState.IDLE for c in changes)
    )


def test_bad_input_names_what_is_allowed(new_manager: NewManager) -> None:
    manager = new_manager()
    with pytest.raises(InvalidSymbolError, match="'aapl' is not valid"):
        manager.subscribe("quotes", "aapl")
    with pytest.raises(UnsupportedChannelError, match="does not exist for stocks"):
        manager.on_orderbook(print, "AAPL")
    with pytest.raises(UnsupportedChannelError, match="allowed are"):
        manager.subscribe("news", "AAPL")


def test_malformed_and_unknown_messages_cost_only_themselves(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    quotes = Recorder[MarketEvent]()
    manager.on_quote(quotes, "AAPL")
    manager.start()
    simulator.publish_raw(b"\xc1 this is no frame")
    simulator.publish_raw(b"\x92\x81\xa1T\xa2zz\x82\xa1T\xa1q\xa1S\xa4AAPL")
    simulator.publish(quote())
    quotes.wait_for()
    assert manager.status().rejected == 3
    assert [bool(reject.reason) for reject in manager.rejects()] == [True] * 3
    assert manager.is_connected()
