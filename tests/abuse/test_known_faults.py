"""Faults of other stream managers in starting, stopping and coming back.

Each test names what such a manager did, and shows that this one does not.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream import (
    BreakerPolicy,
    ConfigurationError,
    ConnectionState,
    DisconnectEvent,
    ErrorEvent,
    LifecycleState,
    Quote,
    RealTimeStreamManager,
    ReconnectPolicy,
    StartTimeoutError,
    StateChange,
    StreamConfig,
)
from tests.integration import conftest as integration
from tests.support import Recorder, quote

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtime_stream.simulator import AlpacaSimulator, Faults
    from tests.integration.conftest import NewManager

simulator = integration.simulator
new_manager = integration.new_manager

LONG = ReconnectPolicy(initial=60, maximum=60, jitter=False)


def our_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("realtime-stream/")]


def brought_to(manager: RealTimeStreamManager, state: ConnectionState) -> Recorder[StateChange]:
    """Start ``manager`` wanting AAPL, and wait until it has reached ``state``."""
    changes = Recorder[StateChange]()
    manager.on_state_change(changes)
    manager.subscribe("quotes", "AAPL")
    manager.start(timeout=0)
    changes.wait_until(lambda items: any(change.current is state for change in items))
    return changes


# --- start() returned True whatever was wrong; restart() before start() failed after 11 s ---


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"api_key": ""}, "api_key"),
        ({"secret_key": " "}, "secret_key"),
        ({"feed": "bogus", "url": None}, "feed"),
        ({"url": "http://127.0.0.1"}, "url"),
    ],
    ids=["empty-key", "empty-secret", "bogus-feed", "bogus-url"],
)
def test_fault_start_with_bad_settings_is_refused_before_anything_runs(
    settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        StreamConfig(**{"api_key": "k", "secret_key": "s", **settings})
    assert our_threads() == []


def test_fault_start_without_a_server_is_an_error_that_says_so(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    simulator.faults.refuse_connections()
    manager = new_manager()
    manager.subscribe("quotes", "AAPL")
    with pytest.raises(StartTimeoutError, match="refused"):
        manager.start(timeout=2)
    assert our_threads() == []
    assert manager.status().lifecycle is LifecycleState.STOPPED


def test_fault_restart_before_the_first_start_starts(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    manager.subscribe("quotes", "AAPL")
    assert manager.restart() is ConnectionState.CONNECTED
    assert simulator.attempts == 1


def test_fault_calls_that_are_repeated_change_nothing(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    """Others: a second start() made a second thread and a second connection."""
    manager = new_manager()
    manager.subscribe("quotes", "AAPL")
    together = threading.Barrier(4)
    states = Recorder[ConnectionState]()

    def start() -> None:
        together.wait(5)
        states(manager.start())

    starters = [threading.Thread(target=start) for _ in range(4)]
    for starter in starters:
        starter.start()
    assert set(states.wait_for(4)) == {ConnectionState.CONNECTED}
    assert manager.start() is ConnectionState.CONNECTED
    assert simulator.attempts == 1
    for _ in range(3):
        manager.stop()
    assert manager.status().lifecycle is LifecycleState.STOPPED
    for starter in starters:
        starter.join(5)


# --- stop() during the backoff took 5 s, and the next start() had a dying thread ---


def test_fault_stop_in_the_backoff_is_prompt_and_the_next_start_holds(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    simulator.faults.refuse_http(503)
    manager = new_manager(reconnect=LONG)
    quotes = Recorder[Quote]()
    manager.on_quote(quotes, "AAPL")
    brought_to(manager, ConnectionState.RECONNECTING)
    began = time.monotonic()
    manager.stop()
    assert time.monotonic() - began < 1
    assert our_threads() == []
    simulator.faults.clear()
    assert manager.start() is ConnectionState.CONNECTED
    simulator.publish(quote())
    quotes.wait_for()
    assert manager.is_connected()


def test_fault_nothing_waits_for_the_backoff(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    """Others: the backoff slept with the lock held that every other method needs."""
    simulator.faults.refuse_http(503)
    manager = new_manager(reconnect=LONG)
    brought_to(manager, ConnectionState.RECONNECTING)
    began = time.monotonic()
    manager.start(timeout=0)
    manager.status()
    manager.subscribe("quotes", "MSFT")
    manager.unsubscribe("quotes", "MSFT")
    manager.subscriptions()
    manager.on_quote(print, "SPY").remove()
    manager.gaps()
    assert manager.latest_quote("AAPL") is None
    assert not manager.is_connected()
    assert not manager.wait_until_connected(0)
    manager.stop()
    assert time.monotonic() - began < 1


# --- a normal close ended the stream for good; one failed reconnect did; counters were wrong ---


def test_fault_a_normal_close_is_seen_and_the_stream_comes_back(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    quotes, found = Recorder[Quote](), Recorder[object]()
    seen = Recorder[bool]()
    manager.on_quote(quotes, "AAPL")
    manager.on_connect(found)
    manager.start()
    simulator.faults.refuse_http(503)
    manager.on_disconnect(lambda _: seen(manager.is_connected()))
    simulator.drop(1000)
    assert seen.wait_for() == [False]
    simulator.faults.clear()
    found.wait_for(2)
    simulator.publish(quote())
    quotes.wait_for()


def test_fault_reconnecting_outlives_failed_attempts_of_every_kind(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    """Others: the first attempt that failed was the last. This one is really connected again."""
    arrange: list[Callable[[Faults], None]] = [
        lambda faults: faults.refuse_http(503),
        lambda faults: faults.refuse_auth(500),
        lambda faults: faults.garbage_greeting(b"\xc1"),
        lambda faults: faults.refuse_connections(),
    ]
    manager = new_manager()
    quotes, errors = Recorder[Quote](), Recorder[ErrorEvent]()
    manager.on_quote(quotes, "AAPL")
    manager.start()
    arrange[0](simulator.faults)
    simulator.drop(1011)
    for fault in arrange:
        simulator.faults.clear()
        fault(simulator.faults)
        handle = manager.on_error(errors)
        known = len(errors.items)
        errors.wait_for(known + 2)
        handle.remove()
    simulator.faults.clear()
    assert manager.wait_until_connected(10)
    simulator.publish(quote())
    quotes.wait_for()
    assert len(simulator.sessions()) == 1


def test_fault_a_connection_alone_resets_no_counter_but_a_stable_one_does(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager(stable_after=0.5)
    lost, found = Recorder[DisconnectEvent](), Recorder[object]()
    manager.on_disconnect(lost)
    manager.on_connect(found)
    manager.subscribe("quotes", "AAPL")
    manager.start()
    for number in (1, 2, 3):
        found.wait_for(number)
        simulator.drop(1011)
        assert lost.wait_for(number)[-1].consecutive == number
    found.wait_for(4)
    assert not manager.wait_until_stopped(0.7)  # long enough to be stable
    assert manager.status().consecutive_failures == 0
    simulator.drop(1011)
    assert lost.wait_for(4)[-1].consecutive == 1


def test_fault_a_server_that_accepts_and_drops_opens_the_breaker(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    breaker = BreakerPolicy(failure_threshold=3, reset_timeout=60)
    manager = new_manager(breaker=breaker, stable_after=30)
    manager.on_connect(lambda _: simulator.drop(1011))
    brought_to(manager, ConnectionState.CIRCUIT_OPEN)
    assert manager.status().sessions == simulator.authenticated == 3
