"""Wanted against acknowledged: at the start, while running, and when the server says no."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream import (
    ConnectionState,
    ErrorEvent,
    FailureKind,
    RealTimeStreamManager,
    ReconnectPolicy,
    StreamingError,
    Subscription,
    SubscriptionRefusedError,
)
from realtime_stream.simulator import AlpacaSimulator
from tests.support import Recorder, config, quote

if TYPE_CHECKING:
    from tests.integration.conftest import NewManager

AAPL = Subscription("quotes", "AAPL")
MSFT = Subscription("quotes", "MSFT")


def served(simulator: AlpacaSimulator) -> set[tuple[str, str]]:
    return {entry for session in simulator.sessions() for entry in session.subscriptions}


def test_runtime_changes_reach_the_server_and_never_block(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    manager.subscribe("quotes", "AAPL")
    manager.start()
    manager.subscribe("quotes", "MSFT", "SPY")
    assert simulator.wait_for(
        lambda s: served(s) == {("quotes", x) for x in ("AAPL", "MSFT", "SPY")}
    )
    manager.unsubscribe("quotes", "AAPL", "SPY")
    assert simulator.wait_for(lambda s: served(s) == {("quotes", "MSFT")})
    assert simulator.attempts == 1


def test_a_change_during_the_outage_is_asked_for_by_the_next_session(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    manager.subscribe("quotes", "AAPL")
    connected = Recorder[object]()
    manager.on_connect(connected)
    manager.start()
    simulator.faults.refuse_http(503)
    simulator.drop(1006)
    manager.subscribe("quotes", "MSFT")
    manager.unsubscribe("quotes", "AAPL")
    simulator.faults.clear()
    connected.wait_for(2)
    assert manager.status().acknowledged == {MSFT}
    assert len(simulator.sessions()) == 1


def test_the_symbol_limit_refuses_only_what_does_not_fit(new_manager: NewManager) -> None:
    symbols = [f"S{a}{b}" for a in "ABCDEF" for b in "ABCDEF"][:35]
    with AlpacaSimulator(symbol_limit=30) as limited:
        manager = RealTimeStreamManager(config(limited))
        errors = Recorder[ErrorEvent]()
        manager.on_error(errors)
        manager.subscribe("quotes", *symbols)
        assert manager.start() is ConnectionState.CONNECTED
        status = manager.status()
        assert len(status.acknowledged) == 30
        assert len(status.refused) == 5
        assert status.acknowledged | status.refused.keys() == status.wanted
        assert all("405" in why for why in status.refused.values())
        first = errors.wait_for()[0]
        assert isinstance(first.error, SubscriptionRefusedError)
        assert first.source == "subscription"
        # Room below the limit lets a refused symbol in.
        gone = sorted(status.acknowledged)[0]
        manager.unsubscribe("quotes", gone.symbol)
        assert limited.wait_for(
            lambda s: len(served(s)) == 30 and ("quotes", gone.symbol) not in served(s)
        )
        manager.stop()


def test_one_bad_entry_does_not_cost_the_others(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    simulator.faults.refuse_subscription(400, symbols={"BAD"})
    manager = new_manager()
    manager.subscribe("quotes", "AAPL", "BAD", "MSFT", "SPY")
    manager.start()
    status = manager.status()
    assert status.refused.keys() == {Subscription("quotes", "BAD")}
    assert status.acknowledged == status.wanted - {Subscription("quotes", "BAD")}


def test_a_refusal_at_run_time_leaves_the_session_alone(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    simulator.faults.refuse_subscription(400, symbols={"BAD"})
    manager = new_manager()
    errors, quotes = Recorder[ErrorEvent](), Recorder[object]()
    manager.on_error(errors)
    manager.on_quote(quotes, "AAPL")
    manager.start()
    manager.subscribe("quotes", "BAD")
    assert "BAD" in str(errors.wait_for()[0].error)
    simulator.publish(quote())
    quotes.wait_for()
    assert manager.is_connected()


def test_an_acknowledgement_that_leaves_something_out_is_asked_for_again(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    simulator.faults.partial_acknowledgement({"MSFT"})
    once = ReconnectPolicy(initial=0.01, max_attempts=1)
    manager = new_manager(reconnect=once)
    manager.subscribe("quotes", "AAPL", "MSFT")
    with pytest.raises(StreamingError):
        manager.start()
    asked = [m for m in simulator.received if m.get("action") == "subscribe"]
    assert len(asked) == 4
    last = manager.status().last_error
    assert last is not None
    assert last.kind is FailureKind.NOT_ACKNOWLEDGED


def test_a_server_that_never_acknowledges_ends_the_session(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    simulator.faults.silent_at("subscription")
    once = ReconnectPolicy(initial=0.01, max_attempts=1)
    manager = new_manager(reconnect=once, acknowledge_timeout=0.1)
    manager.subscribe("quotes", "AAPL")
    with pytest.raises(StreamingError, match="not acknowledge"):
        manager.start()


def test_a_terse_acknowledgement_means_the_rest_is_empty() -> None:
    with AlpacaSimulator(terse_acknowledgements=True) as terse:
        manager = RealTimeStreamManager(config(terse))
        manager.subscribe("quotes", "AAPL")
        manager.subscribe("corrections", "AAPL")
        assert manager.start() is ConnectionState.CONNECTED
        assert manager.status().acknowledged == manager.status().wanted
        manager.stop()


def test_thousands_of_symbols_are_asked_for_in_several_messages(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    symbols = [f"{a}{b}{c}" for a in letters for b in letters for c in "ABCD"]
    manager = new_manager()
    manager.subscribe("quotes", *symbols)
    manager.start()
    assert len(manager.status().acknowledged) == len(symbols) == 2704
    subscribes = [m for m in simulator.received if m.get("action") == "subscribe"]
    assert len(subscribes) == 3


def test_symbols_are_logged_at_debug_only(
    simulator: AlpacaSimulator, new_manager: NewManager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    manager = new_manager()
    quotes: Recorder[Any] = Recorder()
    manager.on_quote(quotes, "AAPL")
    manager.start()
    simulator.publish(quote())
    quotes.wait_for()
    simulator.drop(1006)
    manager.wait_until_connected(5)
    manager.stop()
    ours = [r for r in caplog.records if not r.name.startswith("websockets.server")]
    assert ours
    assert not [r for r in ours if "AAPL" in str(r.__dict__)]
    assert {"realtime_feed_connected", "realtime_feed_disconnected", "realtime_feed_stopped"} <= {
        r.message for r in ours
    }
    session = [r for r in ours if r.message == "realtime_feed_connected"]
    assert session[0].__dict__["correlation_id"]
    assert session[0].__dict__["connection_id"]
