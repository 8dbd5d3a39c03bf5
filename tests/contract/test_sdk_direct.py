"""alpaca-py's own streams, used as its documentation shows, work unchanged with the simulator."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

import pytest
from alpaca.data.live import (
    CryptoDataStream,
    NewsDataStream,
    OptionDataStream,
    StockDataStream,
)

from realtime_stream.simulator import SIMULATOR_KEY, SIMULATOR_SECRET, AlpacaSimulator
from tests.support import Recorder, bar, quote, trade

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIMEOUT = 10.0
OPTION = "AAPL240315C00172500"
T = "2024-03-11T13:35:35.13312256Z"


@pytest.fixture
def simulator() -> Iterator[AlpacaSimulator]:
    with AlpacaSimulator() as running:
        yield running


class Running:
    """A stream on its own thread, as ``stream.run()`` in a program of its own."""

    def __init__(self, stream: Any, simulator: AlpacaSimulator) -> None:
        self.stream = stream
        self.simulator = simulator
        self.thread = threading.Thread(target=stream.run, name="sdk", daemon=True)

    def __enter__(self) -> Running:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.thread.is_alive():
            self.stream.stop()
            # The SDK looks at the request to stop after its next frame, or after five seconds.
            self.simulator.publish_raw(b"\x90")
        self.thread.join(TIMEOUT)
        assert not self.thread.is_alive()

    def wait_subscribed(self, *pairs: tuple[str, str]) -> None:
        assert self.simulator.wait_for(
            lambda s: any(set(pairs) <= each.subscriptions for each in s.sessions()), TIMEOUT
        )


def handler(recorder: Recorder[Any]) -> Callable[[Any], Any]:
    """The SDK insists on coroutine functions."""

    async def record(item: Any) -> None:
        recorder(item)

    return record


def stock_stream(simulator: AlpacaSimulator, **options: Any) -> StockDataStream:
    settings = {"api_key": SIMULATOR_KEY, "secret_key": SIMULATOR_SECRET, **options}
    return StockDataStream(**settings, url_override=simulator.url())


def is_subscribed(sessions: int, simulator: AlpacaSimulator) -> bool:
    """Whether the session of this number is the open one, and is subscribed to something."""
    opened = simulator.sessions()
    return simulator.authenticated == sessions and any(each.subscriptions for each in opened)


def test_stocks_are_parsed(simulator: AlpacaSimulator) -> None:
    stream = stock_stream(simulator)
    trades, quotes, bars = Recorder[Any](), Recorder[Any](), Recorder[Any]()
    stream.subscribe_trades(handler(trades), "AAPL")
    stream.subscribe_quotes(handler(quotes), "AAPL")
    stream.subscribe_bars(handler(bars), "*")
    stream.subscribe_updated_bars(handler(bars), "AAPL")
    stream.subscribe_daily_bars(handler(bars), "AAPL")
    with Running(stream, simulator) as running:
        running.wait_subscribed(("trades", "AAPL"), ("dailyBars", "AAPL"), ("bars", "*"))
        simulator.publish(trade(), quote(), bar(), bar("MSFT"), bar(T="u"), bar(T="d"))
        assert trades.wait_for()[0].price == 134.5
        assert quotes.wait_for()[0].bid_price == 133.85
        assert [each.symbol for each in bars.wait_for(4)] == ["AAPL", "MSFT", "AAPL", "AAPL"]
        assert bars.items[0].vwap == 133.7
        assert bars.items[0].timestamp.second == 0
    assert simulator.received[0] == {"action": "auth", "key": SIMULATOR_KEY, "secret": "***"}


def test_corrections_cancels_and_statuses(simulator: AlpacaSimulator) -> None:
    stream = stock_stream(simulator)
    seen = Recorder[Any]()
    stream.subscribe_trades(handler(Recorder()), "AAPL")
    stream.register_trade_corrections(handler(seen))
    stream.register_trade_cancels(handler(seen))
    stream.subscribe_trading_statuses(handler(seen), "AAPL")
    with Running(stream, simulator) as running:
        running.wait_subscribed(("corrections", "AAPL"), ("statuses", "AAPL"))
        common = {"S": "AAPL", "z": "C", "t": T}
        old = {"oi": 1, "op": 1.5, "os": 100, "oc": ["@"]}
        new = {"ci": 2, "cp": 1.6, "cs": 100, "cc": ["@"]}
        simulator.publish(
            {"T": "c", "x": "V", **old, **new, **common},
            {"T": "x", "i": 2, "x": "V", "p": 1.6, "s": 100, "a": "C", **common},
            {"T": "s", "sc": "H", "sm": "Trading Halt", "rc": "T12", "rm": "", **common},
        )
        correction, cancel, status = seen.wait_for(3)
        assert (correction.corrected_price, cancel.price, status.status_code) == (1.6, 1.6, "H")


def test_subscribing_from_another_thread_while_it_runs(simulator: AlpacaSimulator) -> None:
    stream = stock_stream(simulator, raw_data=True)
    quotes = Recorder[Any]()
    stream.subscribe_quotes(handler(quotes), "AAPL")
    with Running(stream, simulator) as running:
        running.wait_subscribed(("quotes", "AAPL"))
        simulator.publish(quote())
        quotes.wait_for()  # the SDK sends later subscriptions only once it consumes
        stream.subscribe_quotes(handler(quotes), "MSFT")
        running.wait_subscribed(("quotes", "AAPL"), ("quotes", "MSFT"))
        simulator.publish(quote("MSFT"))
        assert quotes.wait_for(2)[1]["S"] == "MSFT"
        stream.unsubscribe_quotes("AAPL")
        assert simulator.wait_for(
            lambda s: s.sessions()[0].subscriptions == {("quotes", "MSFT")}, TIMEOUT
        )


@pytest.mark.parametrize("code", [1001, 1011, None])
def test_it_comes_back_after_a_drop(simulator: AlpacaSimulator, code: int | None) -> None:
    stream = stock_stream(simulator)
    quotes = Recorder[Any]()
    stream.subscribe_quotes(handler(quotes), "AAPL")
    with Running(stream, simulator) as running:
        for session in (1, 2):
            assert simulator.wait_for(functools.partial(is_subscribed, session), TIMEOUT)
            simulator.publish(quote())
            quotes.wait_for(session)
            if session == 1:
                assert simulator.drop(code) == 1
        running.wait_subscribed(("quotes", "AAPL"))
    assert simulator.attempts == 2


@pytest.mark.parametrize("code", [402, 406])
def test_refused_authentication_is_tried_again(simulator: AlpacaSimulator, code: int) -> None:
    simulator.faults.refuse_auth(code, times=2)
    stream = stock_stream(simulator)
    stream.subscribe_quotes(handler(Recorder()), "AAPL")
    with Running(stream, simulator) as running:
        running.wait_subscribed(("quotes", "AAPL"))
    assert (simulator.auth_attempts, simulator.attempts) == (3, 3)


def test_a_feed_outside_the_plan_ends_it() -> None:
    with AlpacaSimulator(refused_feeds={"iex"}) as simulator:
        stream = stock_stream(simulator)
        stream.subscribe_quotes(handler(Recorder()), "AAPL")
        with Running(stream, simulator) as running:
            running.thread.join(TIMEOUT)
            assert not running.thread.is_alive()
        assert simulator.attempts == 1


def test_crypto(simulator: AlpacaSimulator) -> None:
    stream = CryptoDataStream(
        SIMULATOR_KEY, SIMULATOR_SECRET, url_override=simulator.url("crypto", "us")
    )
    trades, books = Recorder[Any](), Recorder[Any]()
    stream.subscribe_trades(handler(trades), "BTC/USD")
    stream.subscribe_orderbooks(handler(books), "BTC/USD")
    with Running(stream, simulator) as running:
        running.wait_subscribed(("trades", "BTC/USD"), ("orderbooks", "BTC/USD"))
        simulator.publish(
            {"T": "t", "S": "BTC/USD", "p": 47.299, "s": 29.2, "t": T, "i": 3, "tks": "S"},
            {"T": "o", "S": "BTC/USD", "t": T, "b": [], "a": [{"p": 2614.5, "s": 12.5}], "r": True},
            market="crypto",
        )
        assert trades.wait_for()[0].size == 29.2
        assert books.wait_for()[0].asks[0].price == 2614.5


def test_options(simulator: AlpacaSimulator) -> None:
    stream = OptionDataStream(
        SIMULATOR_KEY, SIMULATOR_SECRET, url_override=simulator.url("options", "indicative")
    )
    trades = Recorder[Any]()
    stream.subscribe_trades(handler(trades), OPTION)
    with Running(stream, simulator) as running:
        running.wait_subscribed(("trades", OPTION))
        simulator.publish(
            {"T": "t", "S": OPTION, "t": T, "p": 2.84, "s": 1, "x": "N", "c": "S"},
            market="options",
        )
        assert trades.wait_for()[0].price == 2.84


def test_news(simulator: AlpacaSimulator) -> None:
    stream = NewsDataStream(SIMULATOR_KEY, SIMULATOR_SECRET, url_override=simulator.url("news"))
    news = Recorder[Any]()
    stream.subscribe_news(handler(news), "*")
    with Running(stream, simulator) as running:
        running.wait_subscribed(("news", "*"))
        simulator.publish(
            {
                "T": "n",
                "id": 24918784,
                "headline": "Something happened",
                "summary": "",
                "author": "A",
                "created_at": T,
                "updated_at": T,
                "url": "https://example.com",
                "content": "<p></p>",
                "symbols": ["AAPL"],
                "source": "wire",
            },
            market="news",
        )
        assert news.wait_for()[0].symbols == ["AAPL"]
