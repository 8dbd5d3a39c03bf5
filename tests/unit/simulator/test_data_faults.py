"""Faults of data: muted in part, late, twice, in disorder, off by the clock."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream.simulator import AlpacaSimulator
from tests.unit.simulator.client import TIMEOUT, error

if TYPE_CHECKING:
    from tests.unit.simulator.client import Client
    from tests.unit.simulator.conftest import Connect

QUOTE = {"T": "q", "S": "AAPL"}
LONG = 3600.0  # seconds; nothing waits that long


def trades(*ids: int, symbol: str = "AAPL") -> list[dict[str, Any]]:
    return [{"T": "t", "S": symbol, "i": number} for number in ids]


def ids(frame: list[dict[str, Any]]) -> list[int]:
    return [message["i"] for message in frame]


def written(simulator: AlpacaSimulator) -> list[tuple[str, str, int]]:
    return [(entry.channel, entry.symbol, entry.sessions) for entry in simulator.ledger]


@pytest.fixture
def client(connect: Connect) -> Client:
    subscriber = connect().login()
    subscriber.subscribe(trades=["*"], quotes=["*"])
    return subscriber


# --- mute ---


@pytest.mark.parametrize(
    ("limits", "heard"),
    [
        ({"symbols": ["AAPL"]}, [("t", "SPY"), ("q", "SPY")]),
        ({"channels": ["trades"]}, [("q", "AAPL"), ("q", "SPY")]),
        (
            {"channels": ["quotes"], "symbols": {"SPY"}},
            [("t", "AAPL"), ("q", "AAPL"), ("t", "SPY")],
        ),
        ({"market": "crypto"}, [("t", "AAPL"), ("q", "AAPL"), ("t", "SPY"), ("q", "SPY")]),
        ({"market": "stocks", "symbols": ["AAPL", "SPY"]}, []),
    ],
)
def test_mute_in_part(
    simulator: AlpacaSimulator, client: Client, limits: dict[str, Any], heard: list[tuple[str, str]]
) -> None:
    simulator.faults.mute(**limits)
    messages = [{"T": kind, "S": symbol} for symbol in ("AAPL", "SPY") for kind in "tq"]
    simulator.publish(*messages)
    simulator.faults.clear()
    simulator.publish(QUOTE)
    received = [(m["T"], m["S"]) for m in client.receive()] if heard else []
    assert received == heard
    assert client.receive() == [QUOTE]
    counted = [entry.sessions for entry in simulator.ledger][:4]
    assert counted == [int((m["T"], m["S"]) in heard) for m in messages]


def test_the_last_word_about_a_message_decides(simulator: AlpacaSimulator, client: Client) -> None:
    faults = simulator.faults
    faults.mute()
    faults.mute(False, symbols=["SPY"])
    simulator.publish(*trades(1), *trades(2, symbol="SPY"))
    assert ids(client.receive()) == [2]
    simulator.publish_raw("[]")  # still nothing: only one symbol is excepted
    faults.mute(symbols=["SPY"])
    faults.mute(False, symbols=["SPY"])
    simulator.publish(*trades(3), *trades(4, symbol="SPY"))
    assert ids(client.receive()) == [4]
    faults.mute(False, market="stocks")
    simulator.publish(*trades(5))
    assert ids(client.receive()) == [5]
    faults.mute(symbols=["AAPL"])
    faults.mute(False)
    simulator.publish(*trades(6))
    assert ids(client.receive()) == [6]


def test_calls_take_effect_in_their_order(simulator: AlpacaSimulator, client: Client) -> None:
    for number in range(50):
        simulator.faults.mute()
        simulator.publish(*trades(number))
        simulator.faults.mute(False)
        simulator.publish(*trades(-number))
    assert [ids(client.receive()) for _ in range(50)] == [[-number] for number in range(50)]


def test_one_market_is_mute_and_another_is_not(
    simulator: AlpacaSimulator, connect: Connect, client: Client
) -> None:
    coins = connect("crypto").login()
    coins.subscribe(quotes=["*"])
    simulator.faults.mute(market="stocks")
    simulator.publish_raw('[{"T":"raw"}]')
    simulator.publish(QUOTE)
    simulator.publish({"T": "q", "S": "BTC/USD"}, market="crypto")
    assert [coins.receive(), coins.receive()] == [[{"T": "raw"}], [{"T": "q", "S": "BTC/USD"}]]
    assert client.unsubscribe()["quotes"] == ["*"]  # and nothing has come before


def test_news_are_muted_with_any_of_their_symbols(
    simulator: AlpacaSimulator, connect: Connect
) -> None:
    reader = connect("news").login()
    reader.subscribe(news=["*"])
    simulator.faults.mute(symbols=["AAPL"])
    both = {"T": "n", "symbols": ["SPY", "AAPL"]}
    one = {"T": "n", "symbols": ["SPY"]}
    simulator.publish(both, one, market="news")
    assert reader.receive() == [one]


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"market": "bonds"}, "unknown market 'bonds'; allowed are stocks"),
        ({"channels": ["prices"]}, r"unknown channels \['prices'\]; allowed are bars"),
        ({"market": "crypto", "channels": ["statuses"]}, "unknown channels"),
        ({"symbols": "AAPL"}, "symbols must be a collection"),
    ],
)
def test_what_cannot_be_muted(
    simulator: AlpacaSimulator, limits: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        simulator.faults.mute(**limits)


# --- delay ---


def test_delayed_data_come_in_order_and_count_when_they_are_written(
    simulator: AlpacaSimulator, client: Client
) -> None:
    simulator.faults.delay(LONG)
    simulator.publish(*trades(1))
    simulator.publish_raw('[{"T":"t","i":2}]')
    simulator.send_garbage("empty")
    assert client.subscribe(bars=["AAPL"])["bars"] == ["AAPL"]  # requests are answered at once
    assert len(simulator.ledger) == 0
    simulator.faults.delay(0.05)
    simulator.publish(*trades(3))
    assert client.subscribe()["bars"] == ["AAPL"]
    simulator.faults.delay(0)
    assert [ids(client.receive()), ids(client.receive())] == [[1], [2]]
    assert client.socket.recv(TIMEOUT) == ""
    assert ids(client.receive()) == [3]
    assert written(simulator) == [("trades", "AAPL", 1)] * 2


def test_a_short_delay_passes(simulator: AlpacaSimulator, client: Client) -> None:
    simulator.faults.delay(0.05)
    for number in range(10):
        simulator.publish(*trades(number))
    assert [ids(client.receive()) for _ in range(10)] == [[number] for number in range(10)]


def test_what_is_delayed_goes_to_who_is_there_then(
    simulator: AlpacaSimulator, connect: Connect, client: Client
) -> None:
    simulator.faults.delay(LONG)
    simulator.publish(*trades(1))
    simulator.drop()
    client.wait_closed()
    late = connect().login()
    late.subscribe(trades=["AAPL"])
    simulator.faults.clear()
    assert ids(late.receive()) == [1]
    assert written(simulator) == [("trades", "AAPL", 1)]


def test_what_is_delayed_is_written_at_the_latest_when_the_simulator_stops(
    connect: Connect,
) -> None:
    with AlpacaSimulator() as simulator:
        client = connect(to=simulator).login()
        client.subscribe(trades=["*"])
        simulator.faults.delay(LONG)
        simulator.publish(*trades(1))
    assert ids(client.receive()) == [1]
    assert written(simulator) == [("trades", "AAPL", 1)]


# --- duplicates, disorder, clock ---


def test_every_third_message_is_written_twice(simulator: AlpacaSimulator, client: Client) -> None:
    simulator.faults.duplicate(3)
    simulator.publish(*trades(1, 2))
    simulator.publish(*trades(3, 4, 5, 6, 7))
    simulator.faults.duplicate(0)
    simulator.publish(*trades(8, 9, 10))
    received = [ids(client.receive()) for _ in range(3)]
    assert received == [[1, 2], [3, 3, 4, 5, 6, 6, 7], [8, 9, 10]]
    assert written(simulator) == [("trades", "AAPL", 1)] * 12
    assert simulator.ledger.by_channel() == {"trades": 12}


def test_disorder_stays_within_its_windows(simulator: AlpacaSimulator, client: Client) -> None:
    def publish() -> list[list[int]]:
        simulator.faults.reorder(4)
        simulator.publish(*trades(*range(10)))
        simulator.publish(*trades(10))
        return [ids(client.receive()), ids(client.receive())]

    (first, second), again = publish(), publish()
    assert [sorted(first[:4]), sorted(first[4:8]), sorted(first[8:])] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9],
    ]
    assert first != list(range(10))
    assert second == [10]
    assert again == [first, second]
    simulator.faults.clear()
    simulator.publish(*trades(*range(10)))
    assert ids(client.receive()) == list(range(10))


def test_the_ledger_is_in_the_order_of_writing(simulator: AlpacaSimulator, client: Client) -> None:
    simulator.faults.reorder(8)
    simulator.faults.duplicate(2)
    simulator.publish(*({**each, "t": each["i"]} for each in trades(*range(8))))
    received = ids(client.receive())
    assert [entry.t_ns for entry in simulator.ledger] == received


@pytest.mark.parametrize(("seconds", "t"), [(1.5, 11_500_000_000), (-10.0, 0)])
def test_a_clock_that_is_off(
    simulator: AlpacaSimulator, connect: Connect, client: Client, seconds: float, t: int
) -> None:
    binary = connect(feed="sip", codec="msgpack").login()
    binary.subscribe(quotes=["*"])
    simulator.faults.skew(seconds)
    timed = {**QUOTE, "t": 10_000_000_000}
    simulator.publish(timed)
    (message,) = binary.receive()
    assert message["t"].to_unix_nano() == t
    assert client.receive()[0]["t"] == f"1970-01-01T00:00:{t / 1e9:04.1f}Z".replace(".0Z", "Z")
    simulator.faults.skew(0)
    simulator.publish(timed)
    assert client.receive()[0]["t"] == "1970-01-01T00:00:10Z"
    assert [entry.t_ns for entry in simulator.ledger] == [t, 10_000_000_000]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("delay", -1),
        ("delay", math.inf),
        ("delay", math.nan),
        ("duplicate", -1),
        ("reorder", -1),
        ("skew", math.inf),
        ("skew", math.nan),
    ],
)
def test_figures_that_make_no_sense(simulator: AlpacaSimulator, name: str, value: float) -> None:
    with pytest.raises(ValueError, match="zero or more"):
        getattr(simulator.faults, name)(value)


# --- errors among the data ---


def test_an_error_before_the_next_data(simulator: AlpacaSimulator, client: Client) -> None:
    simulator.faults.error_at("data", 407)
    simulator.faults.error_at("data", 500, "out of order", times=2)
    for number in range(4):
        simulator.publish(*trades(number))
    assert client.control() == error(407, "slow client")
    assert ids(client.receive()) == [0]
    for number in (1, 2):
        assert client.control() == error(500, "out of order")
        assert ids(client.receive()) == [number]
    assert ids(client.receive()) == [3]
    assert written(simulator) == [("trades", "AAPL", 1)] * 4
