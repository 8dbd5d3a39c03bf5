"""Alpaca's history against the simulator's REST side: what was published is what is fetched."""

from __future__ import annotations

import random
import threading
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream import StreamConfig
from realtime_stream.clock import FakeClock, SystemClock
from realtime_stream.config import Credentials
from realtime_stream.errors import HistoryError, HistoryRefusedError, HistoryUnavailableError
from realtime_stream.ports import HistoryProvider, HistoryRequest
from realtime_stream.providers.alpaca.history import AlpacaHistory
from realtime_stream.simulator import SIMULATOR_KEY, SIMULATOR_SECRET
from tests.support import START_NS, bar, trade

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from realtime_stream.clock import Clock
    from realtime_stream.simulator import AlpacaSimulator

    Open = Callable[..., AlpacaHistory]

MINUTE = 60_000_000_000
FIRST_BAR = 1_790_000_040_000_000_000
END = FIRST_BAR + 100_000 * MINUTE
KEYS = Credentials(key=SIMULATOR_KEY, secret=SIMULATOR_SECRET)


@pytest.fixture
def open_history(simulator: AlpacaSimulator) -> Iterator[Open]:
    opened: list[AlpacaHistory] = []

    def open_it(clock: Clock | None = None, **settings: Any) -> AlpacaHistory:
        config = StreamConfig(api_key="not", secret_key="these", **settings)
        rng = random.Random(1)  # noqa: S311  # a test that can be repeated
        clock = clock or FakeClock()
        opened.append(AlpacaHistory(config, clock, FakeClock(), rng, url=simulator.rest_url))
        return opened[-1]

    yield open_it
    for each in opened:
        each.close()


def request(*symbols: str, **fields: Any) -> HistoryRequest:
    values: dict[str, Any] = {"channel": "bars", "start_ns": FIRST_BAR, "end_ns": END}
    return HistoryRequest(symbols=symbols or ("AAPL",), **{**values, **fields})


def fetch(provider: AlpacaHistory, asked: HistoryRequest) -> list[Any]:
    pages = provider.fetch(asked, KEYS)
    return [event for page in pages for event in (*page.bars, *page.trades)]


