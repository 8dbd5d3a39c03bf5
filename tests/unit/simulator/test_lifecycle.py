"""Starting and stopping: ports, threads, TLS, and clients that do not play along."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING

import pytest
import trustme
import websocket

from realtime_stream.simulator import SIMULATOR_KEY, SIMULATOR_SECRET, AlpacaSimulator
from tests.unit.simulator.client import TIMEOUT, Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.unit.simulator.conftest import Connect

LIMIT = 0.9  # seconds
ANY_ADDRESS = "0.0.0.0"  # noqa: S104  # for a moment, and it accepts nobody else


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("alpaca-")]


@contextlib.contextmanager
def subscriber(
    simulator: AlpacaSimulator, client_tls: ssl.SSLContext, feed: str = "iex"
) -> Iterator[websocket.WebSocket]:
    """Subscribed to quotes of AAPL; reads only when it is told to, on the thread that writes."""
    client = websocket.create_connection(
        simulator.url(feed=feed), timeout=TIMEOUT, sslopt={"context": client_tls}
    )
    try:
        for request in (
            {"action": "auth", "key": SIMULATOR_KEY, "secret": SIMULATOR_SECRET},
            {"action": "subscribe", "quotes": ["AAPL"]},
        ):
            client.recv()
            client.send(json.dumps(request))
        assert '"quotes":["AAPL"]' in client.recv()
        yield client
    finally:
        client.shutdown()  # type: ignore[no-untyped-call]  # theirs


def stop_and_time(simulator: AlpacaSimulator) -> float:
    began = time.monotonic()
    simulator.stop()
    elapsed = time.monotonic() - began
    assert threads() == []
    return elapsed


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_starting_and_stopping_twice_is_harmless(connect: Connect) -> None:
    simulator = AlpacaSimulator()
    assert simulator.port == 0
    simulator.stop()
    simulator.start()
    simulator.start()
    port = simulator.port
    assert len(threads()) == 2  # the fixture's is the other
    connect(to=simulator).login()
    simulator.stop()
    simulator.stop()
    with simulator:
        assert simulator.port == port
        connect(to=simulator).login()
    assert (simulator.attempts, simulator.authenticated) == (2, 2)


def test_clients_are_told_that_the_server_goes_away() -> None:
    simulator = AlpacaSimulator()
    simulator.start()
    with Client(simulator.url()) as client:
        client.login()
        assert stop_and_time(simulator) < LIMIT
        assert client.wait_closed() == 1001
    assert simulator.sessions() == ()


def test_what_needs_a_running_simulator_says_so() -> None:
    simulator = AlpacaSimulator()
    calls: list[Callable[[], object]] = [
        simulator.drop,
        lambda: simulator.publish({"T": "q", "S": "A"}),
        lambda: simulator.publish_raw(b""),
        lambda: simulator.send_error(500),
        lambda: simulator.play([]),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="not running"):
            call()
    with simulator:
        pass
    for call in calls:
        with pytest.raises(RuntimeError, match="not running"):
            call()


def test_a_taken_port_is_told_and_leaves_nothing_behind() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        simulator = AlpacaSimulator(port=taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            simulator.start()
    simulator.start()
    assert stop_and_time(simulator) < LIMIT


def test_a_start_that_fails_late_leaves_nothing_behind() -> None:
    simulator = AlpacaSimulator(ssl_context=True)  # type: ignore[arg-type]  # as a user might
    with pytest.raises(TypeError):
        simulator.start()
    assert threads() == []


@pytest.mark.parametrize(
    ("host", "shown"), [(ANY_ADDRESS, "127.0.0.1"), ("localhost", "localhost"), ("::1", "[::1]")]
)
def test_addresses(connect: Connect, host: str, shown: str) -> None:
    with AlpacaSimulator(host=host) as simulator:
        assert simulator.url() == f"ws://{shown}:{simulator.port}/v2/iex"
        connect(to=simulator).login()


def test_over_tls(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    with AlpacaSimulator(ssl_context=server_tls) as simulator:
        assert simulator.url().startswith("wss://")
        with subscriber(simulator, client_tls) as client:
            simulator.publish({"T": "q", "S": "AAPL"})
            assert client.recv() == '[{"T":"q","S":"AAPL"}]'
            assert simulator.drop(None) == 1
            with pytest.raises((ConnectionError, websocket.WebSocketException)):
                client.recv()
        with pytest.raises(ssl.SSLCertVerificationError):
            websocket.create_connection(simulator.url(), timeout=TIMEOUT)
        assert simulator.wait_for(lambda s: s.attempts == 2)
        assert simulator.handshakes == 1


def test_stopping_while_a_tls_handshake_hangs(server_tls: ssl.SSLContext) -> None:
    simulator = AlpacaSimulator(ssl_context=server_tls)
    simulator.start()
    with socket.create_connection(("127.0.0.1", simulator.port), TIMEOUT) as raw:
        assert simulator.wait_for(lambda s: s.attempts == 1)
        assert stop_and_time(simulator) < LIMIT
        assert raw.recv(1) == b""


@pytest.mark.parametrize("secure", [False, True])
def test_stopping_with_clients_that_do_not_play_along(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, *, secure: bool
) -> None:
    """One out of reach, one that takes nothing, and one whose upgrade is not answered."""
    simulator = AlpacaSimulator(ssl_context=server_tls if secure else None)
    simulator.start()
    with contextlib.ExitStack() as stack:
        stack.enter_context(subscriber(simulator, client_tls))
        simulator.faults.stop_reading()
        stack.enter_context(subscriber(simulator, client_tls, "sip"))
        simulator.faults.silent_at("http")
        raw = stack.enter_context(socket.create_connection(("127.0.0.1", simulator.port), TIMEOUT))
        if secure:
            raw = stack.enter_context(client_tls.wrap_socket(raw, server_hostname="127.0.0.1"))
        raw.sendall(b"GET /v2/iex HTTP/1.1\r\nHost: a\r\n\r\n")
        assert simulator.wait_for(lambda s: s.attempts == 3)
        for _ in range(20):
            simulator.publish({"T": "q", "S": "AAPL", "x": "x" * 1_000_000})
        assert stop_and_time(simulator) < LIMIT


def test_stopping_during_a_closing_handshake_nobody_answers() -> None:
    simulator = AlpacaSimulator()
    simulator.start()
    with socket.create_connection(("127.0.0.1", simulator.port), TIMEOUT) as raw:
        raw.sendall(
            b"GET /v2/iex HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert simulator.wait_for(lambda s: len(s.sessions()) == 1)
        assert simulator.drop() == 1
        assert simulator.drop() == 0
        assert stop_and_time(simulator) < LIMIT


def test_clients_that_vanish(simulator: AlpacaSimulator) -> None:
    for request in (b"", b"nonsense\r\n\r\n", b"GET /v2/iex HTTP/1.1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", simulator.port), TIMEOUT) as raw:
            raw.sendall(request)
    assert simulator.wait_for(lambda s: s.attempts == 3)
    with Client(simulator.url()) as client:
        client.login()
        client.socket.socket.shutdown(socket.SHUT_RDWR)
        assert simulator.wait_for(lambda s: not s.sessions())


def test_waiting_ends_at_the_deadline(simulator: AlpacaSimulator) -> None:
    assert not simulator.wait_for(lambda s: s.attempts > 0, timeout=0.01)
    assert not simulator.wait_for(lambda s: s.attempts > 0, timeout=0)
    assert simulator.wait_for(lambda s: s.attempts == 0, timeout=0)


def test_a_predicate_may_use_the_simulator(simulator: AlpacaSimulator) -> None:
    assert simulator.wait_for(lambda s: s.drop() == 0)


def test_blocking_calls_on_the_simulators_own_thread_are_refused(
    simulator: AlpacaSimulator,
) -> None:
    def source() -> object:
        yield 0, {"T": "q", "S": str(simulator.drop())}

    handle = simulator.play(source())  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="own thread"):
        handle.wait(TIMEOUT)


def test_many_threads_publish_in_their_own_order(
    simulator: AlpacaSimulator, connect: Connect
) -> None:
    client = connect().login()
    client.subscribe(trades=["*"])

    def publish(symbol: str) -> None:
        for number in range(100):
            simulator.publish({"T": "t", "S": symbol, "i": number})

    publishers = [threading.Thread(target=publish, args=(symbol,)) for symbol in ("A", "B", "C")]
    for each in publishers:
        each.start()
    seen: dict[str, list[int]] = {"A": [], "B": [], "C": []}
    for _ in range(300):
        (message,) = client.receive()
        seen[message["S"]].append(message["i"])
    assert seen == {symbol: list(range(100)) for symbol in "ABC"}
    for each in publishers:
        each.join(TIMEOUT)
    assert [entry.sequence for entry in simulator.ledger] == list(range(1, 301))
