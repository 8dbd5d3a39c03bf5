"""What the SDK does wrong with data: silence, subscriptions, figures, and what it logs.

Each test names what alpaca-py 0.44 does by itself, and shows that the manager does not.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from realtime_stream import (
    AlwaysOpen,
    ConnectionState,
    DisconnectEvent,
    FailureKind,
    Quote,
    ReconnectPolicy,
    StaleEvent,
    StateChange,
    StreamingError,
)
from realtime_stream.simulator import SIMULATOR_SECRET
from tests.integration import conftest as integration
from tests.support import Recorder, quote

if TYPE_CHECKING:
    from realtime_stream.simulator import AlpacaSimulator
    from tests.integration.conftest import NewManager

simulator = integration.simulator
new_manager = integration.new_manager


def serves(wanted: set[tuple[str, str]], simulator: AlpacaSimulator) -> bool:
    return any(session.subscriptions == wanted for session in simulator.sessions())


# --- 10: alpaca-py: a data timeout makes a quiet stream reconnect again and again ---


def test_trap_10_a_quiet_stream_is_reported_once_and_stays(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager(manager={"calendar": AlwaysOpen()}, stale_after=0.1, symbol_stale_after=0)
    silent, lost = Recorder[StaleEvent](), Recorder[DisconnectEvent]()
    manager.on_stale(silent)
    manager.on_disconnect(lost)
    manager.subscribe("quotes", "AAPL")
    manager.start()
    silent.wait_for()
    for _ in range(3):  # three more silences of the same length
        assert not manager.wait_until_stopped(0.1)
    assert len(silent.items) == 1
    assert lost.items == []
    assert manager.is_connected()
    assert simulator.attempts == 1


def test_trap_10_one_silent_symbol_makes_one_new_session_and_no_loop(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    """alpaca-py: its timeout is for the stream, so one silent symbol is never found."""
    manager = new_manager(
        manager={"calendar": AlwaysOpen()},
        reconnect_when_stale="symbol",
        stale_after=0,
        symbol_stale_after=0.2,
    )
    silent, found = Recorder[StaleEvent](), Recorder[object]()
    long_silent = threading.Event()

    @manager.on_quote("AAPL", "MSFT")
    def again(event: Quote) -> None:
        simulator.publish(quote("AAPL"))
        if manager.status().stale.get("MSFT", 0.0) > 1.0:
            long_silent.set()

    manager.on_stale(silent)
    manager.on_connect(found)
    manager.on_connect(lambda _: simulator.publish(quote("AAPL")))
    manager.start()
    found.wait_for(2)
    assert long_silent.wait(10)
    assert {event.symbol for event in silent.items} == {"MSFT"}
    assert manager.status().sessions == 2


# --- 11: alpaca-py: each change sends the whole list; unknown symbols raise; empty requests ---


def test_trap_11_a_change_names_only_what_changes_and_nothing_is_asked_for_in_vain(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    changes = Recorder[StateChange]()
    manager.on_state_change(changes)
    manager.subscribe("quotes", "AAPL")
    manager.start()
    manager.subscribe("quotes", "MSFT")
    assert simulator.wait_for(functools.partial(serves, {("quotes", "AAPL"), ("quotes", "MSFT")}))
    manager.unsubscribe("quotes", "NEVER")
    manager.unsubscribe("quotes", "AAPL")
    assert simulator.wait_for(functools.partial(serves, {("quotes", "MSFT")}))
    simulator.faults.refuse_http(503)
    simulator.drop(1006)
    changes.wait_until(lambda items: items[-1].current is ConnectionState.RECONNECTING)
    manager.unsubscribe("quotes", "MSFT")
    changes.wait_until(lambda items: items[-1].current is ConnectionState.IDLE)
    simulator.faults.clear()
    manager.subscribe("quotes", "SPY")
    assert manager.wait_until_connected(10)
    requests = [m for m in simulator.received if m["action"] != "auth"]
    assert [(m["action"], m["quotes"]) for m in requests] == [
        ("subscribe", ["AAPL"]),
        ("subscribe", ["MSFT"]),
        ("unsubscribe", ["AAPL"]),
        ("subscribe", ["SPY"]),
    ]


# --- 12: alpaca-py: nanoseconds are cut away, prices are floats, DEBUG shows the secret in hex ---


def test_trap_12_every_nanosecond_and_digit_arrives(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    """msgspec's own datetimes round the last one below into the next second."""
    last_ns = 1_790_000_000_999_999_999
    manager = new_manager()
    quotes = Recorder[Quote]()
    manager.on_quote(quotes, "AAPL")
    manager.start()
    simulator.publish(quote(t=last_ns, bp=1e-9, ap=0.1))
    event = quotes.wait_for()[0]
    assert event.timestamp_ns == last_ns
    assert event.timestamp == datetime(2026, 9, 21, 14, 13, 20, 999_999, tzinfo=UTC)
    assert (event.bid_price, event.ask_price) == (Decimal("1E-9"), Decimal("0.1"))


