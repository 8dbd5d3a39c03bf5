"""Faults of other stream managers in connecting, and what they left behind.

Each test names what such a manager did, and shows that this one does not.
"""

from __future__ import annotations

import functools
import gc
import random
import threading
import time
from asyncio import Task
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from realtime_stream import (
    AuthenticationError,
    BreakerPolicy,
    ConnectionState,
    ErrorEvent,
    Quote,
    RealTimeStreamManager,
    ReconnectPolicy,
    StartTimeoutError,
    StateChange,
    StopTimeoutError,
    StreamingError,
    Subscription,
)
from tests.integration import conftest as integration
from tests.support import Recorder, quote

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtime_stream.simulator import AlpacaSimulator, Faults
    from tests.integration.conftest import NewManager

simulator = integration.simulator
new_manager = integration.new_manager

AAPL = Subscription("quotes", "AAPL")
ONCE = ReconnectPolicy(initial=0.01, max_attempts=1)


def our_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("realtime-stream/")]


def open_sockets() -> int:
    folder = Path("/proc/self/fd")
    links = (link for link in folder.iterdir()) if folder.is_dir() else ()
    return sum(link.is_socket() for link in links)


def serves(wanted: set[tuple[str, str]], simulator: AlpacaSimulator) -> bool:
    return any(session.subscriptions == wanted for session in simulator.sessions())


def brought_to(manager: RealTimeStreamManager, state: ConnectionState) -> Recorder[StateChange]:
    """Start ``manager`` wanting AAPL, and wait until it has reached ``state``."""
    changes = Recorder[StateChange]()
    manager.on_state_change(changes)
    manager.subscribe("quotes", "AAPL")
    manager.start(timeout=0)
    changes.wait_until(lambda items: any(change.current is state for change in items))
    return changes


# --- a get_symbols that raised bypassed the breaker; subscribing made a second connection ---


