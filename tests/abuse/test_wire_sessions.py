"""Servers that are slow, forgetful, deaf or wrong at each point of a session."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from realtime_stream import (
    ConnectionState,
    DisconnectEvent,
    ErrorEvent,
    FailureKind,
    LifecycleState,
    Quote,
    ReconnectPolicy,
    RejectedEvent,
    StateChange,
    StreamingError,
    Trade,
)
from tests.integration import conftest as integration
from tests.support import START_NS, Recorder, quote, trade

if TYPE_CHECKING:
    from realtime_stream.simulator import AlpacaSimulator
    from tests.integration.conftest import NewManager

simulator = integration.simulator
new_manager = integration.new_manager

ONCE = ReconnectPolicy(initial=0.01, max_attempts=1)
STAGES = ["http", "greeting", "auth", "subscription"]


# --- slow at each step ---


@pytest.mark.parametrize("stage", STAGES)
def test_a_server_slow_at_one_step_but_within_the_deadline_is_waited_for(
    simulator: AlpacaSimulator, new_manager: NewManager, stage: Any
) -> None:
    simulator.faults.delay_at(stage, 0.3)
    manager = new_manager(connect_timeout=5, handshake_timeout=5, acknowledge_timeout=5)
    manager.subscribe("quotes", "AAPL")
    began = time.monotonic()
    assert manager.start() is ConnectionState.CONNECTED
    assert time.monotonic() - began >= 0.3
    assert simulator.attempts == 1


@pytest.mark.parametrize("stage", STAGES[:3])
def test_a_server_slow_beyond_the_deadline_is_left_and_found_once_it_is_quick(
    simulator: AlpacaSimulator, new_manager: NewManager, stage: Any
) -> None:
    simulator.faults.delay_at(stage, 30)
    manager = new_manager(connect_timeout=0.3, handshake_timeout=0.3)
    errors = Recorder[ErrorEvent]()
    manager.on_error(errors)
    manager.subscribe("quotes", "AAPL")
    manager.start(timeout=0)
    errors.wait_for()
    last = manager.status().last_error
    assert last is not None
    assert last.kind is FailureKind.TIMEOUT
    simulator.faults.clear()
    assert manager.wait_until_connected(10)


def test_acknowledgements_slower_than_three_deadlines_end_the_session(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    simulator.faults.delay_at("subscription", 30)
    manager = new_manager(acknowledge_timeout=0.1, reconnect=ONCE)
    manager.subscribe("quotes", "AAPL")
    with pytest.raises(StreamingError, match="not acknowledge"):
        manager.start()


# --- acknowledgements that get lost ---


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_lost_acknowledgement_is_asked_for_again(
    simulator: AlpacaSimulator, new_manager: NewManager, times: int
) -> None:
    simulator.faults.lose_acknowledgement(times)
    manager = new_manager(acknowledge_timeout=0.2)
    quotes = Recorder[Quote]()
    manager.on_quote(quotes, "AAPL")
    assert manager.start() is ConnectionState.CONNECTED
    asked = [m for m in simulator.received if m["action"] == "subscribe"]
    assert len(asked) == times + 1
    simulator.publish(quote())
    quotes.wait_for()
    assert simulator.attempts == 1


def test_after_three_repeats_without_an_answer_the_session_has_failed(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    simulator.faults.lose_acknowledgement(4)
    manager = new_manager(acknowledge_timeout=0.1)
    errors = Recorder[ErrorEvent]()
    manager.on_error(errors)
    manager.subscribe("quotes", "AAPL")
    assert manager.start() is ConnectionState.CONNECTED  # in the second session
    assert "not acknowledge" in str(errors.wait_for()[0].error)
    assert simulator.authenticated == 2


# --- the place of a dropped connection stays taken ---


def test_a_slot_that_stays_taken_after_a_drop_is_waited_for(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    simulator.faults.hold_slot(2)
    manager = new_manager()
    lost, errors, found = Recorder[DisconnectEvent](), Recorder[ErrorEvent](), Recorder[object]()
    manager.on_disconnect(lost)
    manager.on_error(errors)
    manager.on_connect(found)
    manager.subscribe("quotes", "AAPL")
    manager.start()
    simulator.drop(1006)
    errors.wait_until(lambda events: any("406" in str(event.error) for event in events))
    assert len(lost.wait_for()) == 1
    found.wait_for(2, timeout=20)
    assert simulator.auth_attempts == 3  # the first, the refused one, and one after its wait


# --- deaf ---


def test_a_server_that_ignores_pings_is_left(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager(ping_interval=0.1, ping_timeout=0.3)
    lost, found = Recorder[DisconnectEvent](), Recorder[object]()
    manager.on_disconnect(lost)
    manager.on_connect(found)
    manager.subscribe("quotes", "AAPL")
    manager.start()
    simulator.faults.ignore_pings()
    failure = lost.wait_for()[0].failure
    assert failure is not None
    assert failure.kind is FailureKind.CLOSED
    assert "ping" in failure.text
    simulator.faults.ignore_pings(False)
    found.wait_for(2)


def test_a_server_that_reads_slowly_gets_all_that_is_asked_for(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    symbols = [f"{a}{b}{c}" for a in letters for b in letters for c in "AB"]
    manager = new_manager(acknowledge_timeout=10)
    manager.subscribe("quotes", "AAPL")
    manager.start()
    simulator.faults.read_slowly(10_000)
    manager.subscribe("quotes", *symbols)
    assert simulator.wait_for(lambda s: len(s.sessions()[0].subscriptions) == 1353, 20)
    assert simulator.attempts == 1


# --- errors at every point ---

FATAL = {402, 408, 409, 411, 412}
ENDING = {401, 404, 406}  # and it is tried again


@pytest.mark.parametrize("stage", ["greeting", "auth"])
@pytest.mark.parametrize("code", [400, 401, 402, 404, 406, 407, 409, 410, 411, 500, 999])
def test_an_error_in_the_handshake_ends_the_session_with_its_code(
    simulator: AlpacaSimulator, new_manager: NewManager, stage: Any, code: int
) -> None:
    simulator.faults.error_at(stage, code, times=None)
    manager = new_manager(reconnect=ONCE)
    manager.subscribe("quotes", "AAPL")
    with pytest.raises(StreamingError, match=str(code)):
        manager.start()
    last = manager.status().last_error
    assert last is not None
    assert (last.code, last.retryable) == (code, code not in FATAL)


@pytest.mark.parametrize("stage", ["subscription", "data"])
@pytest.mark.parametrize("code", [400, 403, 405, 407, 410, 413, 500, 999])
def test_an_error_in_the_session_is_told_and_the_session_goes_on(
    simulator: AlpacaSimulator, new_manager: NewManager, stage: Any, code: int
) -> None:
    simulator.faults.error_at(stage, code)
    manager = new_manager()
    errors, quotes = Recorder[ErrorEvent](), Recorder[Quote]()
    manager.on_error(errors)
    manager.on_quote(quotes, "AAPL")
    manager.start()
    simulator.publish(quote())
    quotes.wait_for()
    assert str(code) in str(errors.wait_for()[0].error)
    assert simulator.attempts == 1


@pytest.mark.parametrize("stage", ["subscription", "data"])
@pytest.mark.parametrize("code", sorted(FATAL | ENDING))
def test_an_error_after_which_there_is_no_session_ends_it(
    simulator: AlpacaSimulator, new_manager: NewManager, stage: Any, code: int
) -> None:
    simulator.faults.error_at(stage, code)
    manager = new_manager()
    changes = Recorder[StateChange]()
    manager.on_state_change(changes)
    manager.subscribe("quotes", "AAPL")
    manager.start(timeout=0)
    assert simulator.wait_for(lambda s: any(x.subscriptions for x in s.sessions()))
    simulator.publish(quote())
    goal = LifecycleState.FAILED if code in FATAL else ConnectionState.RECONNECTING
    changes.wait_until(lambda items: any(change.current is goal for change in items))
    last = manager.status().last_error
    assert last is not None
    assert (last.code, last.retryable) == (code, code not in FATAL)


# --- data that are late, doubled, in disorder, or from another time ---


def test_a_skewed_clock_of_the_server_changes_no_time_and_ends_nothing(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    manager = new_manager()
    quotes = Recorder[Quote]()
    manager.on_quote(quotes, "AAPL")
    manager.start()
    for hours in (-48, 48):
        simulator.faults.skew(hours * 3600)
        simulator.publish(quote())
    before, after = (event.timestamp_ns for event in quotes.wait_for(2))
    assert (before, after) == (START_NS - 48 * 3600 * 10**9, START_NS + 48 * 3600 * 10**9)
    assert all(abs(event.received_ns - time.time_ns()) < 60 * 10**9 for event in quotes.items)
    assert manager.status().rejected == 0


def test_delayed_doubled_and_shuffled_trades_arrive_once_each(
    simulator: AlpacaSimulator, new_manager: NewManager
) -> None:
    simulator.faults.delay(0.2)
    simulator.faults.duplicate(2)
    simulator.faults.reorder(5)
    manager = new_manager()
    trades = Recorder[Trade]()
    rejected = Recorder[RejectedEvent]()
    manager.on_trade(trades, "AAPL")
    manager.on_rejected(rejected)
    manager.start()
    simulator.publish(*(trade(n=n) for n in range(10)))
    ids = [int(event.trade_id or 0) for event in trades.wait_for(10)]
    assert sorted(ids) == list(range(1, 11))
    assert ids != sorted(ids)
    assert {found.rule for found in rejected.wait_for(5)} == {"duplicate"}
    assert (manager.status().received, manager.status().invalid) == (15, 5)


@pytest.mark.parametrize(
    ("kind", "rejected"),
    [
        ("giant", 0),
        ("deep", 1),
        ("invalid_utf8", 1),
        ("wrong_types", 2),
        ("missing_fields", 3),
        ("nan", 1),
        ("infinity", 1),
        ("negative_price", 0),
        ("absurd_price", 0),
        ("unknown_type", 1),
        ("truncated", 1),
        ("not_an_array", 1),
        ("text_frame", 1),
        ("empty", 1),
    ],
)
def test_every_kind_of_garbage_the_simulator_knows_is_survived(
    simulator: AlpacaSimulator, new_manager: NewManager, kind: str, rejected: int
) -> None:
    manager = new_manager()
    quotes = Recorder[Quote]()
    manager.on_quote(quotes, "AAPL")
    manager.start()
    simulator.send_garbage(kind)
    simulator.publish(quote(bp=77))
    quotes.wait_until(lambda items: any(event.bid_price == 77 for event in items), 20)
    assert manager.status().rejected == rejected
    assert simulator.attempts == 1
