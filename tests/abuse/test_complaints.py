"""What users complain about most in connections and waits, one test for each complaint."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from realtime_stream import (
    AlwaysOpen,
    Bar,
    DisconnectEvent,
    ErrorEvent,
    Gap,
    Quote,
    ReconnectPolicy,
    StaleEvent,
    StartTimeoutError,
    StreamingError,
)
from tests.integration import conftest as integration
from tests.support import START_NS, Recorder, bar, quote

if TYPE_CHECKING:
    from realtime_stream.simulator import AlpacaSimulator
    from tests.integration.conftest import NewManager

simulator = integration.simulator
new_manager = integration.new_manager


def test_complaint_connected_but_mute(simulator: AlpacaSimulator, new_manager: NewManager) -> None:
    """The socket is open and answers pings, and no data come, for one symbol or for all."""
    manager = new_manager(
        manager={"calendar": AlwaysOpen()}, stale_after=0.8, symbol_stale_after=0.3
    )
    silent = Recorder[StaleEvent]()
    talking = threading.Event()
    talking.set()

    @manager.on_quote("AAPL", "MSFT")
    def again(_: Quote) -> None:
        if talking.is_set():
            simulator.publish(quote("AAPL"))

    manager.on_stale(silent)
    manager.start()
    simulator.publish(quote("AAPL"))
    assert silent.wait_for()[0].symbol == "MSFT"
    assert set(manager.status().stale) == {"MSFT"}
    talking.clear()
    silent.wait_until(lambda events: any(event.symbol == "*" for event in events))
    assert manager.is_connected()
    assert manager.status().sessions == 1


def test_complaint_a_reconnect_leaves_an_unknown_gap(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    bars, gaps, lost = Recorder[Bar](), Recorder[Gap](), Recorder[DisconnectEvent]()
    manager.on_bar(bars, "AAPL")
    manager.on_gap(gaps)
    manager.on_disconnect(lost)
    manager.start()
    simulator.publish(bar(n=0))
    bars.wait_for()
    simulator.faults.refuse_http(503)
    simulator.drop(1006)
    lost.wait_for()
    simulator.publish(bar(n=1), bar(n=2))  # nobody is there
    simulator.faults.clear()
    (gap,) = gaps.wait_for()
    simulator.publish(bar(n=3))
    bars.wait_for(2)
    (entry,) = manager.gaps()[0].entries
    assert (entry.channel, entry.symbol) == ("bars", "AAPL")
    assert (entry.last_event_ns, entry.first_event_ns) == (
        bars.items[0].timestamp_ns,
        bars.items[1].timestamp_ns,
    )
    assert gap.start_ns <= gap.end_ns


def test_complaint_endless_loops_of_406_429_and_refused_keys(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    """However often it is started, each attempt is one that the policy allows."""
    manager = new_manager(reconnect=ReconnectPolicy(initial=0.01, max_attempts=2))
    manager.subscribe("quotes", "AAPL")
    simulator.faults.refuse_auth(402)
    for attempts in (1, 2):
        with pytest.raises(StreamingError, match="402"):
            manager.start()
        assert simulator.attempts == attempts
    simulator.faults.refuse_auth(406)
    with pytest.raises(StartTimeoutError, match="406"):
        manager.start(timeout=0.5)
    simulator.faults.clear()
    simulator.faults.refuse_http(429)
    with pytest.raises(StartTimeoutError, match="429"):
        manager.start(timeout=0.5)
    assert simulator.attempts == 4


def test_complaint_a_slow_handler_reads_data_half_an_hour_old(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    """The socket is read all the same; old quotes give way to new ones, and each is counted."""
    entered, release = threading.Event(), threading.Event()
    manager = new_manager(inbox_capacity=100, lag_alarm=0.1)
    told, seen = Recorder[ErrorEvent](), Recorder[Quote]()

    @manager.on_quote("AAPL")
    def slow(_: Quote) -> None:
        entered.set()
        assert release.wait(20)

    manager.on_quote(seen, "AAPL")
    manager.on_error(told)
    manager.start()
    simulator.publish(quote(n=0))
    assert entered.wait(5)
    for n in range(1, 1001):
        simulator.publish(quote(n=n))
    for _ in range(500):  # nothing tells when all that has come about
        if manager.status().received == 1001 and manager.status().lag.alarms:
            break
        threading.Event().wait(0.02)
    release.set()
    newest = START_NS + 1000 * 1_000_000
    seen.wait_until(lambda quotes: any(event.timestamp_ns == newest for event in quotes))
    assert {"lag", "inbox"} <= {event.source for event in told.wait_for(2)}
    manager.stop()
    status = manager.status()
    dropped = sum(status.dropped.values())
    assert dropped >= 900
    assert status.received == 1001 == len(seen.items) + dropped
    assert status.sessions == 1


def test_complaint_stop_hangs(simulator: AlpacaSimulator, new_manager: NewManager) -> None:
    """Not even when callbacks, server and other callers are all in the way at once."""
    entered, release = threading.Event(), threading.Event()
    manager = new_manager()

    @manager.on_quote("AAPL")
    def stuck(_: Quote) -> None:
        entered.set()
        release.wait(20)

    manager.start()
    simulator.publish(quote())
    assert entered.wait(5)
    simulator.faults.stop_reading()
    began = time.monotonic()
    with pytest.raises(StreamingError, match="stuck"):
        manager.stop(timeout=0.5)
    assert time.monotonic() - began < 1.5
    release.set()
    assert manager.wait_until_stopped(5)


def test_complaint_a_runtime_subscribe_freezes(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    """From callbacks and from threads, while the server does not answer."""
    manager = new_manager()
    manager.subscribe("quotes", "AAPL")
    manager.start()
    simulator.faults.silent_at("subscription")
    began = time.monotonic()
    for number in range(200):
        manager.subscribe("quotes", f"S{number}")
    assert time.monotonic() - began < 1
    assert len(manager.subscriptions()) == 201