def test_trap_12_debug_logging_shows_no_byte_of_the_secret(
    simulator: AlpacaSimulator, new_manager: NewManager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    manager = new_manager()
    manager.subscribe("quotes", "AAPL")
    manager.start()
    manager.stop()
    ours = [r for r in caplog.records if not (r.threadName or "").startswith("alpaca-simulator")]
    text = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in ours).lower()
    assert ours
    assert SIMULATOR_SECRET not in text
    assert SIMULATOR_SECRET[-8:].encode().hex(" ") not in text


# --- 14: alpaca-py: given empty arrays by a frame hook, its data timeout ends a healthy stream ---


def test_trap_14_a_stream_that_talks_is_never_taken_for_a_silent_one(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager(
        manager={"calendar": AlwaysOpen()}, reconnect_when_stale="stream", stale_after=0.3
    )
    silent, long_enough = Recorder[StaleEvent](), threading.Event()
    began = time.monotonic()

    @manager.on_quote("AAPL")
    def again(_: Quote) -> None:
        if time.monotonic() - began > 1.2:
            long_enough.set()
        else:
            simulator.publish(quote())

    manager.on_stale(silent)
    manager.start()
    simulator.publish(quote())
    assert long_enough.wait(10)
    assert silent.items == []
    assert simulator.attempts == 1


# --- 15: alpaca-py: symbols at INFO, "websocket error, restarting" on a clean stop, JSON a bug ---


def test_trap_15_the_sdk_says_nothing_on_our_behalf(
    simulator: AlpacaSimulator, new_manager: NewManager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    manager = new_manager()
    found = Recorder[object]()
    manager.on_connect(found)
    manager.subscribe("quotes", "AAPL")
    manager.start()
    simulator.faults.refuse_auth(404, times=1)
    simulator.drop(1011)
    found.wait_for(2)
    manager.stop()
    assert [record for record in caplog.records if record.name.startswith("alpaca")] == []
    assert "AAPL" not in caplog.text


@pytest.mark.parametrize(
    "greeting", [b'[{"T":"success","msg":"connected"}]', b"hello", b"\x93\x01\x02\x03"]
)
def test_trap_15_a_greeting_in_another_language_is_a_typed_failure(
    simulator: AlpacaSimulator, new_manager: NewManager, greeting: bytes
) -> None:
    """alpaca-py: a TypeError from deep within."""
    simulator.faults.garbage_greeting(greeting)
    manager = new_manager(reconnect=ReconnectPolicy(initial=0.01, max_attempts=1))
    manager.subscribe("quotes", "AAPL")
    with pytest.raises(StreamingError, match="does not speak the protocol"):
        manager.start()
    last = manager.status().last_error
    assert last is not None
    assert last.kind is FailureKind.PROTOCOL
