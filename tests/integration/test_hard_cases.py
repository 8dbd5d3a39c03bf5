"""Ways to lose control of a manager: each was once found to work."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from websockets.legacy import client

from realtime_stream import (
    AuthenticationError,
    BreakerPolicy,
    ConfigurationError,
    ConnectionState,
    Gap,
    LifecycleState,
    Quote,
    ReconnectPolicy,
    StartTimeoutError,
    StateChange,
    StreamFailedError,
    Subscription,
)
from realtime_stream.simulator import SIMULATOR_KEY, SIMULATOR_SECRET, AlpacaSimulator
from tests.support import Recorder, quote

if TYPE_CHECKING:
    from tests.integration.conftest import NewManager


@pytest.mark.parametrize("after", [0, 1, 2])
def test_ctrl_c_while_the_threads_are_started_leaves_nothing(
    simulator: AlpacaSimulator,
    new_manager: NewManager,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
) -> None:
    """``after`` threads of the two begin before the interrupt."""
    real, begun = threading.Thread.start, [0]

    def start(thread: threading.Thread) -> None:
        if not thread.name.startswith("realtime-stream/"):
            return real(thread)
        if begun[0] == after:
            begun[0] = -1
            raise KeyboardInterrupt
        begun[0] += 1
        real(thread)
        if begun[0] == after == 2:
            raise KeyboardInterrupt
        return None

    manager = new_manager()
    manager.subscribe("quotes", "AAPL")
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(KeyboardInterrupt):
        manager.start()
    monkeypatch.undo()
    assert manager.status().threads == ()
    assert manager.status().lifecycle is LifecycleState.STOPPED
    assert manager.start() is ConnectionState.CONNECTED


def test_a_fatal_failure_is_told_while_a_callback_is_stuck(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    release, entered = threading.Event(), threading.Event()
    manager = new_manager()

    @manager.on_quote("AAPL")
    def stuck(_: Quote) -> None:
        entered.set()
        release.wait(20)

    manager.start()
    simulator.publish(quote())
    assert entered.wait(5)
    simulator.faults.refuse_auth(402)
    simulator.drop(1011)
    assert simulator.wait_for(lambda s: s.auth_attempts == 2)
    with pytest.raises(StreamFailedError) as caught:
        manager.wait_until_connected(5)
    assert isinstance(caught.value.__cause__, AuthenticationError)
    assert manager.status().lifecycle is LifecycleState.FAILED
    with pytest.raises(StreamFailedError):
        manager.latest_quote("AAPL")
    release.set()


def test_with_star_an_outage_is_reported_even_before_the_first_event(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    manager.subscribe("quotes", "*")
    gaps = Recorder[Gap]()
    manager.on_gap(gaps)
    manager.start()
    simulator.drop(1006)
    assert [(e.channel, e.symbol) for e in gaps.wait_for()[0].entries] == [("quotes", "*")]


def test_nothing_changes_for_the_server_when_nothing_changes_in_what_is_wanted(
    simulator: AlpacaSimulator, new_manager: NewManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the fallback path, where a change costs a session."""
    real = client.connect

    def connect(url: str, **keywords: Any) -> Any:
        if "create_protocol" in keywords:
            msg = "connect() got an unexpected keyword argument 'create_protocol'"
            raise TypeError(msg)
        return real(url, **keywords)

    monkeypatch.setattr(client, "connect", connect)
    manager = new_manager()
    quotes = Recorder[Quote]()
    manager.on_quote(quotes, "AAPL")
    manager.start(timeout=0)
    assert simulator.wait_for(lambda s: any(x.subscriptions for x in s.sessions()))
    manager.on_gap(print)
    manager.subscribe("quotes", "AAPL")
    manager.on_quote(quotes, "AAPL").remove()
    simulator.publish(quote())
    quotes.wait_for()
    assert simulator.authenticated == 1


def test_thousands_of_registrations_are_cheap(new_manager: NewManager) -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    manager = new_manager()
    for first in letters:
        for second in letters:
            for third in "ABC":
                manager.on_quote(print, f"{first}{second}{third}")
    assert len(manager.subscriptions()) == 2028


def test_a_large_list_above_the_symbol_limit_settles_at_once(
    new_manager: NewManager,
) -> None:
    from_many = [f"{a}{b}{c}" for a in "ABCDEFGHIJ" for b in "ABCDEFGHIJ" for c in "ABCDEFGHIJ"]
    with AlpacaSimulator(symbol_limit=30) as server:
        manager = new_manager(url=server.url())
        errors = Recorder[Any]()
        manager.on_error(errors)
        manager.subscribe("quotes", *from_many)
        assert manager.start() is ConnectionState.CONNECTED
        assert len(manager.status().acknowledged) == 30
        assert len(manager.status().refused) == 970
        assert len(server.received) < 60
        assert len(errors.items) < 10
        manager.stop()


