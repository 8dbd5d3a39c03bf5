"""Faults on demand, and how connections end."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from realtime_stream.simulator import AlpacaSimulator, Faults
from tests.unit.simulator.client import TIMEOUT, Client, error

if TYPE_CHECKING:
    from tests.unit.simulator.conftest import Connect

QUOTE = {"T": "q", "S": "AAPL"}


def refused_with(simulator: AlpacaSimulator) -> tuple[int, str | None]:
    with pytest.raises(InvalidStatus) as caught:
        Client(simulator.url())
    response = caught.value.response
    return response.status_code, response.headers.get("Retry-After")


def silent(client: Client) -> bool:
    """Whether nothing has come before the answer to a ping.

    The server answers pings at once, even before requests that it has read: wait for those first.
    """
    assert client.socket.ping().wait(TIMEOUT)
    try:
        client.socket.recv(0)
    except TimeoutError:
        return True
    return False


def test_refused_upgrades(simulator: AlpacaSimulator, connect: Connect) -> None:
    simulator.faults.refuse_http(429, retry_after=30, times=1)
    assert refused_with(simulator) == (429, "30")
    connect().login()
    simulator.faults.refuse_http(503)
    assert [refused_with(simulator), refused_with(simulator)] == [(503, None)] * 2
    simulator.faults.clear()
    connect(feed="sip").login()
    assert (simulator.attempts, simulator.handshakes) == (5, 2)
    with pytest.raises(ValueError, match="799"):
        simulator.faults.refuse_http(799)


def test_refused_authentication(simulator: AlpacaSimulator, connect: Connect) -> None:
    simulator.faults.refuse_auth(406, times=1)
    client = connect()
    client.control()
    assert client.auth() == error(406, "connection limit exceeded")
    simulator.faults.refuse_auth(500, "out of order")
    assert client.auth() == error(500, "out of order")
    simulator.faults.clear()
    assert client.auth()["msg"] == "authenticated"


def test_silence_at_the_upgrade(simulator: AlpacaSimulator) -> None:
    simulator.faults.silent_at("http")
    with socket.create_connection(("127.0.0.1", simulator.port), TIMEOUT) as raw:
        raw.sendall(b"GET /v2/iex HTTP/1.1\r\nHost: a\r\n\r\n")
        assert simulator.wait_for(lambda s: s.attempts == 1)
        assert simulator.drop() == 1
        with contextlib.suppress(ConnectionResetError):  # if it had not read the request yet
            assert raw.recv(1) == b""
    assert simulator.handshakes == 0


def test_silence_at_the_greeting(connect: Connect) -> None:
    with AlpacaSimulator(auth_timeout=0.01) as mute:
        mute.faults.silent_at("greeting")
        client = connect(to=mute)
        assert mute.wait_for(lambda s: len(s.sessions()) == 1)
        assert silent(client)
        mute.faults.silent_at(None)
        assert client.auth()["msg"] == "authenticated"  # that step is answered


def test_silence_at_authentication_lasts(connect: Connect) -> None:
    with AlpacaSimulator(auth_timeout=0.05) as mute:
        mute.faults.silent_at("auth")
        client = connect(to=mute)
        client.control()
        client.send(action="auth", key="a", secret="b")
        assert mute.wait_for(lambda s: s.auth_attempts == 1)
        other = connect(feed="sip", to=mute)
        other.control()
        assert other.control() == error(404, "auth timeout")  # the deadline of both has passed
        assert silent(client)


def test_silence_at_the_subscription(simulator: AlpacaSimulator, connect: Connect) -> None:
    client = connect().login()
    simulator.faults.silent_at("subscription")
    client.send(action="subscribe", quotes=["AAPL"])
    request = {"action": "subscribe", "quotes": ["AAPL"]}
    assert simulator.wait_for(lambda s: s.received[-1] == request)
    assert silent(client)
    simulator.faults.clear()
    assert client.subscribe(bars=["AAPL"])["quotes"] == []


def test_unknown_stages_are_refused(simulator: AlpacaSimulator) -> None:
    with pytest.raises(ValueError, match="allowed are http, greeting"):
        simulator.faults.silent_at("lunch")  # type: ignore[arg-type]  # the point of the test


@pytest.mark.parametrize(
    ("fault", "request_", "refused"),
    [
        ({}, {"quotes": ["AAPL"]}, True),
        ({"channels": ["bars"]}, {"quotes": ["AAPL"]}, False),
        ({"channels": ["bars"]}, {"bars": ["SPY"], "quotes": ["AAPL"]}, True),
        ({"symbols": ["SPY"]}, {"quotes": ["AAPL"]}, False),
        ({"symbols": ["SPY"]}, {"quotes": ["AAPL", "SPY"]}, True),
        ({"channels": ["bars"], "symbols": ["SPY"]}, {"bars": ["A"], "quotes": ["AAPL"]}, False),
        ({"times": 0}, {"quotes": ["AAPL"]}, False),
    ],
)
def test_refused_subscriptions(
    simulator: AlpacaSimulator,
    connect: Connect,
    fault: dict[str, Any],
    request_: dict[str, Any],
    *,
    refused: bool,
) -> None:
    simulator.faults.refuse_subscription(405, **fault)
    client = connect().login()
    reply = client.subscribe(**request_)
    assert (reply == error(405, "symbol limit exceeded")) is refused
    assert client.unsubscribe()["quotes"] == ([] if refused else ["AAPL"])


def test_symbols_that_are_left_out_without_a_word(
    simulator: AlpacaSimulator, connect: Connect
) -> None:
    simulator.faults.partial_acknowledgement(["MSFT"])
    client = connect().login()
    assert client.subscribe(quotes=["AAPL", "MSFT"])["quotes"] == ["AAPL"]
    simulator.faults.clear()
    assert client.subscribe(quotes=["MSFT"])["quotes"] == ["AAPL", "MSFT"]


def test_mute(simulator: AlpacaSimulator, connect: Connect) -> None:
    client = connect().login()
    client.subscribe(quotes=["AAPL"])
    simulator.faults.mute()
    simulator.publish(QUOTE)
    simulator.publish_raw("raw")
    assert client.subscribe(bars=["AAPL"])["bars"] == ["AAPL"]
    assert silent(client)
    simulator.faults.mute(False)
    simulator.publish(QUOTE)
    assert client.receive() == [QUOTE]
    assert [entry.sessions for entry in simulator.ledger] == [0, 1]


def test_refused_connections(simulator: AlpacaSimulator, connect: Connect) -> None:
    client = connect().login()
    simulator.faults.refuse_connections()
    simulator.faults.refuse_connections()
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", simulator.port), TIMEOUT)
    assert simulator.attempts == 1
    assert client.subscribe(quotes=["AAPL"])["quotes"] == ["AAPL"]
    simulator.faults.refuse_connections(False)
    connect(feed="sip").login()
    simulator.faults.refuse_connections()
    simulator.faults.clear()
    connect(feed="boats").login()


def test_connections_refused_from_the_start(connect: Connect) -> None:
    simulator = AlpacaSimulator()
    simulator.faults.refuse_connections()
    with simulator:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", simulator.port), TIMEOUT)
        simulator.faults.refuse_connections(False)
        connect(to=simulator).login().socket.close()
        simulator.faults.refuse_connections()
    simulator.faults.clear()  # nothing runs; it only forgets
    with simulator:
        connect(to=simulator).login()


@pytest.mark.parametrize("garbage", [b"", b"\xc1", b"\x91\x81\xa1T\xa1q"])
def test_garbage_instead_of_the_greeting(
    simulator: AlpacaSimulator, connect: Connect, garbage: bytes
) -> None:
    simulator.faults.garbage_greeting(garbage)
    client = connect()
    assert client.socket.recv(TIMEOUT) == garbage
    assert client.auth()["msg"] == "authenticated"


def test_a_dead_peer(simulator: AlpacaSimulator, connect: Connect) -> None:
    dead = connect(ping_interval=None).login()
    dead.subscribe(quotes=["*"])
    simulator.faults.stop_reading()
    pong = dead.socket.ping()
    dead.send(action="subscribe", bars=["*"])
    alive = connect(feed="sip").login()
    alive.subscribe(quotes=["*"])
    simulator.publish(QUOTE)
    assert alive.receive() == [QUOTE]
    assert not pong.is_set()
    assert [entry.sessions for entry in simulator.ledger] == [1]
    simulator.faults.stop_reading(False)
    assert dead.control()["bars"] == ["*"]
    assert pong.wait(TIMEOUT)


def test_a_dead_peer_holds_its_place_and_is_dropped_with_the_others(connect: Connect) -> None:
    with AlpacaSimulator(auth_timeout=0.05) as simulator:
        dead, late = connect(to=simulator).login(), connect(feed="sip", to=simulator)
        late.control()
        simulator.faults.stop_reading()
        second = connect(to=simulator)
        second.control()
        assert second.auth() == error(406, "connection limit exceeded")
        assert second.wait_closed() == 1006
        assert len(simulator.sessions()) == 2  # nobody is told of a timeout
        assert simulator.drop(1001) == 2
        assert [dead.wait_closed(), late.wait_closed()] == [1006, 1006]


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1012, 4000])
def test_dropped_with_a_close_code(simulator: AlpacaSimulator, connect: Connect, code: int) -> None:
    client, stranger = connect().login(), connect(feed="sip")
    client.subscribe(quotes=["AAPL"])
    simulator.publish(QUOTE)
    assert simulator.drop(code, "why") == 2
    assert simulator.sessions() == ()
    assert client.receive() == [QUOTE]
    assert [client.wait_closed(), stranger.wait_closed()] == [code, code]
    assert client.socket.close_reason == "why"
    simulator.publish(QUOTE)
    assert simulator.wait_for(lambda s: len(s.ledger) == 2)
    assert [entry.sessions for entry in simulator.ledger] == [1, 0]
    assert simulator.drop() == 0


@pytest.mark.parametrize("code", [1006, None])
def test_dropped_without_a_close_frame(
    simulator: AlpacaSimulator, connect: Connect, code: int | None
) -> None:
    client = connect().login()
    assert simulator.drop(code) == 1
    with pytest.raises(ConnectionClosed) as caught:
        client.receive()
    assert caught.value.rcvd is None
    assert isinstance(caught.value.__cause__, ConnectionResetError) is (code is None)
    connect().login()  # its place is free at once


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1015, 2000, 5000])
def test_close_codes_that_cannot_be_sent(simulator: AlpacaSimulator, code: int) -> None:
    with pytest.raises(ValueError, match="cannot be sent"):
        simulator.drop(code)


def test_close_reasons_that_are_too_long(simulator: AlpacaSimulator) -> None:
    with pytest.raises(ValueError, match="123 bytes"):
        simulator.drop(1000, "x" * 124)


def test_a_slow_client_is_told_and_dropped(connect: Connect) -> None:
    with AlpacaSimulator(buffer_limit=100_000) as simulator:
        client = connect(to=simulator, compression=None, max_queue=1).login()
        client.subscribe(news=[], quotes=["AAPL"])
        for _ in range(200):
            simulator.publish({**QUOTE, "padding": "x" * 100_000})
        assert simulator.wait_for(lambda s: not s.sessions())
        assert client.wait_closed() == 1006


def test_faults_alone_do_nothing() -> None:
    faults = Faults()
    faults.refuse_connections()
    faults.stop_reading()
    assert faults.refusing_connections
    faults.clear()
    assert not faults.refusing_connections


def test_faults_from_many_threads_are_used_up_exactly() -> None:
    faults = Faults()
    faults.refuse_auth(406, times=50)
    used: list[int] = []
    barrier = threading.Barrier(4)

    def use() -> None:
        barrier.wait(TIMEOUT)
        for _ in range(50):
            if faults.next_auth_refusal() is not None:
                used.append(1)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert len(used) == 50
