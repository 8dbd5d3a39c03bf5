"""Faults between the upgrade and the subscription: late answers, errors, held places."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from realtime_stream.simulator import SIMULATOR_KEY, SIMULATOR_SECRET, AlpacaSimulator
from tests.unit.simulator.client import TIMEOUT, Client, error

if TYPE_CHECKING:
    from tests.unit.simulator.conftest import Connect

LONG = 3600.0  # seconds; nothing waits that long
UPGRADE = (
    b"GET /v2/iex HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
HEADERS = {"APCA-API-KEY-ID": SIMULATOR_KEY, "APCA-API-SECRET-KEY": SIMULATOR_SECRET}


def pending(client: Client) -> bool:
    """Whether nothing has come before the answer to a ping."""
    assert client.socket.ping().wait(TIMEOUT)
    with contextlib.suppress(TimeoutError):
        client.socket.recv(0)
        return False
    return True


# --- late answers ---


def test_a_late_upgrade(simulator: AlpacaSimulator) -> None:
    simulator.faults.delay_at("http", LONG)
    with socket.create_connection(("127.0.0.1", simulator.port), TIMEOUT) as raw:
        raw.sendall(UPGRADE)
        assert simulator.wait_for(lambda s: s.attempts == 1)
        with pytest.raises(TimeoutError):
            simulator_answers(raw, 0.05)
        simulator.faults.delay_at("http", 0)
        assert simulator_answers(raw, TIMEOUT).startswith(b"HTTP/1.1 101")
    assert simulator.wait_for(lambda s: s.handshakes == 1)


def simulator_answers(raw: socket.socket, timeout: float) -> bytes:
    raw.settimeout(timeout)
    return raw.recv(100)


def test_a_late_refusal_of_the_upgrade(simulator: AlpacaSimulator) -> None:
    simulator.faults.delay_at("http", 0.05)
    simulator.faults.refuse_http(429, retry_after=1)
    with pytest.raises(InvalidStatus):
        Client(simulator.url())


def test_a_client_that_leaves_before_the_late_upgrade(simulator: AlpacaSimulator) -> None:
    simulator.faults.delay_at("http", LONG)
    with socket.create_connection(("127.0.0.1", simulator.port), TIMEOUT) as raw:
        raw.sendall(UPGRADE)
        assert simulator.wait_for(lambda s: s.attempts == 1)
        with pytest.raises(TimeoutError):
            simulator_answers(raw, 0.05)
        assert simulator.drop() == 1
        with contextlib.suppress(ConnectionResetError):
            assert simulator_answers(raw, TIMEOUT) == b""
    simulator.faults.clear()
    with Client(simulator.url()) as client:
        client.login()
    assert simulator.handshakes == 1


@pytest.mark.parametrize("seconds", [LONG, 0.05])
def test_a_late_greeting(simulator: AlpacaSimulator, connect: Connect, seconds: float) -> None:
    simulator.faults.delay_at("greeting", seconds)
    client = connect()
    client.send(action="auth", key=SIMULATOR_KEY, secret=SIMULATOR_SECRET)
    client.socket.send("nonsense")
    assert simulator.wait_for(lambda s: s.auth_attempts == 1)
    if seconds == LONG:
        assert pending(client)
        simulator.faults.clear()
    assert [client.control()["msg"], client.control()["msg"]] == ["connected", "authenticated"]
    assert client.control() == error(400, "invalid syntax")


def test_a_late_authentication_takes_effect_late(
    simulator: AlpacaSimulator, connect: Connect
) -> None:
    simulator.faults.delay_at("auth", LONG)
    client, other = connect(), connect(headers=HEADERS)
    assert [client.control()["msg"], other.control()["msg"]] == ["connected"] * 2
    client.send(action="auth", key=SIMULATOR_KEY, secret=SIMULATOR_SECRET)
    client.send(action="subscribe", quotes=["AAPL"])
    assert simulator.wait_for(lambda s: s.auth_attempts == 2)
    assert pending(client)
    assert simulator.authenticated == 0
    simulator.publish({"T": "q", "S": "AAPL"})
    simulator.faults.delay_at("auth", 0.01)  # still late: what waits goes on waiting
    simulator.faults.delay_at("auth", 0)
    answers = {client.control()["msg"], other.control()["msg"]}
    assert answers == {"authenticated", "connection limit exceeded"}


def test_the_servers_own_lateness_is_no_auth_timeout(connect: Connect) -> None:
    with AlpacaSimulator(auth_timeout=0.05) as simulator:
        simulator.faults.delay_at("auth", 0.2)
        good, bad = connect(to=simulator), connect(feed="sip", to=simulator)
        assert [good.control()["msg"], bad.control()["msg"]] == ["connected"] * 2
        bad.send(action="auth", key="nobody", secret="")
        assert good.auth()["msg"] == "authenticated"
        assert bad.control()["code"] == 402
        assert bad.control() == error(404, "auth timeout")
        assert bad.wait_closed() == 1000
        assert good.subscribe(quotes=["AAPL"])["quotes"] == ["AAPL"]


@pytest.mark.parametrize("seconds", [LONG, 0.05])
def test_a_late_acknowledgement(
    simulator: AlpacaSimulator, connect: Connect, seconds: float
) -> None:
    client = connect().login()
    simulator.faults.delay_at("subscription", seconds)
    client.send(action="subscribe", quotes=["AAPL"])
    client.send(action="unsubscribe", quotes=["AAPL"])
    assert simulator.wait_for(lambda s: len(s.received) == 3)
    if seconds == LONG:
        assert pending(client)
        simulator.faults.clear()
    assert [client.control()["quotes"], client.control()["quotes"]] == [["AAPL"], []]


@pytest.mark.parametrize("stage", ["greeting", "auth", "subscription"])
def test_sessions_end_while_an_answer_waits(connect: Connect, stage: str) -> None:
    with AlpacaSimulator() as simulator:
        client = connect(to=simulator)
        if stage == "subscription":
            client.login()
        else:
            simulator.faults.delay_at(stage, LONG)  # type: ignore[arg-type]  # it is one of them
            if stage == "auth":
                client = connect(feed="sip", to=simulator)
                client.control()
        simulator.faults.delay_at(stage, LONG)  # type: ignore[arg-type]  # it is one of them
        client.send(action="auth", key=SIMULATOR_KEY, secret=SIMULATOR_SECRET)
        client.send(action="subscribe", quotes=["AAPL"])
        assert simulator.wait_for(lambda s: len(s.received) >= 2)
        assert simulator.drop(1001) >= 1
        assert client.wait_closed() == 1001
        simulator.faults.clear()
        assert simulator.sessions() == ()


def test_delays_that_make_no_sense(simulator: AlpacaSimulator) -> None:
    with pytest.raises(ValueError, match="allowed are http, greeting, auth, subscription"):
        simulator.faults.delay_at("lunch", 1)  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(ValueError, match="zero or more"):
        simulator.faults.delay_at("auth", -1)


# --- errors at any point ---


def test_an_error_instead_of_the_greeting(simulator: AlpacaSimulator, connect: Connect) -> None:
    simulator.faults.error_at("greeting", 500)
    client = connect()
    assert client.control() == error(500, "internal error")
    assert client.auth()["msg"] == "authenticated"
    client.socket.close()
    assert connect(feed="sip").control()["msg"] == "connected"


def test_an_error_instead_of_the_authentication(
    simulator: AlpacaSimulator, connect: Connect
) -> None:
    simulator.faults.error_at("auth", 500, times=None)
    client = connect()
    client.control()
    assert client.auth(key="nobody")["code"] == 402  # it would not have been authenticated
    assert [client.auth()["code"], client.auth()["code"]] == [500, 500]
    assert client.subscribe(quotes=["AAPL"])["code"] == 401
    simulator.faults.clear()
    assert client.auth()["msg"] == "authenticated"


def test_an_error_after_the_acknowledgement(simulator: AlpacaSimulator, connect: Connect) -> None:
    client = connect().login()
    simulator.faults.error_at("subscription", 405)
    assert client.unsubscribe()["quotes"] == []
    assert client.subscribe(quotes=["AAPL"])["quotes"] == ["AAPL"]
    assert client.control() == error(405, "symbol limit exceeded")
    assert client.subscribe(bars=["AAPL"])["quotes"] == ["AAPL"]
    assert pending(client)


def test_points_at_which_there_are_no_errors(simulator: AlpacaSimulator) -> None:
    with pytest.raises(ValueError, match="allowed are greeting, auth, subscription, data"):
        simulator.faults.error_at("http", 500)  # type: ignore[arg-type]  # the point of the test


# --- lost acknowledgements, held places ---


def test_a_lost_acknowledgement(simulator: AlpacaSimulator, connect: Connect) -> None:
    client = connect().login()
    simulator.faults.lose_acknowledgement()
    client.send(action="subscribe", quotes=["AAPL"])
    wanted = frozenset({("quotes", "AAPL")})
    assert simulator.wait_for(lambda s: s.sessions()[0].subscriptions == wanted)
    assert pending(client)
    simulator.publish({"T": "q", "S": "AAPL"})
    assert client.receive() == [{"T": "q", "S": "AAPL"}]
    assert client.subscribe(bars=["AAPL"])["quotes"] == ["AAPL"]
    simulator.faults.lose_acknowledgement(times=None)
    assert client.unsubscribe()["bars"] == ["AAPL"]  # only those of subscribe requests
    client.send(action="subscribe", trades=["AAPL"])
    simulator.faults.clear()
    assert client.unsubscribe()["trades"] == ["AAPL"]


@pytest.mark.parametrize("ended_by", ["client", "server"])
def test_a_place_that_stays_taken(
    simulator: AlpacaSimulator, connect: Connect, ended_by: str
) -> None:
    first = connect().login()
    simulator.faults.hold_slot(LONG)
    if ended_by == "client":
        first.socket.close()
        assert simulator.wait_for(lambda s: s.sessions() == ())
    else:
        simulator.drop(None)
    second, elsewhere = connect(), connect(feed="sip")
    second.control()
    assert second.auth() == error(406, "connection limit exceeded")
    elsewhere.login()  # another endpoint has places of its own
    simulator.faults.clear()
    assert second.auth()["msg"] == "authenticated"


def test_a_place_is_free_in_the_end(simulator: AlpacaSimulator, connect: Connect) -> None:
    simulator.faults.hold_slot(0.2)
    connect().login()
    stranger = connect(feed="sip")  # holds no place
    stranger.control()
    simulator.drop()
    assert stranger.wait_closed() == 1000
    connect(feed="sip").login()
    client = connect()
    client.control()
    assert client.auth()["code"] == 406
    deadline = time.monotonic() + TIMEOUT
    while client.auth()["msg"] != "authenticated":
        assert time.monotonic() < deadline


def test_dropped_while_nobody_listens_any_more(simulator: AlpacaSimulator) -> None:
    simulator.faults.delay_at("http", LONG)
    with socket.create_connection(("127.0.0.1", simulator.port), TIMEOUT) as raw:
        raw.sendall(UPGRADE)
        assert simulator.wait_for(lambda s: s.attempts == 1)
    simulator.faults.clear()
    with contextlib.suppress(ConnectionClosed), Client(simulator.url()) as client:
        client.login()
