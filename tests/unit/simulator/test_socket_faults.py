"""Faults below the protocol: slow reading, and pings without an answer."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from tests.unit.simulator.client import TIMEOUT

if TYPE_CHECKING:
    from realtime_stream.simulator import AlpacaSimulator
    from tests.unit.simulator.conftest import Connect

QUOTE = {"T": "q", "S": "AAPL"}


def test_pings_without_an_answer(simulator: AlpacaSimulator, connect: Connect) -> None:
    client = connect(ping_interval=None).login()
    simulator.faults.ignore_pings()
    pong = client.socket.ping()
    assert client.subscribe(quotes=["AAPL"])["quotes"] == ["AAPL"]
    simulator.publish(QUOTE)
    assert client.receive() == [QUOTE]
    assert not pong.is_set()
    simulator.faults.clear()
    assert client.socket.ping().wait(TIMEOUT)
    assert simulator.drop(1001) == 1
    assert client.wait_closed() == 1001


def test_a_slow_reader_takes_requests_late(simulator: AlpacaSimulator, connect: Connect) -> None:
    client = connect(ping_interval=None, compression=None).login()
    simulator.faults.read_slowly(0.001)
    client.send(action="subscribe", quotes=["AAPL"])
    pong = client.socket.ping()
    simulator.publish_raw('"data go on"')
    assert client.socket.recv(TIMEOUT) == '"data go on"'
    assert not pong.is_set()
    simulator.faults.read_slowly(None)
    assert client.control()["quotes"] == ["AAPL"]
    assert pong.wait(TIMEOUT)


def test_the_pace_of_a_slow_reader(simulator: AlpacaSimulator, connect: Connect) -> None:
    client = connect(ping_interval=None, compression=None).login()
    simulator.faults.read_slowly(20_000)
    began = time.monotonic()
    client.send(action="subscribe", quotes=["A" * 20] * 250)  # 6 kB
    client.send(action="subscribe", bars=["AAPL"])
    assert client.control()["quotes"] == ["A" * 20]
    assert time.monotonic() - began > 0.2
    assert client.control()["bars"] == ["AAPL"]


def test_what_a_slow_reader_does_not_take_piles_up_at_the_client(
    simulator: AlpacaSimulator, connect: Connect
) -> None:
    client = connect(ping_interval=None, compression=None).login()
    simulator.faults.read_slowly(1)
    client.socket.socket.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.socket.socket.sendall(b"\x82\xff" + bytes(64_000_000))
    assert simulator.drop() == 1


def test_a_slow_reader_that_dies_and_comes_back(
    simulator: AlpacaSimulator, connect: Connect
) -> None:
    client = connect(ping_interval=None, compression=None).login()
    faults = simulator.faults
    faults.read_slowly(0.001)
    client.send(action="subscribe", quotes=["AAPL"])
    faults.stop_reading()
    faults.read_slowly(1_000_000)
    client.send(action="subscribe", bars=["AAPL"])
    faults.stop_reading(False)
    assert client.control()["quotes"] == ["AAPL"]
    assert client.control()["bars"] == ["AAPL"]


def test_a_slow_reader_changes_its_pace(simulator: AlpacaSimulator, connect: Connect) -> None:
    client = connect(ping_interval=None, compression=None).login()
    simulator.faults.read_slowly(0.001)
    client.send(action="subscribe", quotes=["AAPL"])
    pong = client.socket.ping()
    simulator.publish_raw('"here"')
    assert client.socket.recv(TIMEOUT) == '"here"'
    assert not pong.is_set()
    simulator.faults.read_slowly(1_000_000)
    assert client.control()["quotes"] == ["AAPL"]
    assert pong.wait(TIMEOUT)


def test_the_upgrade_is_read_slowly_too(simulator: AlpacaSimulator) -> None:
    simulator.faults.read_slowly(0.001)
    with socket.create_connection(("127.0.0.1", simulator.port), TIMEOUT) as raw:
        raw.sendall(b"GET /v2/none HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n")
        raw.sendall(b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")
        raw.sendall(b"Sec-WebSocket-Version: 13\r\n\r\n")
        assert simulator.wait_for(lambda s: s.attempts == 1)
        raw.settimeout(0.05)
        with pytest.raises(TimeoutError):
            raw.recv(1)
        simulator.faults.clear()
        raw.settimeout(TIMEOUT)
        assert raw.recv(12) == b"HTTP/1.1 404"


def test_a_slow_reader_is_dropped_with_the_others(
    simulator: AlpacaSimulator, connect: Connect
) -> None:
    client = connect(ping_interval=None).login()
    simulator.faults.read_slowly(0.001)
    client.send(action="subscribe", quotes=["AAPL"])
    simulator.drop(None)
    assert client.wait_closed() == 1006
    simulator.faults.clear()
    connect().login()


@pytest.mark.parametrize("rate", [0, -1, float("inf"), float("nan")])
def test_paces_that_make_no_sense(simulator: AlpacaSimulator, rate: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        simulator.faults.read_slowly(rate)