def test_fault_a_raising_get_symbols_does_not_bypass_the_breaker(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    def broken() -> NoReturn:
        raise LookupError

    simulator.faults.refuse_http(503)
    breaker = BreakerPolicy(failure_threshold=3, reset_timeout=60)
    manager = new_manager(manager={"get_symbols": broken}, breaker=breaker)
    errors = Recorder[ErrorEvent]()
    manager.on_error(errors)
    brought_to(manager, ConnectionState.CIRCUIT_OPEN)
    assert simulator.attempts == 3
    assert "get_symbols" in {event.source for event in errors.items}


def test_fault_subscribing_in_the_backoff_makes_no_second_connection(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    simulator.faults.refuse_http(503)
    policy = ReconnectPolicy(initial=0.5, maximum=0.5, jitter=False)
    manager = new_manager(reconnect=policy)
    brought_to(manager, ConnectionState.RECONNECTING)
    threads = [
        threading.Thread(target=manager.subscribe, args=("quotes", symbol))
        for symbol in ("MSFT", "SPY", "TSLA")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert simulator.attempts == 1
    simulator.faults.clear()
    assert manager.wait_until_connected(10)
    assert simulator.handshakes == simulator.auth_attempts == len(simulator.sessions()) == 1
    assert {symbol for _, symbol in simulator.sessions()[0].subscriptions} == {
        *("AAPL", "MSFT", "SPY", "TSLA")
    }


# --- the greeting was taken for success; "connected" was set by it and never cleared ---


def test_fault_a_greeting_is_no_success(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager(secret_key="wrong")
    manager.subscribe("quotes", "AAPL")
    with pytest.raises(AuthenticationError):
        manager.start()
    assert not manager.is_connected()


def test_fault_connected_is_cleared_until_the_next_session_is_authenticated(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    brought_to(manager, ConnectionState.CONNECTED)
    simulator.faults.silent_at("auth")
    simulator.drop(1011)
    assert simulator.wait_for(lambda s: s.auth_attempts == 2)  # greeted, not authenticated
    assert not manager.is_connected()
    assert manager.status().connection is ConnectionState.CONNECTING
    assert not manager.status().acknowledged


# --- an owner lost its subscription to another's unsubscribe; a refused one counted as done ---


def test_fault_one_owner_cannot_take_away_what_another_wants(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    """Others: an open position lost its prices when somebody unsubscribed by hand."""
    manager = new_manager()
    position, chart = Recorder[Quote](), Recorder[Quote]()
    manager.subscribe("quotes", "AAPL")
    holding = manager.on_quote(position, "AAPL")
    drawing = manager.on_quote(chart, "AAPL")
    manager.start()
    manager.unsubscribe("quotes", "AAPL")
    drawing.remove()
    simulator.publish(quote())
    position.wait_for()
    manager.subscribe("quotes", "AAPL")
    holding.remove()
    assert manager.subscriptions() == {AAPL}
    manager.subscribe("quotes", "MSFT")
    assert simulator.wait_for(functools.partial(serves, {("quotes", "AAPL"), ("quotes", "MSFT")}))


def test_fault_a_refused_subscription_is_not_remembered_as_done(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    simulator.faults.refuse_subscription(400, symbols={"AAPL"})
    manager = new_manager()
    found = Recorder[object]()
    manager.on_connect(found)
    manager.subscribe("quotes", "AAPL", "MSFT")
    manager.start()
    assert AAPL in manager.status().refused
    assert AAPL not in manager.status().acknowledged
    simulator.faults.clear()
    simulator.drop(1011)
    found.wait_for(2)
    assert AAPL in manager.status().acknowledged
    assert manager.status().refused == {}


# --- every reconnect leaked a task; failed starts leaked a thread; zombies went unnoticed ---


def unfinished_tasks() -> int:
    gc.collect()
    return sum(isinstance(each, Task) and not each.done() for each in gc.get_objects())


def test_fault_reconnects_leave_nothing_behind(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    found = Recorder[object]()
    manager.on_connect(found)
    manager.subscribe("quotes", "AAPL")
    manager.start()
    counts: list[tuple[int, int, int]] = []
    for number in range(1, 13):
        found.wait_for(number)
        assert simulator.wait_for(lambda s: len(s.sessions()) == 1)
        counts.append((len(our_threads()), open_sockets(), unfinished_tasks()))
        simulator.drop(1011)
    assert max(counts[6:]) <= max(counts[:3]), counts


@pytest.mark.parametrize(
    "arrange",
    [
        lambda faults: faults.refuse_auth(402),
        lambda faults: faults.refuse_http(503),
        lambda faults: faults.garbage_greeting(b"\xc1"),
        lambda faults: faults.refuse_connections(),
        lambda faults: faults.silent_at("http"),
        lambda faults: faults.silent_at("greeting"),
        lambda faults: faults.refuse_subscription(410),
    ],
    ids=["402", "503", "garbage", "refused", "no-http", "no-greeting", "all-refused"],
)
def test_fault_a_start_that_fails_leaves_no_thread_and_no_socket(
    simulator: AlpacaSimulator, new_manager: NewManager, arrange: Callable[[Faults], None]
) -> None:
    arrange(simulator.faults)
    before = open_sockets()
    manager = new_manager(reconnect=ONCE, connect_timeout=0.3, handshake_timeout=0.3)
    manager.subscribe("quotes", "AAPL")
    with pytest.raises(StreamingError):
        manager.start()
    assert our_threads() == []
    assert simulator.wait_for(lambda s: not s.sessions())
    # The server is in this process too, and lets go of its side a moment later, without an event.
    deadline = time.monotonic() + 5
    while open_sockets() > before and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert open_sockets() <= before


def test_fault_a_thread_that_cannot_be_ended_is_told_and_watched(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    """Others: a warning, and the next start() beside the zombie."""
    entered, release = threading.Event(), threading.Event()
    manager = new_manager()

    @manager.on_quote("AAPL")
    def stuck(_: Quote) -> None:
        entered.set()
        release.wait(20)

    manager.start()
    simulator.publish(quote())
    assert entered.wait(5)
    with pytest.raises(StopTimeoutError, match="stuck") as caught:
        manager.stop(timeout=0.2)
    assert manager.status().threads == caught.value.threads != ()
    with pytest.raises(StartTimeoutError, match="still stopping"):
        manager.start(timeout=0.2)
    release.set()
    assert manager.wait_until_stopped(5)
    assert manager.status().threads == ()
    assert manager.start() is ConnectionState.CONNECTED


# --- waits were slept on the machine's clock, jitter came from the global generator ---


class HastyClock:
    """Real time, but a wait of more than five seconds has passed at once, and is noted."""

    def __init__(self) -> None:
        self.passed: list[float] = []

    def monotonic(self) -> float:
        return time.monotonic() + sum(self.passed)

    def utc_now_ns(self) -> int:
        return time.time_ns()

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        if timeout is None or timeout < 5:
            return event.wait(timeout)
        self.passed.append(timeout)
        return event.is_set()


def test_fault_waits_and_jitter_are_the_policys_on_an_injected_clock(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    simulator.faults.refuse_http(503)
    policy = ReconnectPolicy(initial=1000, multiplier=2, maximum=3600, max_attempts=5)
    clock = HastyClock()
    rng, same = random.Random(7), random.Random(7)  # noqa: S311  # jitter, not cryptography
    manager = new_manager(manager={"clock": clock, "rng": rng}, reconnect=policy)
    manager.subscribe("quotes", "AAPL")
    with pytest.raises(StreamingError, match="503"):
        manager.start()
    draws = [same.uniform(0, ceiling) for ceiling in (1000, 2000, 3600, 3600)]
    assert clock.passed == pytest.approx(draws, abs=0.5)
    assert simulator.attempts == 5
