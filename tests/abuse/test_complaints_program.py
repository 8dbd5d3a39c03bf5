"""What users complain about most in their programs, one test for each complaint."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from decimal import Decimal
from typing import TYPE_CHECKING, NoReturn

import pytest

from realtime_stream import (
    Bar,
    ConnectionState,
    DisconnectEvent,
    ErrorEvent,
    FailureKind,
    Quote,
    RealTimeStreamManager,
    StartTimeoutError,
    StreamFailedError,
    StreamingError,
)
from tests.integration import conftest as integration
from tests.support import Recorder, bar, quote

MIDNIGHT_NS = 1_789_963_200_000_000_000  # of the day in New York that the bars below are of

if TYPE_CHECKING:
    from realtime_stream.simulator import AlpacaSimulator
    from tests.integration.conftest import NewManager

simulator = integration.simulator
new_manager = integration.new_manager


def test_complaint_event_loop_errors(simulator: AlpacaSimulator, new_manager: NewManager) -> None:
    """ "No current event loop" in a thread, "loop already running" in a program that has one."""
    manager = new_manager()
    manager.subscribe("quotes", "AAPL")

    async def bot() -> ConnectionState:
        return manager.start()

    assert asyncio.run(bot()) is ConnectionState.CONNECTED
    states = Recorder[ConnectionState]()
    restarter = threading.Thread(target=lambda: states(manager.restart()))
    restarter.start()
    assert states.wait_for() == [ConnectionState.CONNECTED]
    restarter.join(5)

    async def end() -> None:
        manager.stop()

    asyncio.run(end())
    assert manager.status().threads == ()


@pytest.mark.parametrize("code", [1000, 1001, 1008, None])
def test_complaint_the_stream_ends_quietly(
    simulator: AlpacaSimulator,
    new_manager: NewManager,
    caplog: pytest.LogCaptureFixture,
    code: int | None,
) -> None:
    manager = new_manager()
    lost, errors = Recorder[DisconnectEvent](), Recorder[ErrorEvent]()
    manager.on_disconnect(lost)
    manager.on_error(errors)
    manager.subscribe("quotes", "AAPL")
    manager.start()
    simulator.faults.refuse_auth(402)  # and nothing can bring it back
    simulator.drop(code)
    assert lost.wait_for()[0].failure is not None
    errors.wait_until(lambda events: any(event.fatal for event in events))
    with pytest.raises(StreamFailedError, match="402"):
        manager.latest_quote("AAPL")
    said = {record.message: record.levelno for record in caplog.records}
    assert said["realtime_feed_disconnected"] == logging.WARNING


def test_complaint_errors_of_handlers_are_lost(
    simulator: AlpacaSimulator, new_manager: NewManager, caplog: pytest.LogCaptureFixture
) -> None:
    def typo(_: Quote) -> NoReturn:
        raise AttributeError

    manager = new_manager()
    errors = Recorder[ErrorEvent]()
    manager.on_quote(typo, "AAPL")
    manager.on_error(errors)
    manager.start()
    simulator.publish(quote())
    assert isinstance(errors.wait_for()[0].error, AttributeError)
    (record,) = [r for r in caplog.records if r.message == "realtime_callback_failed"]
    assert record.levelno == logging.WARNING
    assert record.__dict__["callback"].endswith("typo")
    assert manager.dead_letters()[0].exception is errors.items[0].error


def test_complaint_surprises_about_bars(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    """The stamp is the minute's start, late trades are an update of it, no trade is no bar."""
    manager = new_manager()
    minute, updated, daily = Recorder[Bar](), Recorder[Bar](), Recorder[Bar]()
    manager.on_bar(minute, "AAPL")
    manager.on_updated_bar(updated, "AAPL")
    manager.on_daily_bar(daily, "AAPL")
    manager.start()
    simulator.publish(bar(n=0))
    simulator.publish(bar(n=0, T="u", v=300), bar(n=0, T="d", v=9000, t=MIDNIGHT_NS))
    simulator.publish(bar(n=2))  # nothing was traded in the minute between
    minute.wait_for(2)
    first, second = minute.items
    assert (first.timestamp.second, first.timeframe, first.bar_kind) == (0, "1m", "regular")
    assert second.timestamp_ns - first.timestamp_ns == 120 * 10**9
    (late,) = updated.wait_for()
    assert (late.timestamp_ns, late.volume) == (first.timestamp_ns, Decimal(300))
    assert [event.timeframe for event in daily.wait_for()] == ["1d"]
    assert manager.latest_bar("AAPL") == second


def test_complaint_keys_in_logs(
    simulator: AlpacaSimulator, new_manager: NewManager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    manager = new_manager(api_key="AKQ7XZV2MWK9", secret_key="hG5tRw8YpLq2NvXz7Kb")
    manager.subscribe("quotes", "AAPL")
    with pytest.raises(StreamingError) as caught:
        manager.start()
    ours = [r for r in caplog.records if not (r.threadName or "").startswith("alpaca-simulator")]
    text = "\n".join([repr(caught.value), *(f"{r.getMessage()} {r.__dict__}" for r in ours)])
    assert "AKQ7XZ" not in text
    assert "hG5tRw" not in text


def test_complaint_one_connection_for_many_bots(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    """Strategies of one program share it; another program's does not break it, and waits."""
    manager = new_manager()
    bots = {f"S{number}": Recorder[Quote]() for number in range(20)}
    manager.subscribe("quotes", "AAPL")
    manager.start()
    threads = [
        threading.Thread(target=manager.on_quote, args=(seen, symbol))
        for symbol, seen in bots.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert simulator.wait_for(lambda s: len(s.sessions()[0].subscriptions) == 21)
    simulator.publish(*(quote(symbol) for symbol in bots))
    for symbol, seen in bots.items():
        assert [event.symbol for event in seen.wait_for()] == [symbol]
    assert simulator.attempts == 1
    other = new_manager()
    other.subscribe("quotes", "AAPL")
    with pytest.raises(StartTimeoutError, match="406"):
        other.start(timeout=1)
    last = other.status().last_error
    assert last is not None
    assert last.kind is FailureKind.CONNECTION_LIMIT
    assert manager.is_connected()
    assert manager.status().sessions == 1


def test_complaint_a_core_is_burnt_while_idle(new_manager: NewManager) -> None:
    """Nothing wanted, nothing to do: no connection, and threads that only wait."""
    manager: RealTimeStreamManager = new_manager()
    assert manager.start() is ConnectionState.IDLE
    before = time.process_time()
    assert not manager.wait_until_stopped(0.5)  # the time is what is measured here
    assert time.process_time() - before < 0.1
    assert manager.status().attempts == 0
