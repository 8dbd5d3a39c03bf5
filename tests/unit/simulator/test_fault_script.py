"""Faults as values, and scripts of them."""

from __future__ import annotations

import math
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream.simulator import AlpacaSimulator, Fault, Faults, fault
from tests.unit.simulator.client import TIMEOUT, error

if TYPE_CHECKING:
    from tests.unit.simulator.conftest import Connect

QUOTE = {"T": "q", "S": "AAPL"}


def test_a_fault_is_a_value() -> None:
    one = fault("refuse_http", status=429, retry_after=2.5)
    assert one == fault("refuse_http", retry_after=2.5, status=429)
    assert one != fault("refuse_http", status=429)
    assert str(one) == "refuse_http(status=429, retry_after=2.5)"
    assert (one.name, dict(one.arguments)) == ("refuse_http", {"status": 429, "retry_after": 2.5})
    assert str(fault("clear")) == "clear()"
    with pytest.raises(AttributeError):
        one.name = "mute"  # type: ignore[misc]  # the point of the test
    with pytest.raises(TypeError):
        one.arguments["status"] = 503  # type: ignore[index]  # the point of the test


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("explode", {}, r"unknown fault 'explode'; allowed are clear, delay, .*send_garbage"),
        ("next_auth_refusal", {}, "unknown fault"),
        ("_reset", {}, "unknown fault"),
        ("mute", {"sound": 1}, "its arguments are on, market, channels, symbols"),
        ("clear", {"all": True}, "its arguments are none"),
        ("refuse_http", {}, "missing a required argument: 'status'"),
        ("refuse_http", {"status": 799}, "799"),
        ("silent_at", {"stage": "lunch"}, "allowed are http"),
        ("delay", {"seconds": -1}, "zero or more"),
        ("delay", {"seconds": "long"}, "delay: "),
        ("mute", {"market": "bonds"}, "unknown market"),
        ("drop", {"code": 999}, "cannot be sent"),
        ("drop", {"reason": "x" * 200}, "123 bytes"),
        ("send_garbage", {"kind": "rubbish"}, "unknown garbage"),
        ("rest_error", {"status": 200}, "not the status of an error"),
        ("rest_garbage", {"kind": "noise"}, "allowed are text, cut"),
        ("rest_rate_limit", {"per_minute": -1}, "zero or more"),
        ("rest_recent_forbidden", {"feeds": "sip"}, "collection of names"),
        ("history_lag", {"seconds": -1}, "zero or more"),
        ("send_error", {"text": "no"}, "its arguments are code, message"),
    ],
)
def test_wrong_faults_are_refused_at_once(name: str, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fault(name, **arguments)


def test_every_switch_can_stand_in_a_script(simulator: AlpacaSimulator) -> None:
    faults = [
        fault("refuse_http", status=503, times=1),
        fault("refuse_auth", code=402),
        fault("silent_at", stage="auth"),
        fault("delay_at", stage="auth", seconds=1),
        fault("garbage_greeting", data=b"\xc1"),
        fault("error_at", stage="data", code=500),
        fault("refuse_subscription", code=405),
        fault("partial_acknowledgement", symbols=["AAPL"]),
        fault("lose_acknowledgement"),
        fault("hold_slot", seconds=1),
        fault("mute", symbols=["AAPL"]),
        fault("delay", seconds=1),
        fault("duplicate", every=2),
        fault("reorder", window=2),
        fault("skew", seconds=-1.5),
        fault("refuse_connections"),
        fault("stop_reading"),
        fault("read_slowly", bytes_per_second=1),
        fault("ignore_pings"),
        fault("rest_error", status=500, times=2, retry_after=1),
        fault("rest_delay", seconds=1),
        fault("rest_silent", times=1),
        fault("rest_garbage", kind="cut"),
        fault("rest_drop", times=0),
        fault("rest_recent_forbidden", minutes=15),
        fault("rest_rate_limit", per_minute=200),
        fault("history_lag", seconds=2),
        fault("drop", code=None),
        fault("send_error", code=500, message="why"),
        fault("send_garbage", kind="empty"),
        fault("clear"),
    ]
    switches = {name for base in Faults.__mro__[:3] for name in vars(base) if name[0] != "_"}
    assert {each.name for each in faults} == switches | {"drop", "send_error", "send_garbage"}
    handle = simulator.play_faults((0, each) for each in faults)
    assert handle.wait(TIMEOUT)
    assert (handle.applied, handle.finished) == (len(faults), True)
    assert simulator.faults.next_auth_refusal() is None  # clear() was the last


def test_faults_come_in_the_order_of_their_times(
    simulator: AlpacaSimulator, connect: Connect
) -> None:
    client = connect().login()
    client.subscribe(quotes=["*"])
    script = [
        (4.0, fault("drop", code=1012, reason="the end")),
        (2.0, fault("send_error", code=500)),
        (2.0, fault("send_error", code=407, message="slower")),
        (0.0, fault("send_garbage", kind="empty")),
    ]
    began = time.monotonic()
    handle = simulator.play_faults(script, speed=20)
    assert client.socket.recv(TIMEOUT) == ""
    assert client.control() == error(500, "internal error")
    assert client.control() == error(407, "slower")
    assert client.wait_closed() == 1012
    assert 0.15 < time.monotonic() - began < TIMEOUT
    assert handle.wait(TIMEOUT)
    assert handle.applied == 4


def test_the_listening_socket_in_a_script(simulator: AlpacaSimulator, connect: Connect) -> None:
    outage = [(0.0, fault("refuse_connections")), (0.0, fault("drop", code=None))]
    client = connect().login()
    assert simulator.play_faults(outage).wait(TIMEOUT)
    assert client.wait_closed() == 1006
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", simulator.port), TIMEOUT)
    end = [(0.0, fault("refuse_connections", on=False)), (0.0, fault("clear"))]
    assert simulator.play_faults(end).wait(TIMEOUT)
    connect().login()


def test_a_dead_peer_in_a_script(simulator: AlpacaSimulator, connect: Connect) -> None:
    client = connect(ping_interval=None).login()
    client.subscribe(quotes=["*"])
    assert simulator.play_faults([(0, fault("stop_reading"))]).wait(TIMEOUT)
    simulator.publish(QUOTE)
    assert simulator.play_faults([(0, fault("stop_reading", on=False))]).wait(TIMEOUT)
    simulator.publish({**QUOTE, "bx": "V"})
    assert client.receive() == [{**QUOTE, "bx": "V"}]
    assert [entry.sessions for entry in simulator.ledger] == [0, 1]


def test_scripts_run_side_by_side_and_with_calls(simulator: AlpacaSimulator) -> None:
    flapping = [(0.0, fault("refuse_connections", on=bool(n % 2))) for n in range(50)]
    handles = [simulator.play_faults(flapping) for _ in range(3)]
    for n in range(20):
        simulator.faults.refuse_connections(bool(n % 2))
    assert all(handle.wait(TIMEOUT) for handle in handles)
    simulator.faults.clear()
    socket.create_connection(("127.0.0.1", simulator.port), TIMEOUT).close()


def test_a_cancelled_script_applies_nothing_more(simulator: AlpacaSimulator) -> None:
    handle = simulator.play_faults([(0, fault("ignore_pings")), (3600, fault("clear"))])
    assert not handle.wait(0)
    handle.cancel()
    assert handle.wait(TIMEOUT)
    handle.cancel()
    assert handle.applied == 1
    assert simulator.faults.ignoring_pings


def test_stopping_the_simulator_ends_scripts() -> None:
    with AlpacaSimulator() as simulator:
        later = simulator.play_faults([(3600, fault("clear"))])
        flapping = [(0.0, fault("refuse_connections", on=bool(n % 2))) for n in range(10_000)]
        busy = simulator.play_faults(flapping)
    assert later.wait(0)
    assert busy.wait(0)
    assert later.applied == 0
    with simulator:  # its port is free, whatever the script was doing
        simulator.faults.clear()
        socket.create_connection(("127.0.0.1", simulator.port), TIMEOUT).close()


def test_a_fault_that_fails_ends_the_script(simulator: AlpacaSimulator) -> None:
    script = [(0.0, Fault("duplicate", {"every": -1})), (0.0, fault("clear"))]
    handle = simulator.play_faults(script)
    for _ in range(2):
        with pytest.raises(ValueError, match="zero or more"):
            handle.wait(TIMEOUT)
    assert (handle.applied, handle.finished) == (0, True)


@pytest.mark.parametrize("speed", [0, -1, math.nan, math.inf])
def test_speeds_that_make_no_sense(simulator: AlpacaSimulator, speed: float) -> None:
    with pytest.raises(ValueError, match="speed must be positive"):
        simulator.play_faults([], speed=speed)


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf])
def test_times_that_make_no_sense(simulator: AlpacaSimulator, seconds: float) -> None:
    with pytest.raises(ValueError, match="cannot come at"):
        simulator.play_faults([(seconds, fault("clear"))])


def test_what_is_no_fault(simulator: AlpacaSimulator) -> None:
    with pytest.raises(TypeError, match="consists of seconds and faults"):
        simulator.play_faults([(0, "clear")])  # type: ignore[list-item]  # the point of the test


def test_a_script_needs_a_running_simulator() -> None:
    simulator = AlpacaSimulator()
    with pytest.raises(RuntimeError, match="not running"):
        simulator.play_faults([])
    with simulator:
        assert simulator.play_faults([]).wait(TIMEOUT)
    with pytest.raises(RuntimeError, match="not running"):
        simulator.play_faults([])


def test_many_threads_may_start_scripts(simulator: AlpacaSimulator) -> None:
    done: list[bool] = []

    def play() -> None:
        done.append(simulator.play_faults([(0, fault("skew", seconds=1))] * 20).wait(TIMEOUT))

    threads = [threading.Thread(target=play) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert done == [True] * 8
