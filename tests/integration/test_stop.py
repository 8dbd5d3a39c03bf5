"""stop() ends every thread in under a second, whatever the server does."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream import (
    BreakerPolicy,
    ConnectionState,
    RealTimeStreamManager,
    ReconnectPolicy,
    StateChange,
    StreamConfig,
    StreamStoppedError,
)
from realtime_stream.simulator import AlpacaSimulator
from tests.support import Recorder, config, quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from ssl import SSLContext

LIMIT = 1.0  # seconds


def threads_of(manager: RealTimeStreamManager) -> list[threading.Thread]:
    name = repr(manager).split()[1].rstrip(":")
    return [t for t in threading.enumerate() if t.name.startswith(f"realtime-stream/{name}/")]


def stop_and_time(manager: RealTimeStreamManager) -> float:
    began = time.monotonic()
    manager.stop()
    elapsed = time.monotonic() - began
    assert threads_of(manager) == []
    assert manager.status().threads == ()
    return elapsed


@pytest.fixture(params=["plain", "tls"])
def server(
    request: pytest.FixtureRequest, server_tls: SSLContext, trusted: Path
) -> Iterator[AlpacaSimulator]:
    del trusted
    with AlpacaSimulator(ssl_context=server_tls if request.param == "tls" else None) as running:
        yield running
        running.faults.clear()


def started(
    server: AlpacaSimulator, state: ConnectionState, **settings: Any
) -> RealTimeStreamManager:
    """A manager that has reached ``state``."""
    manager = RealTimeStreamManager(config(server, **settings))
    manager.subscribe("quotes", "AAPL")
    changes = Recorder[StateChange]()
    manager.on_state_change(changes)
    manager.start(timeout=0)
    changes.wait_until(lambda items: any(change.current is state for change in items))
    return manager


def test_while_streaming(server: AlpacaSimulator) -> None:
    manager = started(server, ConnectionState.CONNECTED)
    received = Recorder[object]()
    manager.on_quote(received, "AAPL")
    for n in range(200):
        server.publish(quote(n=n))
    received.wait_for()
    assert stop_and_time(manager) < LIMIT


def test_with_a_mute_server(server: AlpacaSimulator) -> None:
    manager = started(server, ConnectionState.CONNECTED)
    server.faults.mute()
    assert stop_and_time(manager) < LIMIT


@pytest.mark.parametrize("stage", ["http", "greeting", "auth", "subscription"])
def test_during_a_silent_handshake(server: AlpacaSimulator, stage: Any) -> None:
    server.faults.silent_at(stage)
    manager = started(server, ConnectionState.CONNECTING)
    assert server.wait_for(lambda s: s.attempts >= 1)
    if stage == "subscription":
        assert server.wait_for(lambda s: len(s.received) >= 2)
    assert stop_and_time(manager) < LIMIT


def test_with_a_dead_tcp_peer(server: AlpacaSimulator) -> None:
    manager = started(server, ConnectionState.CONNECTED)
    server.faults.stop_reading()
    assert stop_and_time(manager) < LIMIT


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_with_a_server_that_accepts_and_says_nothing(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/v2/iex"
        manager = started_at(url)
        listener.accept()[0].close()
        assert stop_and_time(manager) < LIMIT


def test_with_a_tcp_peer_that_never_answers_the_connect() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:  # a full backlog drops every further SYN
            filler.setblocking(False)
            filler.connect_ex(address)
        manager = started_at(f"ws://127.0.0.1:{address[1]}/v2/iex")
        assert stop_and_time(manager) < LIMIT
        for filler in fillers:
            filler.close()


def started_at(url: str) -> RealTimeStreamManager:
    manager = RealTimeStreamManager(StreamConfig(url=url, api_key="key", secret_key="secret"))
    manager.subscribe("quotes", "AAPL")
    changes = Recorder[StateChange]()
    manager.on_state_change(changes)
    manager.start(timeout=0)
    changes.wait_until(lambda items: any(c.current is ConnectionState.CONNECTING for c in items))
    return manager


def test_behind_a_name_server_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """All threads end but the one inside the C library, which nothing can interrupt."""
    asked, released = threading.Event(), threading.Event()
    real: Callable[..., Any] = socket.getaddrinfo

    def hanging(*arguments: Any, flags: int = 0, **more: Any) -> Any:
        if flags & socket.AI_NUMERICHOST:
            return real(*arguments, flags=flags, **more)
        asked.set()
        released.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    manager = started_at("ws://name.example/v2/iex")
    assert asked.wait(5)
    began = time.monotonic()
    manager.stop()
    assert time.monotonic() - began < LIMIT
    left = threads_of(manager)
    assert [t.name.rpartition("/")[2] for t in left] == ["resolve"]
    assert manager.status().threads == (left[0].name,)
    released.set()
    left[0].join(5)
    assert manager.status().threads == ()


def test_during_backoff(server: AlpacaSimulator) -> None:
    server.faults.refuse_http(503)
    policy = ReconnectPolicy(initial=60, maximum=60, jitter=False)
    manager = started(server, ConnectionState.RECONNECTING, reconnect=policy)
    assert stop_and_time(manager) < LIMIT


def test_while_the_breaker_is_open(server: AlpacaSimulator) -> None:
    server.faults.refuse_http(503)
    breaker = BreakerPolicy(failure_threshold=1, reset_timeout=60)
    manager = started(server, ConnectionState.CIRCUIT_OPEN, breaker=breaker)
    assert stop_and_time(manager) < LIMIT


def test_while_another_thread_is_in_start(server: AlpacaSimulator) -> None:
    server.faults.silent_at("greeting")
    manager = RealTimeStreamManager(config(server))
    manager.subscribe("quotes", "AAPL")
    outcome: list[BaseException] = []

    def start() -> None:
        try:
            manager.start(timeout=30)
        except StreamStoppedError as exc:
            outcome.append(exc)

    starter = threading.Thread(target=start)
    starter.start()
    assert server.wait_for(lambda s: s.attempts >= 1)
    assert stop_and_time(manager) < LIMIT
    starter.join(5)
    assert len(outcome) == 1