def starts(events: list[Any]) -> list[int]:
    return [(event.timestamp_ns - FIRST_BAR) // MINUTE for event in events]


def test_twenty_five_thousand_bars(simulator: AlpacaSimulator, open_history: Open) -> None:
    simulator.history.add(bar(n=n) for n in range(25_000))
    pages = list(open_history().fetch(request(), KEYS))
    assert [len(page.bars) for page in pages] == [10_000, 10_000, 5_000]
    assert starts([bar for page in pages for bar in page.bars]) == list(range(25_000))
    assert len(simulator.rest_requests) == 3


def test_bars_of_a_longer_timeframe(simulator: AlpacaSimulator, open_history: Open) -> None:
    simulator.history.add(bar(n=n) for n in range(60))
    found = fetch(open_history(), request(timeframe="5m"))
    assert {each.timeframe for each in found} == {"5m"}
    assert {each.timestamp_ns % (5 * MINUTE) for each in found} == {0}


def test_the_end_is_not_part_of_what_is_fetched(
    simulator: AlpacaSimulator, open_history: Open
) -> None:
    simulator.history.add(bar(n=n) for n in range(5))
    asked = request(start_ns=FIRST_BAR + MINUTE, end_ns=FIRST_BAR + 3 * MINUTE)
    assert starts(fetch(open_history(), asked)) == [1, 2]
    asked = request(start_ns=FIRST_BAR + MINUTE + 1, end_ns=FIRST_BAR + 3 * MINUTE + 1)
    assert starts(fetch(open_history(), asked)) == [2, 3]


def test_trades_to_the_nanosecond(simulator: AlpacaSimulator, open_history: Open) -> None:
    simulator.history.add(trade(n=n, t=START_NS + n, p=100 + n / 100, s=n + 1) for n in range(25))
    asked = request(channel="trades", start_ns=START_NS + 3, end_ns=START_NS + 20)
    found = fetch(open_history(), asked)
    assert [each.timestamp_ns - START_NS for each in found] == list(range(3, 20))
    assert [each.price for each in found] == [100 + Decimal(n) / 100 for n in range(3, 20)]
    assert [each.size for each in found] == [n + 1 for n in range(3, 20)]


def test_trades_that_were_corrected_and_cancelled(
    simulator: AlpacaSimulator, open_history: Open
) -> None:
    correction = {"T": "c", "S": "AAPL", "x": "V", "oi": 1, "op": 134.5, "os": 100, "oc": ["@"]}
    correction |= {"ci": 11, "cp": 133.25, "cs": 90, "cc": ["@"], "z": "C", "t": START_NS + 9}
    cancel = {"T": "x", "S": "AAPL", "i": 2, "x": "V", "p": 134.5, "s": 100, "a": "C", "z": "C"}
    simulator.history.add([*(trade(n=n) for n in range(3)), correction, cancel | {"t": START_NS}])
    found = fetch(open_history(), request(channel="trades", start_ns=START_NS))
    assert [(each.trade_id, each.price) for each in found] == [
        (11, Decimal("133.25")),
        (3, Decimal("134.5")),
    ]


def test_the_newest(simulator: AlpacaSimulator, open_history: Open) -> None:
    simulator.history.add(bar(n=n) for n in range(500))
    provider = open_history()
    assert starts(fetch(provider, request(newest=7))) == list(range(493, 500))
    assert starts(fetch(provider, request(newest=7, end_ns=FIRST_BAR + 10 * MINUTE))) == list(
        range(3, 10)
    )
    assert len(fetch(provider, request(newest=900))) == 500


def test_crypto(simulator: AlpacaSimulator, open_history: Open) -> None:
    simulator.history.add([bar("BTC/USD"), bar("ETH/USD")], market="crypto")
    found = fetch(open_history(market="crypto"), request("BTC/USD", "ETH/USD"))
    assert [each.symbol for each in found] == ["BTC/USD", "ETH/USD"]


def test_six_hundred_symbols(simulator: AlpacaSimulator, open_history: Open) -> None:
    symbols = [f"SYM{n:03d}" for n in range(600)]
    simulator.history.add(bar(symbol, n) for symbol in symbols for n in range(3))
    found = fetch(open_history(), request(*symbols))
    assert [each.symbol for each in found] == [symbol for symbol in symbols for _ in range(3)]
    assert max(len(asked) for asked in simulator.rest_requests) < 2200
    assert set(simulator.rest_answers) == {200}


@pytest.mark.parametrize(
    "break_it",
    [
        lambda faults: faults.rest_error(500, 2),
        lambda faults: faults.rest_error(504, 2),
        lambda faults: faults.rest_drop(2),
    ],
)
def test_faults_that_pass(
    simulator: AlpacaSimulator, open_history: Open, break_it: Callable[[Any], None]
) -> None:
    simulator.history.add([bar()])
    break_it(simulator.faults)
    clock = FakeClock()
    assert len(fetch(open_history(clock), request())) == 1
    assert len(simulator.rest_requests) == 3
    assert max(wait or 0.0 for wait in clock.waits()) <= 1.0


def test_a_rate_limit(simulator: AlpacaSimulator, open_history: Open) -> None:
    simulator.history.add([bar()])
    simulator.faults.rest_error(429, retry_after=9)
    clock = FakeClock()
    assert len(fetch(open_history(clock), request())) == 1
    assert clock.waits() == (9.0,)


def test_a_rate_limit_that_names_only_its_end(
    simulator: AlpacaSimulator, open_history: Open
) -> None:
    simulator.history.add([bar()])
    simulator.faults.rest_rate_limit(1, minute=1.0)
    provider = open_history(SystemClock())
    assert [len(fetch(provider, request())) for _ in range(2)] == [1, 1]
    assert simulator.rest_answers[429] >= 1


def test_recent_history_that_the_plan_lacks(simulator: AlpacaSimulator, open_history: Open) -> None:
    simulator.history.add(bar(n=n) for n in range(60))
    simulator.faults.rest_recent_forbidden(15, feeds=["sip"])
    asked = request(end_ns=FIRST_BAR + 60 * MINUTE)
    provider = open_history(feed="sip")
    with pytest.raises(HistoryUnavailableError) as caught:
        fetch(provider, asked)
    assert caught.value.available_ns == asked.end_ns + 15 * MINUTE
    assert len(fetch(provider, request(end_ns=FIRST_BAR + 40 * MINUTE))) == 40
    assert len(fetch(open_history(feed="iex"), asked)) == 60


def test_keys_that_are_refused(open_history: Open) -> None:
    wrong = Credentials(key=SIMULATOR_KEY, secret="wrong")
    with pytest.raises(HistoryRefusedError, match="HTTP 401"):
        list(open_history().fetch(request(), wrong))


@pytest.mark.parametrize("kind", ["text", "cut"])
def test_garbage(simulator: AlpacaSimulator, open_history: Open, kind: Any) -> None:
    simulator.history.add([bar()])
    simulator.faults.rest_garbage(kind)
    with pytest.raises(HistoryError, match="no page of bars"):
        fetch(open_history(), request())


def test_a_server_that_never_answers(simulator: AlpacaSimulator, open_history: Open) -> None:
    simulator.faults.rest_silent()
    provider = open_history()
    errors: list[HistoryError] = []

    def run() -> None:
        try:
            fetch(provider, request())
        except HistoryError as exc:
            errors.append(exc)

    fetching = threading.Thread(target=run)
    fetching.start()
    assert simulator.wait_for(lambda s: len(s.rest_requests) == 1)
    began = time.monotonic()
    provider.close()
    fetching.join(10)
    assert time.monotonic() - began < 0.5
    assert [str(error) for error in errors] == ["the history was closed"]


def test_it_is_a_history_provider(open_history: Open) -> None:
    provider: HistoryProvider = open_history()
    assert provider.fetch(request(end_ns=0), KEYS) is not None
