"""Every gap is reported, and the accounts add up."""

from __future__ import annotations

import functools
import math
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from realtime_stream import DisconnectEvent, Gap, Quote
from realtime_stream.cli.accounts import Sent, balance
from realtime_stream.simulator import SyntheticSession
from tests.support import START_NS, Recorder, bar, quote

if TYPE_CHECKING:
    from pathlib import Path

    from realtime_stream.simulator import AlpacaSimulator
    from tests.integration.conftest import NewManager


def test_a_gap_runs_from_the_last_event_before_to_the_first_after(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    quotes, gaps = Recorder[Quote](), Recorder[Gap]()
    lost, found = Recorder[DisconnectEvent](), Recorder[object]()
    manager.on_quote(quotes, "AAPL", "MSFT", "SPY")
    manager.on_gap(gaps)
    manager.on_disconnect(lost)
    manager.on_connect(found)
    manager.start()
    simulator.publish(quote("AAPL", 1), quote("MSFT", 2))
    quotes.wait_for(2)
    simulator.faults.refuse_http(503)
    simulator.drop(1006)
    lost.wait_for()
    simulator.publish(quote("AAPL", 3), quote("MSFT", 4))
    simulator.faults.clear()
    found.wait_for(2)
    gap = gaps.wait_for()[0]
    assert gap.cause == "reconnect"
    assert gap.start <= gap.end
    at = {entry.symbol: entry.last_event_ns for entry in gap.entries}
    assert at == {"AAPL": START_NS + 1_000_000, "MSFT": START_NS + 2_000_000, "SPY": None}
    assert gap.last_events["SPY"] is None
    assert gap.last_events["AAPL"] == quotes.items[0].timestamp
    simulator.publish(quote("AAPL", 5), quote("AAPL", 6))
    quotes.wait_for(4)
    firsts = {entry.symbol: entry.first_event_ns for entry in manager.gaps()[0].entries}
    assert firsts == {"AAPL": START_NS + 5_000_000, "MSFT": None, "SPY": None}


def test_what_is_no_longer_wanted_is_in_no_gap(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    quotes, gaps, found = Recorder[Quote](), Recorder[Gap](), Recorder[object]()
    registration = manager.on_quote(quotes, "MSFT")
    manager.on_quote(quotes, "AAPL")
    manager.on_gap(gaps)
    manager.on_connect(found)
    manager.start()
    simulator.publish(quote("AAPL", 1), quote("MSFT", 2))
    quotes.wait_for(2)
    simulator.faults.refuse_http(503)
    simulator.drop(1006)
    registration.remove()
    simulator.faults.clear()
    found.wait_for(2)
    assert [entry.symbol for entry in gaps.wait_for()[0].entries] == ["AAPL"]


def test_bars_that_the_inbox_gave_up_are_reported(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager(inbox_capacity=4)
    entered, release = threading.Event(), threading.Event()
    gaps = Recorder[Gap]()

    @manager.on_bar("AAPL")
    def slow(_: object) -> None:
        entered.set()
        release.wait(10)

    manager.on_gap(gaps)
    manager.start()
    simulator.publish(bar(n=0))
    assert entered.wait(5)
    for n in range(1, 7):
        simulator.publish(bar(n=n))
    for _ in range(100):
        if manager.status().received == 7:
            break
        threading.Event().wait(0.02)
    release.set()
    gap = gaps.wait_for()[0]
    assert gap.cause == "overflow"
    lost = sum(entry.lost or 0 for entry in gap.entries)
    manager.stop()
    status = manager.status()
    assert lost == sum(status.dropped.values()) > 0
    assert status.received == 7 == sum(status.delivered.values()) + lost + status.undelivered


def has_published(count: int, simulator: AlpacaSimulator) -> bool:
    return len(simulator.ledger) >= count


def test_the_accounts_of_a_whole_session_with_drops_add_up(
    simulator: AlpacaSimulator, new_manager: NewManager, tmp_path: Path
) -> None:
    symbols = ("AAPL", "MSFT")
    manager = new_manager()
    events, found = Recorder[object](), Recorder[object]()
    manager.on_quote(events, *symbols)
    manager.on_trade(events, *symbols)
    manager.on_bar(events, *symbols)
    manager.on_connect(found)
    session = SyntheticSession(
        5, symbols, start=datetime(2026, 3, 2, 14, 30, tzinfo=UTC), minutes=20
    )
    manager.start()
    handle = simulator.play(session, speed=400)
    for number in range(3):
        assert simulator.wait_for(functools.partial(has_published, 500 * (number + 1)))
        simulator.drop(None)
        found.wait_for(number + 2)
    assert handle.wait(30)
    watched = {"quotes", "trades", "bars"}
    sent = [
        Sent(e.channel, e.symbol, e.t_ns)
        for e in simulator.ledger
        if e.channel in watched and e.t_ns is not None
    ]
    last = [e.t_ns or 0 for e in simulator.ledger if e.channel in watched and e.sessions][-1]
    events.wait_until(lambda items: getattr(items[-1], "timestamp_ns", 0) >= last)
    manager.stop()
    accounts = balance(sent, manager.gaps(), manager.status())
    assert accounts.add_up, accounts
    assert accounts.in_gaps > 0
    assert manager.status().gaps == 3
    simulator.ledger.write(tmp_path / "ledger.jsonl")
    assert len((tmp_path / "ledger.jsonl").read_bytes().splitlines()) == len(simulator.ledger)
    assert math.isfinite(accounts.sent)