def test_unsubscribing_everything_during_the_backoff_does_not_shorten_it(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    simulator.faults.refuse_http(503)
    policy = ReconnectPolicy(initial=60, jitter=False)
    manager = new_manager(reconnect=policy, breaker=BreakerPolicy(failure_threshold=100))
    changes = Recorder[StateChange]()
    manager.on_state_change(changes)
    manager.subscribe("quotes", "AAPL")
    manager.start(timeout=0)
    changes.wait_until(lambda cs: any(c.current is ConnectionState.RECONNECTING for c in cs))
    manager.unsubscribe("quotes", "AAPL")
    changes.wait_until(lambda cs: cs[-1].current is ConnectionState.IDLE)
    manager.subscribe("quotes", "MSFT")
    changes.wait_until(lambda cs: cs[-1].current is ConnectionState.RECONNECTING)
    assert manager.status().next_attempt_in > 50
    assert manager.status().attempts == 1


def test_unsubscribing_everything_during_the_handshake_ends_it(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    simulator.faults.silent_at("greeting")
    manager = new_manager(handshake_timeout=60)
    changes = Recorder[StateChange]()
    manager.on_state_change(changes)
    manager.subscribe("quotes", "AAPL")
    manager.start(timeout=0)
    assert simulator.wait_for(lambda s: s.handshakes == 1)
    manager.unsubscribe("quotes", "AAPL")
    changes.wait_until(lambda cs: cs[-1].current is ConnectionState.IDLE)


def test_slow_error_listeners_do_not_hold_up_stop(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager(error_log_interval=0)
    manager.subscribe("quotes", "AAPL")
    first, pace = threading.Event(), threading.Event()

    @manager.on_error
    def slow(_: object) -> None:
        first.set()
        pace.wait(0.02)

    manager.start()
    for _ in range(500):
        simulator.send_error(500)
    assert first.wait(5)
    began = time.monotonic()
    manager.stop(timeout=1)
    assert time.monotonic() - began < 1
    assert manager.status().reports_dropped > 0


def test_repeated_server_errors_are_reported_once_per_interval(
    simulator: AlpacaSimulator, new_manager: NewManager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    manager = new_manager()
    errors, quotes = Recorder[Any](), Recorder[Quote]()
    manager.on_error(errors)
    manager.on_quote(quotes, "AAPL")
    manager.start()
    for _ in range(50):
        simulator.send_error(500)
    simulator.publish(quote())
    quotes.wait_for()
    assert len([r for r in caplog.records if r.message == "realtime_server_error"]) == 1
    assert len(errors.items) == 1


def test_an_old_server_error_is_not_the_cause_of_a_later_close(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    simulator.faults.refuse_subscription(410, symbols={"BAD"})
    manager = new_manager()
    lost = Recorder[Any]()
    manager.on_disconnect(lost)
    manager.subscribe("quotes", "AAPL")
    manager.start()
    manager.subscribe("quotes", "BAD")
    assert simulator.wait_for(lambda s: len(s.received) >= 3)
    manager.subscribe("quotes", "MSFT")
    assert simulator.wait_for(
        lambda s: any(("quotes", "MSFT") in x.subscriptions for x in s.sessions())
    )
    assert manager.status().refused.keys() == {Subscription("quotes", "BAD")}
    simulator.drop(1001)
    assert lost.wait_for()[0].failure.code == 1001


@pytest.mark.parametrize("timeout", [-1, float("nan"), "x", True])
@pytest.mark.parametrize(
    "method", ["start", "stop", "restart", "wait_until_connected", "wait_until_stopped", "events"]
)
def test_nonsense_timeouts_are_named(new_manager: NewManager, method: str, timeout: Any) -> None:
    manager = new_manager()
    with pytest.raises(ConfigurationError, match="timeout must be a number"):
        getattr(manager, method)(timeout=timeout)


def test_an_endless_timeout_is_no_error(new_manager: NewManager) -> None:
    manager = new_manager()
    assert manager.start(timeout=float("inf")) is ConnectionState.IDLE
    manager.stop(timeout=1e10)


def test_status_counts_the_frame_in_delivery(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    release, entered = threading.Event(), threading.Event()
    manager = new_manager()

    @manager.on_quote("AAPL")
    def hold(_: Quote) -> None:
        entered.set()
        release.wait(10)

    manager.start()
    simulator.publish(*(quote(n=n) for n in range(10)))
    assert entered.wait(5)
    status = manager.status()
    assert status.received == 10 == sum(status.delivered.values()) + status.in_inbox
    release.set()


def test_the_last_key_pair_holds_while_a_callback_holds_up_the_source(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    release, entered = threading.Event(), threading.Event()
    manager = new_manager(
        api_key=None,
        secret_key=None,
        credentials=lambda: (SIMULATOR_KEY, SIMULATOR_SECRET),
        symbols_timeout=0.1,
    )

    @manager.on_quote("AAPL")
    def hold(_: Quote) -> None:
        entered.set()
        release.wait(20)

    manager.start()
    simulator.publish(quote())
    assert entered.wait(5)
    simulator.drop(1011)
    assert simulator.wait_for(lambda s: s.authenticated == 2, 10)
    release.set()


def test_a_start_that_times_out_leaves_the_run_it_only_joined(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    simulator.faults.refuse_http(503)
    manager = new_manager()
    manager.subscribe("quotes", "AAPL")
    manager.start(timeout=0)
    with pytest.raises(StartTimeoutError):
        manager.start(timeout=0.2)
    assert manager.status().lifecycle is LifecycleState.RUNNING
    simulator.faults.clear()
    assert manager.wait_until_connected(10)
