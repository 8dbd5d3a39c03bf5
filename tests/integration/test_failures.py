"""Every way a connection fails ends in its documented state, after the allowed attempts."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream import (
    AuthenticationError,
    BreakerPolicy,
    BreakerState,
    ConfigurationError,
    ConnectionState,
    DisconnectEvent,
    ErrorEvent,
    FailureKind,
    InsufficientSubscriptionError,
    LifecycleState,
    RealTimeStreamManager,
    ReconnectPolicy,
    StartTimeoutError,
    StateChange,
    StreamConfig,
    StreamFailedError,
    StreamingError,
    SubscriptionRefusedError,
)
from realtime_stream.simulator import AlpacaSimulator
from tests.support import Recorder, config, quote

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.conftest import NewManager

FIVE = ReconnectPolicy(initial=0.01, maximum=0.02, max_attempts=5)


def our_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("realtime-stream/")]


def wanting(manager: RealTimeStreamManager) -> RealTimeStreamManager:
    manager.subscribe("quotes", "AAPL")
    return manager


@pytest.mark.parametrize(
    ("arrange", "expected"),
    [
        (lambda faults: faults.refuse_auth(402), AuthenticationError),
        (lambda faults: faults.refuse_auth(409), InsufficientSubscriptionError),
        (lambda faults: faults.refuse_auth(411), InsufficientSubscriptionError),
        (lambda faults: faults.refuse_http(401), AuthenticationError),
        (lambda faults: faults.refuse_http(403), AuthenticationError),
        (lambda faults: faults.refuse_subscription(410), SubscriptionRefusedError),
    ],
    ids=["402", "409", "411", "http401", "http403", "everything-refused"],
)
def test_what_cannot_be_cured_fails_at_once(
    simulator: AlpacaSimulator,
    new_manager: NewManager,
    arrange: Callable[[Any], None],
    expected: type[StreamingError],
) -> None:
    arrange(simulator.faults)
    manager = wanting(new_manager())
    with pytest.raises(expected):
        manager.start()
    assert manager.status().lifecycle is LifecycleState.FAILED
    assert manager.status().connection is ConnectionState.DISCONNECTED
    assert simulator.attempts == 1
    assert our_threads() == []
    with pytest.raises(StreamFailedError) as caught:
        manager.latest_quote("AAPL")
    assert isinstance(caught.value.__cause__, expected)
    simulator.faults.clear()
    assert manager.start() is ConnectionState.CONNECTED


@pytest.mark.parametrize(
    ("arrange", "kind"),
    [
        (lambda faults: faults.refuse_auth(404), FailureKind.SERVER_ERROR),
        (lambda faults: faults.refuse_auth(500), FailureKind.SERVER_ERROR),
        (lambda faults: faults.refuse_http(404), FailureKind.HANDSHAKE),
        (lambda faults: faults.refuse_http(503), FailureKind.HANDSHAKE),
        (lambda faults: faults.refuse_connections(), FailureKind.CONNECTION),
        (lambda faults: faults.garbage_greeting(b"\xc1\xc1"), FailureKind.PROTOCOL),
        (lambda faults: faults.garbage_greeting(b""), FailureKind.PROTOCOL),
        (lambda faults: faults.garbage_greeting(b"\x91\x81\xa1T\xa1q"), FailureKind.PROTOCOL),
    ],
    ids=["404", "500", "http404", "http503", "refused", "garbage", "empty", "data-first"],
)
def test_what_may_pass_is_tried_as_often_as_the_policy_allows(
    simulator: AlpacaSimulator,
    new_manager: NewManager,
    arrange: Callable[[Any], None],
    kind: FailureKind,
) -> None:
    arrange(simulator.faults)
    before = simulator.attempts
    manager = wanting(new_manager(reconnect=FIVE))
    with pytest.raises(StreamingError):
        manager.start()
    status = manager.status()
    assert status.lifecycle is LifecycleState.FAILED
    assert status.attempts == 5
    assert simulator.attempts - before == (0 if kind is FailureKind.CONNECTION else 5)
    assert status.last_error is not None
    assert status.last_error.kind is kind
    assert our_threads() == []


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1008, 1011])
def test_a_closed_connection_comes_back(
    simulator: AlpacaSimulator, new_manager: NewManager, code: int
) -> None:
    manager = wanting(new_manager())
    lost, found = Recorder[DisconnectEvent](), Recorder[object]()
    quotes = Recorder[object]()
    manager.on_quote(quotes, "AAPL")
    manager.on_disconnect(lost)
    manager.on_connect(found)
    manager.start()
    simulator.drop(code)
    failure = lost.wait_for()[0].failure
    assert failure is not None
    assert (failure.kind, failure.code) == (FailureKind.CLOSED, code)
    found.wait_for(2)
    simulator.publish(quote())
    quotes.wait_for()
    assert simulator.attempts == 2
    assert manager.status().sessions == 2


def test_the_server_that_comes_back_is_found(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    simulator.faults.refuse_http(503, times=3)
    manager = wanting(new_manager())
    assert manager.start() is ConnectionState.CONNECTED
    assert simulator.attempts == 4


def test_http_429_waits_as_long_as_the_server_asks(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    simulator.faults.refuse_http(429, retry_after=30)
    manager = wanting(new_manager())
    errors = Recorder[ErrorEvent]()
    waiting = Recorder[StateChange]()
    manager.on_error(errors)
    manager.on_state_change(waiting)
    manager.start(timeout=0)
    errors.wait_for()
    waiting.wait_until(lambda cs: any(c.current is ConnectionState.RECONNECTING for c in cs))
    status = manager.status()
    assert status.last_error is not None
    assert (status.last_error.kind, status.last_error.min_wait) == (FailureKind.RATE_LIMIT, 30)
    assert status.attempts == 1
    assert simulator.attempts == 1


def test_406_leaves_the_holder_alone_and_waits_at_least_five_seconds(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    holder = wanting(new_manager())
    holder.start()
    newcomer = wanting(new_manager())
    with pytest.raises(StartTimeoutError) as caught:
        newcomer.start(timeout=1.5)
    assert "406" in str(caught.value)
    last = newcomer.status().last_error
    assert last is not None
    assert (last.kind, last.min_wait) == (FailureKind.CONNECTION_LIMIT, 5.0)
    assert newcomer.status().attempts == 1
    assert holder.is_connected()
    assert holder.status().sessions == 1


def test_the_breaker_is_asked_before_each_attempt(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    simulator.faults.refuse_http(503)
    manager = wanting(new_manager(breaker=BreakerPolicy(failure_threshold=3, reset_timeout=60)))
    changes = Recorder[StateChange]()
    manager.on_state_change(changes)
    manager.start(timeout=0)
    changes.wait_until(lambda cs: any(c.current is ConnectionState.CIRCUIT_OPEN for c in cs))
    status = manager.status()
    assert status.attempts == simulator.attempts == 3
    assert status.breaker is not None
    assert status.breaker.state is BreakerState.OPEN
    assert status.next_attempt_in > 50
    simulator.faults.clear()
    assert manager.restart(timeout=10) is ConnectionState.CONNECTED  # the user's word resets it


def test_the_half_open_breaker_lets_one_attempt_through(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    simulator.faults.refuse_http(503, times=2)
    breaker = BreakerPolicy(failure_threshold=1, reset_timeout=0.2)
    manager = wanting(new_manager(breaker=breaker, stable_after=0))
    assert manager.start() is ConnectionState.CONNECTED
    assert simulator.attempts == 3
    info = manager.status().breaker
    assert info is not None
    assert (info.state, info.opened) == (BreakerState.CLOSED, 2)


def test_an_unknown_host_is_tried_again_and_named() -> None:
    manager = RealTimeStreamManager(
        StreamConfig(
            url="ws://does-not-exist.invalid/v2/iex", api_key="k", secret_key="s", reconnect=FIVE
        )
    )
    wanting(manager)
    with pytest.raises(StreamingError, match="host name"):
        manager.start()
    assert manager.status().attempts == 5
    last = manager.status().last_error
    assert last is not None
    assert last.kind is FailureKind.NAME_RESOLUTION


def test_an_untrusted_certificate_is_told(server_tls: Any) -> None:
    with AlpacaSimulator(ssl_context=server_tls) as server:
        manager = wanting(RealTimeStreamManager(config(server, reconnect=FIVE)))
        with pytest.raises(StreamingError, match="certificate is not trusted"):
            manager.start()
        last = manager.status().last_error
        assert last is not None
        assert last.kind is FailureKind.TLS


@pytest.mark.parametrize("stage", ["http", "greeting", "auth"])
def test_a_silent_handshake_has_a_deadline(
    simulator: AlpacaSimulator, new_manager: NewManager, stage: Any
) -> None:
    simulator.faults.silent_at(stage)
    once = ReconnectPolicy(initial=0.01, max_attempts=1)
    manager = wanting(new_manager(connect_timeout=0.3, handshake_timeout=0.3, reconnect=once))
    with pytest.raises(StreamingError):
        manager.start()
    last = manager.status().last_error
    assert last is not None
    assert last.kind is FailureKind.TIMEOUT


def test_error_500_in_a_session_is_reported_and_the_session_goes_on(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = wanting(new_manager())
    errors, quotes = Recorder[ErrorEvent](), Recorder[object]()
    manager.on_error(errors)
    manager.on_quote(quotes, "AAPL")
    manager.start()
    simulator.send_error(500)
    assert "500" in str(errors.wait_for()[0].error)
    simulator.publish(quote())
    quotes.wait_for()
    assert manager.status().sessions == 1


def test_error_407_names_why_the_connection_went(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = wanting(new_manager())
    lost = Recorder[DisconnectEvent]()
    manager.on_disconnect(lost)
    manager.start()
    simulator.send_error(407)
    simulator.drop(1006)
    failure = lost.wait_for()[0].failure
    assert failure is not None
    assert (failure.kind, failure.code) == (FailureKind.SLOW_CLIENT, 407)


def test_missing_keys_are_told_before_a_thread_starts(simulator: AlpacaSimulator) -> None:
    manager = wanting(RealTimeStreamManager(StreamConfig(url=simulator.url())))
    with pytest.raises(ConfigurationError, match="api_key is missing"):
        manager.start()
    assert manager.status().lifecycle is LifecycleState.STOPPED
    assert simulator.attempts == 0


def test_a_failed_start_in_the_background_is_raised_by_the_next_call(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    simulator.faults.refuse_auth(402)
    manager = wanting(new_manager())
    fatal = Recorder[ErrorEvent]()
    manager.on_error(fatal)
    manager.start(timeout=0)
    fatal.wait_until(lambda events: any(event.fatal for event in events))
    with pytest.raises(StreamFailedError):
        manager.wait_until_connected(5)
    with pytest.raises(StreamFailedError):
        manager.subscribe("quotes", "MSFT")
    with pytest.raises(StreamFailedError):
        manager.events()
    manager.stop()  # told already: nothing left to raise
    assert manager.status().lifecycle is LifecycleState.FAILED
